"""Decisions by consent in the audit trail: with every answer in which a Consent took part, and with
every single resource that one denied; told to the patient and to who audits, to nobody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.audit import keeping
from fhir_server.access.audit.entry import Decision, Entry
from fhir_server.access.audit.log import AuditLog, _parts
from tests.audit.trail import entries
from tests.consent.bricks import SENSITIVITY, Json, consent, observation, to
from tests.serving import Server, served


class Kept(AuditLog):
    """The log of the server that was started last."""

    last: Kept

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.folder: Path = given[0]
        Kept.last = self


@pytest.fixture(scope="module")
def server(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """D treats P1, who hides HIV with one Consent; P2 has recorded nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeping, "AuditLog", Kept)
        yield from begun(backend, tmp_path_factory.mktemp("audited"))


def begun(backend: str, folder: Path) -> Iterator[Server]:
    with served(backend, folder, open_=False) as started:
        started.headers = started.bearer("system/*.cruds")
        for id_ in ("p1", "p2"):
            started.put(f"Patient/{id_}", {"resourceType": "Patient", "id": id_})
        started.put("Practitioner/d", {"resourceType": "Practitioner", "id": "d"})
        started.put("Observation/v1", observation("v1", "2093-3", 6, "01"))
        started.put("Observation/h1", observation("h1", "25836-8", 5, "02"))
        young = {"security": [{"system": SENSITIVITY, "code": "ADOL"}]}
        kept = observation("h2", "25836-8", 5, "02") | {"meta": young}
        started.put("Observation/h2", kept)
        other = observation("o2", "2093-3", 7, "03", subject=to("Patient/p2"))
        started.put("Observation/o2", other)
        started.put("Consent/c1", consent())
        started.user("d", "family-doctor", "Practitioner/d")
        started.user("p", "patient", "Patient/p1")
        started.user("boss", "admin", "Practitioner/d")
        for patient in ("p1", "p2"):
            started.relation("d", patient)
        yield started


def doctor(server: Server, method: str, url: str, **headers: str) -> int:
    by = server.bearer("user/*.cruds", user="d") | headers
    return server.send(method, url, headers=by).status_code


def lines(server: Server) -> list[Json]:
    """All lines, with the decisions that were left for after the answers."""
    server.run(Kept.last.settle())
    return [line for line in entries(Kept.last.folder) if line["n"]]


def fresh(server: Server, method: str, url: str, **headers: str) -> list[Json]:
    """The lines of one request of D."""
    before = len(lines(server))
    doctor(server, method, url, **headers)
    return lines(server)[before:]


PERMIT = "Consent/c1 provision permit, provision.provision[0] deny"


@pytest.mark.parametrize(
    "url", ["Observation?patient=p1", "Observation/v1", "Patient/p1/$everything", "Observation"]
)
def test_an_answer_names_the_consents_that_let_it_through(server: Server, url: str) -> None:
    [line] = fresh(server, "GET", url)
    assert len(line["decisions"]) == 1, "P2 has recorded nothing"
    patient, outcome, rule, _, purpose, _, consents = line["decisions"][0][:7]
    assert (patient, outcome, purpose, consents) == ("p1", "permit", "TREAT", [["c1", 1]])
    assert rule.startswith("Consent/c1 provision permit, provision.provision[0] deny")


@pytest.mark.parametrize("url", ["Patient/p2", "Observation/o2", "Practitioner/d", "metadata"])
def test_no_consent_no_decision(server: Server, url: str) -> None:
    for line in fresh(server, "GET", url):
        assert "decisions" not in line


@pytest.mark.parametrize(
    ("method", "url"),
    [("GET", "Observation/h1"), ("HEAD", "Observation/h1"), ("GET", "Observation/h1/_history/1")],
)
def test_a_denial_has_a_line_of_its_own(server: Server, method: str, url: str) -> None:
    first, second = fresh(server, method, url)
    assert "decisions" not in first and first["status"] == 404 and "patients" not in first
    assert (second["interaction"], second["request"]) == ("consent-decision", first["request"])
    [decision] = second["decisions"]
    assert decision[:2] == ["p1", "deny"] and decision[6] == [["c1", 1]]
    assert decision[2] == "Consent/c1 provision.provision[0] deny"


WRITES = [
    ("PUT", {"json": observation("h1", "2093-3", 1, "09")}),
    ("DELETE", {}),
    (
        "PATCH",
        {
            "json": [{"op": "add", "path": "/status", "value": "amended"}],
            "headers": {"content-type": "application/json-patch+json"},
        },
    ),
]


@pytest.mark.parametrize(("method", "given"), WRITES)
def test_so_has_a_write(server: Server, method: str, given: Json) -> None:
    before = len(lines(server))
    by = server.bearer("user/*.cruds", user="d") | given.get("headers", {})
    server.send(method, "Observation/h1", **given | {"headers": by})
    _, second = lines(server)[before:]
    assert second["decisions"][0][2] == "Consent/c1 provision.provision[0] deny"


