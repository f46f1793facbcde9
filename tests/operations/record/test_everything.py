"""$everything: the record, what it refers to, its filters, pages and what stays hidden."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving import BASE, Server, issue

SYSTEM = "system/*.cruds"
PATIENT = "patient/*.rs"


def resources() -> list[dict[str, Any]]:
    """The record of p, a stranger q, and what they refer to."""
    p, q = {"reference": "Patient/p"}, {"reference": "Patient/q"}
    code = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
    made: list[dict[str, Any]] = [
        {"resourceType": "Organization", "id": "o", "name": "Ward"},
        {"resourceType": "Organization", "id": "lonely", "name": "Nobody's"},
        {"resourceType": "Practitioner", "id": "d", "name": [{"family": "Doc"}]},
        {"resourceType": "Practitioner", "id": "other"},
        {"resourceType": "Medication", "id": "m", "code": {"text": "aspirin"}},
        {"resourceType": "Location", "id": "l", "name": "Room"},
        {
            "resourceType": "Patient",
            "id": "p",
            "managingOrganization": {"reference": "Organization/o"},
        },
        {"resourceType": "Patient", "id": "q"},
        {
            "resourceType": "Encounter",
            "id": "e",
            "status": "finished",
            "class": {"code": "AMB"},
            "subject": p,
            "period": {"start": "2020-03-01", "end": "2020-03-04"},
            "location": [{"location": {"reference": "Location/l"}}],
        },
        {
            "resourceType": "MedicationRequest",
            "id": "r",
            "status": "active",
            "intent": "order",
            "subject": p,
            "medicationReference": {"reference": "Medication/m"},
            "encounter": {"reference": "Encounter/e"},
        },
        {"resourceType": "Condition", "id": "c", "subject": p},
    ]
    made += [
        {
            "resourceType": "Observation",
            "id": f"o{n}",
            "status": "final",
            "code": code,
            "subject": p,
            "effectiveDateTime": f"20{n:02}-05-01",
            "performer": [{"reference": "Practitioner/d"}, {"reference": f"{BASE}/Organization/o"}],
        }
        for n in range(10, 22)
    ]
    made.append(
        {
            "resourceType": "Observation",
            "id": "strange",
            "status": "final",
            "code": code,
            "subject": q,
            "performer": [{"reference": "Practitioner/other"}],
        }
    )
    return made


def load(server: Server) -> None:
    entries = [
        {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}}
        for r in resources()
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = server.post("", bundle)
    assert answer.status_code == 200, answer.text


OWN = {"Patient/p", "Encounter/e", "MedicationRequest/r", "Condition/c"} | {
    f"Observation/o{n}" for n in range(10, 22)
}
SUPPORT = {"Organization/o", "Practitioner/d", "Medication/m", "Location/l"}


def keys(bundle: dict[str, Any]) -> list[str]:
    return [
        f"{e['resource']['resourceType']}/{e['resource']['id']}" for e in bundle.get("entry", [])
    ]


def ask(server: Server, url: str, **options: Any) -> dict[str, Any]:
    answer = server.get(url, **options)
    assert answer.status_code == 200, answer.text
    bundle: dict[str, Any] = answer.json()
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "searchset")
    return bundle


def pages(server: Server, url: str) -> list[list[str]]:
    found = []
    following: str | None = url
    while following:
        bundle = ask(server, following)
        found.append(keys(bundle))
        links = {link["relation"]: link["url"] for link in bundle["link"]}
        following = links.get("next")
    return found


def test_c69_the_record_and_what_it_refers_to_in_one_bundle(server: Server) -> None:
    load(server)
    bundle = ask(server, "Patient/p/$everything")
    found = keys(bundle)
    assert found[0] == "Patient/p"
    assert len(found) == len(set(found)) == bundle["total"]
    assert set(found) == OWN | SUPPORT
    assert {e["search"]["mode"] for e in bundle["entry"]} == {"match"}
    for entry, key in zip(bundle["entry"], found, strict=True):
        assert entry["fullUrl"] == f"{BASE}/{key}"
        assert entry["resource"] == server.get(key).json()
    assert [link["relation"] for link in bundle["link"]] == ["self"]
    assert server.post("Patient/p/$everything").json() == bundle


def test_c69_filters(server: Server) -> None:
    load(server)
    everything = "Patient/p/$everything"
    dated = ask(server, f"{everything}?start=2015-01-01&end=2018-12-31")
    observations = {f"Observation/o{n}" for n in range(15, 19)}
    undated = {"Patient/p", "MedicationRequest/r", "Condition/c"}
    assert set(keys(dated)) == observations | undated | SUPPORT - {"Location/l"}
    # the period of the encounter reaches into the range
    assert "Encounter/e" in keys(ask(server, f"{everything}?start=2020-03-03"))
    assert "Encounter/e" not in keys(ask(server, f"{everything}?start=2020-03-05"))
    assert set(keys(ask(server, f"{everything}?_type=Condition,Encounter"))) == {
        "Condition/c",
        "Encounter/e",
    }
    some = ask(server, f"{everything}?_type=Condition&_type=Practitioner")
    assert keys(some) == ["Condition/c", "Practitioner/d"]
    before = ask(server, everything)["entry"]
    stamp = max(e["resource"]["meta"]["lastUpdated"] for e in before)
    changed = server.get("Practitioner/d").json() | {"active": True}
    server.put("Practitioner/d", changed)
    newer = ask(server, everything, params={"_since": stamp})
    assert "Practitioner/d" in keys(newer)
    server.put("Condition/c", server.get("Condition/c").json() | {"recordedDate": "2020-01-01"})
    late = server.get("Condition/c").json()["meta"]["lastUpdated"]
    assert keys(ask(server, everything, params={"_since": late})) == ["Condition/c"]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 17, 19, 20, 21, 1000])
def test_c69_pages_are_the_whole(server: Server, count: int) -> None:
    load(server)
    found = pages(server, f"Patient/p/$everything?_count={count}")
    flat = [key for page in found for key in page]
    assert len(flat) == len(set(flat)) and set(flat) == OWN | SUPPORT
    assert all(len(page) == count for page in found[:-1]) and 0 < len(found[-1]) <= count
    first = ask(server, f"Patient/p/$everything?_count={count}&_total=accurate")
    assert first["total"] == len(OWN | SUPPORT)


def test_c69_pages_are_as_of_one_point(server: Server) -> None:
    load(server)
    whole = [k for page in pages(server, "Patient/p/$everything?_count=4") for k in page]
    bundle = ask(server, "Patient/p/$everything?_count=4")
    url = next(link["url"] for link in bundle["link"] if link["relation"] == "next")
    server.create({"resourceType": "Condition", "subject": {"reference": "Patient/p"}})
    server.put("Organization/o", {"resourceType": "Organization", "id": "o", "name": "New"})
    server.delete("Observation/o10")
    rest = [key for page in pages(server, url) for key in page]
    assert keys(bundle) + rest == [key for key in whole if key != "Observation/o10"]


def test_a_link_belongs_to_its_request(secured: Server) -> None:
    secured.headers = secured.bearer(SYSTEM)
    load(secured)
    bundle = ask(secured, "Patient/p/$everything?_count=4")
    url = next(link["url"] for link in bundle["link"] if link["relation"] == "next")
    assert "p=" not in url and "Observation" not in url
    assert secured.get(url[:-3] + "abc").status_code == 400
    assert secured.get(url.replace("Patient/p", "Patient/q")).status_code == 400
    patient = secured.bearer(PATIENT, patient="p")
    assert secured.get(url, headers=patient).status_code == 404


def test_only_what_the_caller_may_see(secured: Server) -> None:
    secured.headers = secured.bearer(SYSTEM)
    load(secured)
    own = secured.bearer(PATIENT, patient="p")
    assert set(keys(ask(secured, "Patient/p/$everything", headers=own))) == OWN | SUPPORT
    assert set(keys(ask(secured, "Patient/$everything", headers=own))) == OWN | SUPPORT
    hidden = secured.get("Patient/q/$everything", headers=own)
    absent = secured.get("Patient/q-absent/$everything", headers=own)
    assert hidden.status_code == absent.status_code == 404
    assert hidden.text.replace("Patient/q", "X") == absent.text.replace("Patient/q-absent", "X")
    few = secured.bearer("patient/Patient.rs patient/Condition.rs", patient="p")
    found = ask(secured, "Patient/p/$everything?_total=accurate&_count=5", headers=few)
    assert (keys(found), found["total"]) == (["Patient/p", "Condition/c"], 2)
    none = secured.bearer("patient/Condition.rs", patient="p")
    assert secured.get("Patient/p/$everything", headers=none).status_code == 403
    filtered = secured.bearer(
        "patient/Patient.rs patient/Observation.rs?date=ge2020-01-01", patient="p"
    )
    assert set(keys(ask(secured, "Patient/p/$everything", headers=filtered))) == {
        "Patient/p",
        "Observation/o20",
        "Observation/o21",
    }


def test_what_is_hidden_between_pages_is_not_shown(secured: Server) -> None:
    secured.headers = secured.bearer(SYSTEM)
    load(secured)
    own = secured.bearer(PATIENT, patient="p")
    bundle = ask(secured, "Patient/p/$everything?_count=3", headers=own)
    url = next(link["url"] for link in bundle["link"] if link["relation"] == "next")
    moved = secured.get("Observation/o15").json() | {"subject": {"reference": "Patient/q"}}
    assert secured.put("Observation/o15", moved).status_code == 200
    secured.headers = own
    rest = {key for page in pages(secured, url) for key in page}
    assert rest == (OWN | SUPPORT) - set(keys(bundle)) - {"Observation/o15"}


def test_an_encounter(server: Server) -> None:
    load(server)
    found = keys(ask(server, "Encounter/e/$everything"))
    assert found[0] == "Encounter/e" and len(found) == len(set(found))
    assert set(found) == {
        "Encounter/e",
        "MedicationRequest/r",
        "Patient/p",
        "Location/l",
        "Medication/m",
    }
    flat = [k for page in pages(server, "Encounter/e/$everything?_count=2") for k in page]
    assert flat == found
    assert server.get("Encounter/none/$everything").status_code == 404


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("_type=Nothing", "_type"),
        ("_count=0", "_count"),
        ("_count=-1", "_count"),
        ("_since=yesterday", "_since"),
        ("start=2020-13-01", "start"),
        ("start=2020&end=2019", "start"),
        ("_total=some", "_total"),
        ("_cursor=abc", "_cursor"),
        ("patient=p", "patient"),
    ],
)
def test_what_is_refused(server: Server, query: str, names: str) -> None:
    load(server)
    answer = server.get(f"Patient/p/$everything?{query}")
    assert answer.status_code == 400
    assert names in issue(answer)["diagnostics"]


def test_without_a_patient_the_type_level_is_refused(server: Server) -> None:
    assert server.get("Patient/$everything").status_code == 400
    assert server.get("Encounter/$everything").status_code == 400
    assert server.get("Observation/x/$everything").status_code == 400
