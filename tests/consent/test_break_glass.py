"""L64, L65: the glass is broken for one patient, to read, for an hour, and it is told; and rights
that end, end with the next request.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.consent.worlds import SENSITIVITY, Json, consent, observation, to
from tests.serving import BACKENDS, Server, served

BTG = {"x-purpose-of-use": "BTG"}
WHY = {"x-break-glass-reason": "unconscious, unknown medication"}
BREAK = BTG | WHY


@pytest.fixture(params=list(BACKENDS))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path, open_=False) as started:
        begin(started)
        yield started


def begin(server: Server) -> None:
    """D treats P1, who hides HIV; D has nothing to do with P2."""
    server.headers = server.bearer("system/*.cruds")
    for id_ in ("p1", "p2"):
        server.put(f"Patient/{id_}", {"resourceType": "Patient", "id": id_})
    server.put("Practitioner/d", {"resourceType": "Practitioner", "id": "d"})
    server.put("Observation/v1", observation("v1", "2093-3", 6, "01"))
    server.put("Observation/h1", observation("h1", "25836-8", 5, "02"))
    server.put("Observation/o2", observation("o2", "2093-3", 7, "03", subject=to("Patient/p2")))
    server.put("Consent/c1", consent())
    server.user("d", "family-doctor", "Practitioner/d")
    server.user("p", "patient", "Patient/p1")
    server.relation("d", "p1")


def doctor(server: Server, **more: str) -> Json:
    return {"headers": server.bearer("user/*.cruds", user="d") | more}


def found(server: Server, url: str, **options: Json) -> set[str]:
    answer = server.get(url, **options)
    assert answer.status_code == 200, answer.text
    entries = answer.json().get("entry", ())
    return {e["resource"]["id"] for e in entries if e["search"]["mode"] == "match"}


def test_l64_the_hidden_is_seen_by_who_breaks_the_glass(server: Server) -> None:
    url = "Observation?patient=p1"
    assert found(server, url, **doctor(server)) == {"v1"}
    assert found(server, url, **doctor(server, **BREAK)) == {"v1", "h1"}
    assert found(server, url, **doctor(server)) == {"v1"}
    assert server.get("Observation/h1", **doctor(server)).status_code == 404
    assert server.get("Observation/h1", **doctor(server, **BREAK)).status_code == 200
    assert server.send("HEAD", "Observation/h1", **doctor(server, **BREAK)).status_code == 200


@pytest.mark.parametrize(
    "url",
    [
        "Patient/p2",
        "Observation?subject=Patient/p2",
        "Patient?_id=p2",
        "Patient/p2/Observation",
        "Patient/p2/$everything",
        "Observation/$lastn?patient=p2&code=2093-3",
        "Observation?subject:Patient=p2",
    ],
)
def test_l64_without_a_relationship(server: Server, url: str) -> None:
    """Also an operation. It is for that patient alone."""
    before = server.get(url, **doctor(server))
    assert before.status_code == 404 or not before.json().get("entry")
    answer = server.get(url, **doctor(server, **BREAK))
    assert answer.status_code == 200
    assert '"id":"p2"' in answer.text or '"id":"o2"' in answer.text
    assert server.get("Observation/o2", **doctor(server, **BREAK)).status_code == 200
    assert server.get("Observation/v1", **doctor(server, **BREAK)).status_code == 404


def test_l64_each_patient_needs_an_act(server: Server) -> None:
    assert server.get("Observation/o2", **doctor(server, **BREAK)).status_code == 400
    assert server.get("Patient/p1", **doctor(server, **BREAK)).status_code == 200
    assert server.get("Observation/o2", **doctor(server, **BREAK)).status_code == 404
    assert found(server, "Observation?patient=p1", **doctor(server, **BREAK)) == {"v1", "h1"}
    acts = server.run(server.domain.store.ledger.scan("break-glass"))
    assert [(a.value["user"], a.value["patient"]) for a in acts] == [("d", "p1")]
    assert acts[0].value["until"] - acts[0].value["from"] == 3_600_000_000
    assert acts[0].value["reason"] == WHY["x-break-glass-reason"]


@pytest.mark.parametrize(
    "url",
    [
        "Observation",
        "Observation?code=1",
        "Observation?patient=p1,p2",
        "Patient/p1/$everything?patient=p2",
        "",
        "Patient",
        "Observation?patient=p1&subject=p2",
        "Observation?subject=Group/p1",
    ],
)
def test_l64_it_is_one_patient(server: Server, url: str) -> None:
    assert server.get(url, **doctor(server, **BREAK)).status_code == 400
    assert not server.run(server.domain.store.ledger.scan("break-glass"))


@pytest.mark.parametrize(
    "why", [{}, {"x-break-glass-reason": "  "}, {"x-break-glass-reason": "x" * 501}]
)
def test_l64_without_a_reason(server: Server, why: dict[str, str]) -> None:
    assert server.get("Patient/p1", **doctor(server, **BTG, **why)).status_code == 400


@pytest.mark.parametrize("role", ["patient", "researcher", "admin", "ai-service"])
def test_l64_without_the_right(server: Server, role: str) -> None:
    server.user("x", role, "Patient/p2" if role == "patient" else "Practitioner/d")
    headers = server.bearer("user/*.cruds", user="x") | BREAK
    assert server.get("Patient/p1", headers=headers).status_code == 403
    alone = server.bearer("system/*.cruds") | BREAK
    assert server.get("Patient/p1", headers=alone).status_code == 403


@pytest.mark.parametrize("role", ["consultant", "specialist", "nurse"])
def test_l64_who_has_the_right(server: Server, role: str) -> None:
    server.user("x", role, "Practitioner/d")
    headers = server.bearer("user/*.rs", user="x") | BREAK
    assert server.get("Patient/p2", headers=headers).status_code == 200


def test_l64_it_is_for_reading(server: Server) -> None:
    options = doctor(server, **BREAK)
    assert (
        server.put("Observation/h1", observation("h1", "1", 1, "09"), **options).status_code == 403
    )
    assert server.delete("Patient/p1", **options).status_code == 403
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": []}
    assert server.post("", bundle, **options).status_code == 403


def test_l64_scopes_bind_it(server: Server) -> None:
    headers = server.bearer("user/Patient.rs", user="d") | BREAK
    assert server.get("Patient/p1", headers=headers).status_code == 200
    assert server.get("Observation?patient=p1", headers=headers).status_code == 403


def test_l64_it_ends(server: Server) -> None:
    url, ledger = "Observation?patient=p1", server.domain.store.ledger
    assert found(server, url, **doctor(server, **BREAK)) == {"v1", "h1"}
    [act] = server.run(ledger.scan("break-glass"))
    past = act.value | {"until": act.value["from"]}
    assert server.run(ledger.cas("break-glass", act.key, past, act.revision))
    assert server.get("Observation/h1", **doctor(server, **BREAK)).status_code == 400
    assert found(server, url, **doctor(server, **BREAK)) == {"v1", "h1"}
    [again] = server.run(ledger.scan("break-glass"))
    assert again.value["until"] > act.value["until"]
    told = server.get("Communication?patient=p1", headers=server.bearer("user/*.rs", user="p"))
    assert told.json()["total"] == 2


NOT_EVEN_THEN = {
    "type": "permit",
    "provision": [
        {
            "type": "deny",
            "purpose": [
                {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "BTG"}
            ],
            "securityLabel": [{"system": SENSITIVITY, "code": "HIV"}],
        }
    ],
}


@pytest.mark.parametrize(
    ("more", "seen"),
    [
        ({"provision": NOT_EVEN_THEN}, {"v1"}),
        ({"provision": {"type": "deny"}}, {"v1", "h1"}),
        (
            {
                "policy": [{"uri": "https://profiles.ihe.net/ITI/PCF/Policy-deny"}],
                "provision": {"type": "deny"},
            },
            set(),
        ),
        (
            {
                "policy": [{"uri": "https://profiles.ihe.net/ITI/PCF/Policy-break-glass-only"}],
                "provision": {"type": "deny"},
            },
            {"v1", "h1"},
        ),
    ],
    ids=["not even then", "deny", "policy deny", "policy break-glass-only"],
)
def test_l64_what_a_patient_says(server: Server, more: Json, seen: set[str]) -> None:
    server.put("Consent/c1", consent(**more))
    assert found(server, "Observation?patient=p1", **doctor(server, **BREAK)) == seen
    hidden = server.get("Observation/h1", **doctor(server, **BREAK)).status_code
    assert hidden == (200 if "h1" in seen else 404)


def test_l64_the_patient_is_told_at_once(server: Server) -> None:
    server.get("Observation?patient=p1", **doctor(server, **BREAK))
    server.get("Observation?patient=p1", **doctor(server, **BREAK))
    patient = server.bearer("user/*.rs", user="p")
    [entry] = server.get("Communication?patient=p1", headers=patient).json()["entry"]
    told = entry["resource"]
    assert told["recipient"] == [to("Patient/p1")] and told["sender"] == to("Practitioner/d")
    assert "emergency" in told["payload"][0]["contentString"] and "unconscious" not in str(told)


@pytest.mark.parametrize("person", ["", "Practitioner/d"])
def test_l64_it_is_reviewed(server: Server, person: str) -> None:
    """By administrators, who see nothing else of the patient, nor need be in the record."""
    server.get("Observation?patient=p1", **doctor(server, **BREAK))
    task = {"resourceType": "Task", "status": "draft", "intent": "order", "for": to("Patient/p1")}
    server.create(task)
    server.user("boss", "admin", person)
    options: Json = {"headers": server.bearer("user/*.cruds", user="boss")}
    [entry] = server.get("Task", **options).json()["entry"]
    review = entry["resource"]
    said = {i["type"]["text"]: i["valueString"] for i in review["input"]}
    assert said["patient"] == "p1" and said["reason"] == WHY["x-break-glass-reason"]
    closed = server.put(f"Task/{review['id']}", review | {"status": "completed"}, **options)
    assert closed.status_code == 200, closed.text
    assert server.get(f"Task/{review['id']}").json()["for"] == to("Patient/p1")
    assert server.get("Patient/p1", **options).status_code in (403, 404)
    event = server.get("AuditEvent?purpose=BTG&patient=p1", **options).json()
    assert event["total"] >= 1
    said = [e["resource"].get("outcomeDesc") for e in event["entry"]]
    assert f"permit: break-glass: {WHY['x-break-glass-reason']}" in said
    assert "Consent/c1/_history/1" in str(event)


def test_l64_a_patient_who_is_not_there(server: Server) -> None:
    """Answers as everything that is not there, and nobody is told."""
    assert server.get("Patient/p9", **doctor(server, **BREAK)).status_code == 404
    assert not server.run(server.domain.store.ledger.scan("break-glass"))


def test_l64_is_no_job(server: Server) -> None:
    headers = doctor(server, **BREAK, prefer="respond-async")
    assert server.get("Patient/p1", **headers).status_code == 200


def test_a_domain_may_have_none_of_it(tmp_path: Path) -> None:
    with served("memory", tmp_path, open_=False, break_glass_minutes=0) as server:
        begin(server)
        assert server.get("Patient/p1", **doctor(server, **BREAK)).status_code == 403


def test_l65_what_ends_ends_with_the_next_request(server: Server) -> None:
    """The role, the relationship, and the consent."""
    options = doctor(server)
    url, identities = "Observation/v1", server.domain.identities
    assert server.get(url, **options).status_code == 200
    server.put("Consent/c1", consent(provision={"type": "permit", "period": {"end": "2024-02-01"}}))
    assert server.get(url, **options).status_code == 200  # nothing is in force: the domain's rule
    server.put("Consent/c1", consent(provision={"type": "deny"}))
    assert server.get(url, **options).status_code == 404
    server.put("Consent/c1", consent())
    assert server.get(url, **options).status_code == 200
    server.run(identities.relations.end("d", "p1"))
    assert server.get(url, **options).status_code == 404
    server.relation("d", "p1")
    assert server.get(url, **options).status_code == 200
    assert server.get(url, **doctor(server, **BREAK)).status_code == 400
    assert server.get("Patient/p1", **doctor(server, **BREAK)).status_code == 200
    server.run(identities.users.change("d", role="researcher"))
    assert server.get(url, **options).status_code == 403
    assert server.get("Patient/p1", headers=options["headers"] | BREAK).status_code == 403


def test_others_who_treat_the_patient_are_not_told(server: Server) -> None:
    """By a message to the patient, or the review, they would know that something is withheld."""
    server.get("Observation?patient=p1", **doctor(server, **BREAK))
    system = {"headers": server.bearer("system/*.rs")}
    server.user("pia", "patient", "Patient/p1")
    own = {"headers": server.bearer("patient/*.rs", user="pia", patient="p1")}
    server.user("other", "consultant", "Practitioner/other")
    server.relation("other", "p1")
    asked = ("Task", "Communication", "_history", "Communication?patient=p1&_summary=count")
    for user in ("d", "other"):
        options: Json = {"headers": server.bearer("user/*.cruds", user=user)}
        for url in (*asked, "Patient/p1/$everything"):
            assert "break-glass" not in server.get(url, **options).text, (user, url)
        for type_ in ("Task", "Communication"):
            [entry] = server.get(type_, **system).json()["entry"]
            url, body = f"{type_}/{entry['resource']['id']}", entry["resource"]
            assert server.get(url, **options).status_code == 404
            assert server.put(url, body | {"status": "completed"}, **options).status_code == 405
            made = server.post(type_, {n: v for n, v in body.items() if n != "id"}, **options)
            assert made.status_code == 403, made.text
    assert server.get("Communication?patient=p1", **own).json()["total"] == 1