def test_what_was_never_there_has_none(server: Server) -> None:
    assert len(fresh(server, "GET", "Observation/u1")) == 1


def events(server: Server, **by: str) -> list[Json]:
    server.run(Kept.last.settle())
    url = "AuditEvent?subtype=AuthZ-Consent&patient=p1&_count=200"
    answer = server.get(url, headers=server.bearer("user/*.cruds", **by))
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", ())]


def test_the_patient_and_who_audits_see_them(server: Server) -> None:
    for url in ("Observation?patient=p1", "Observation/h1"):
        doctor(server, "GET", url)
    for user in ("p", "boss"):
        denied = [e for e in events(server, user=user) if e["outcome"] == "4"]
        assert denied, user
        text = str(denied[0])
        assert "Observation/h1" in text and "Consent/c1/_history/1" in text
        assert denied[0]["outcomeDesc"] == "deny: Consent/c1 provision.provision[0] deny"
        permitted = [e for e in events(server, user=user) if e["outcome"] == "0"]
        assert any(e["outcomeDesc"].startswith(f"permit: {PERMIT}") for e in permitted)


def test_who_was_denied_sees_none(server: Server) -> None:
    doctor(server, "GET", "Observation/h1")
    by = server.bearer("user/*.cruds", user="d")
    hidden = server.get("AuditEvent?entity=Observation/h1", headers=by)
    unused = server.get("AuditEvent?entity=Observation/u1", headers=by)
    assert hidden.status_code == unused.status_code
    assert hidden.text.replace("h1", "u1") == unused.text or not hidden.json().get("entry")


def test_what_may_be_kept_from_the_family_is_for_who_audits(server: Server) -> None:
    """Those who act for a minor would learn from the denial that there is something."""
    doctor(server, "GET", "Observation/h2")
    assert "Observation/h2" in str(events(server, user="boss"))
    assert "Observation/h2" not in str(events(server, user="p"))


def test_outcome_finds_denials(server: Server) -> None:
    doctor(server, "GET", "Observation/h1")
    server.run(Kept.last.settle())
    by = server.bearer("user/*.cruds", user="boss")
    url = "AuditEvent?outcome=4&subtype=AuthZ-Consent&patient=p1"
    found = server.get(url, headers=by).json()
    assert found["total"] >= 1 and "deny: " in str(found)


def test_in_plain_words_a_request_is_one_line(server: Server) -> None:
    fresh(server, "GET", "Observation/v1")
    by = server.bearer("user/*.cruds", user="p")
    answer = server.get("Patient/p1/$access-log?count=1", headers=by).json()
    [entry] = [p["part"] for p in answer["parameter"] if p["name"] == "entry"]
    said = {part["name"]: part for part in entry}
    assert said["what"]["valueString"] == "read: measurements and results"
    assert said["consent"]["valueReference"]["reference"] == "Consent/c1/_history/1"


def test_a_denial_in_plain_words(server: Server) -> None:
    doctor(server, "GET", "Observation/h1")
    server.run(Kept.last.settle())
    by = server.bearer("user/*.cruds", user="p")
    answer = server.get("Patient/p1/$access-log?count=1", headers=by).json()
    text = next(p["valueString"] for p in answer["parameter"] if p["name"] == "text")
    assert "d (family doctor): decision by your consents: measurements and results" in text
    assert "[refused]" in text


@pytest.mark.parametrize(
    ("provision", "outcome", "rule"),
    [
        ({"type": "deny"}, "deny", "Consent/c1 provision deny"),
        (
            {"type": "permit", "provision": [{"type": "deny", "purpose": [{"code": "x"}]}]},
            "deny",
            "Consent/c1 provision permit, provision.provision[0] deny",
        ),
        (
            {"type": "permit", "period": {"end": "2020-01-01"}},
            "",
            "",
        ),
    ],
    ids=["all", "what nobody knows denies", "over"],
)
def test_what_a_search_is_told(server: Server, provision: Json, outcome: str, rule: str) -> None:
    kept = server.get("Consent/c1").json()
    try:
        server.put("Consent/c1", consent(provision=provision))
        [line] = fresh(server, "GET", "Observation?patient=p1")
        if not outcome:
            assert "decisions" not in line
        else:
            [decision] = line["decisions"]
            assert decision[1:3] == [outcome, rule]
    finally:
        server.put("Consent/c1", {n: v for n, v in kept.items() if n != "meta"})


def test_lines_of_many_patients_are_cut(server: Server) -> None:
    ids = tuple(f"p{n:04}" for n in range(2500))
    made = tuple(Decision(id_, "permit", "Consent/c provision permit") for id_ in ids)
    whole = Entry(1, "r", "search-type", "GET", 200, patients=ids[:1500], decisions=made)
    parts = list(_parts(whole))
    assert [d for part in parts for d in part.decisions] == list(made)
    assert [p for part in parts for p in part.patients] == list(ids[:1500])
    assert [part.interaction for part in parts] == ["search-type"] * 2 + ["consent-decision"]
