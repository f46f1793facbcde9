"""Writes by a reader from whom something is hidden (ruling 4: they work on the masked view)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.consent.worlds import SENSITIVITY, Json, Twin, to, twins
from tests.serving import BACKENDS

PATCHES = {"content-type": "application/json-patch+json"}


@pytest.fixture(params=list(BACKENDS))
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Twin, Twin]]:
    with twins(request.param, tmp_path) as both:
        yield both


def whole(twin: Twin, name: str) -> Json:
    """As the hospital sees it."""
    found: Json = twin.server.get(name, headers=twin.system).json()
    return found


def test_a_put_keeps_what_its_author_could_not_see(pair: tuple[Twin, Twin]) -> None:
    for twin in pair:
        report = twin.server.get("DiagnosticReport/v1", headers=twin.doctor).json()
        assert "text" not in report and report["result"] == [to("Observation/v2")]
        report["conclusion"] = "all is well"
        answer = twin.server.put("DiagnosticReport/v1", report, headers=twin.doctor)
        assert answer.status_code == 200, answer.text
        assert answer.json()["result"] == [to("Observation/v2")]
    stored = whole(pair[0], "DiagnosticReport/v1")
    assert stored["conclusion"] == "all is well" and "viral load" in stored["text"]["div"]
    assert {r["reference"] for r in stored["result"]} == {"Observation/v2", "Observation/h1"}


def test_a_patch_keeps_it_too(pair: tuple[Twin, Twin]) -> None:
    operations = [{"op": "add", "path": "/title", "value": "Work"}]
    for twin in pair:
        answer = twin.server.send(
            "PATCH", "List/l", headers={**twin.doctor, **PATCHES}, json=operations
        )
        assert answer.status_code == 200, answer.text
        assert [e["item"] for e in answer.json()["entry"]] == [to("Observation/v2")]
    entries = whole(pair[0], "List/l")["entry"]
    assert [e["item"]["reference"] for e in entries] == ["Observation/v2", "Condition/h2"]


def test_the_same_again_makes_no_version(pair: tuple[Twin, Twin]) -> None:
    for twin in pair:
        report = twin.server.get("DiagnosticReport/v5", headers=twin.doctor).json()
        answer = twin.server.put("DiagnosticReport/v5", report, headers=twin.doctor)
        assert answer.status_code == 200 and answer.headers["etag"] == 'W/"1"', answer.text


def test_l67_labels_only_rise_and_subjects_stay(pair: tuple[Twin, Twin]) -> None:
    twin = pair[0]
    hidden = whole(twin, "Observation/h1")
    assert {(s["system"], s["code"]) for s in hidden["meta"]["security"]} >= {(SENSITIVITY, "HIV")}
    seen = twin.server.get("Observation/v2", headers=twin.doctor).json()
    moved = {**seen, "subject": to("Patient/p2")}
    assert twin.server.put("Observation/v2", moved, headers=twin.doctor).status_code == 403
    labels = [{"system": SENSITIVITY, "code": "TBOO"}]
    marked = {**seen, "meta": {**seen["meta"], "security": labels}}
    assert twin.server.put("Observation/v2", marked, headers=twin.system).status_code == 200
    lowered = {**seen, "meta": {"security": []}}
    del lowered["meta"]
    kept = twin.server.put("Observation/v2", lowered, headers=twin.patient)
    assert kept.status_code in (403, 405)
    again = twin.server.put("Observation/v2", lowered, headers=twin.system)
    assert again.json()["meta"]["security"][0]["code"] == "TBOO"
    for resource in (
        {"resourceType": "Consent", "status": "active", "patient": to("Patient/p1")},
        {"resourceType": "AuditEvent", "recorded": "2024-01-01T00:00:00Z"},
    ):
        type_ = resource["resourceType"]
        assert twin.server.post(str(type_), resource, headers=twin.doctor).status_code == 403


def test_l48_conditions_do_not_find_the_hidden(pair: tuple[Twin, Twin]) -> None:
    for twin in pair:
        if twin.full:
            marked = {**whole(twin, "Observation/h1"), "identifier": [{"value": "n1"}]}
            assert twin.server.put("Observation/h1", marked, headers=twin.system).status_code == 200
    body = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": to("Patient/p1"),
        "identifier": [{"value": "n1"}],
    }
    deleted = [t.ask("DELETE", "Observation?identifier=n1") for t in pair]
    assert deleted[0] == deleted[1]
    created = [
        t.ask("POST", "Observation", body, **{"If-None-Exist": "identifier=n1"}) for t in pair
    ]
    assert [c[0] for c in created] == [201, 201]


def test_l50_l52_a_bundle_says_the_same(pair: tuple[Twin, Twin]) -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [
            {"request": {"method": "GET", "url": url}}
            for url in ("Observation/h1", "Observation/u")
        ],
    }
    answers = [twin.ask("POST", "", bundle) for twin in pair]
    assert answers[0] == answers[1]
    conditional = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": "urn:uuid:7b9d0e3c-4f5a-4d8e-9a51-0d6f4bb7b3a1",
                "request": {"method": "POST", "url": "Observation"},
                "resource": {
                    "resourceType": "Observation",
                    "status": "final",
                    "code": {"text": "x"},
                    "subject": to("Patient/p1"),
                    "encounter": to("Encounter?_id=h4"),
                },
            }
        ],
    }
    answers = [twin.ask("POST", "", conditional) for twin in pair]
    assert answers[0] == answers[1] and answers[0][0] >= 400


@pytest.mark.parametrize("named", ["Observation/h1", "see Condition/h2", "Encounter/e1"])
def test_a_string_that_names_the_hidden_is_no_reference(
    pair: tuple[Twin, Twin], named: str
) -> None:
    """Its author reads it again, whether or not what it names is there."""
    answers = []
    for twin in pair:
        seen = twin.server.get("Observation/v2", headers=twin.doctor).json()
        said = {**seen, "note": [{"text": named}], "code": {**seen["code"], "text": named}}
        written = twin.ask("PUT", "Observation/v2", said)
        assert written[0] == 200 and written[2].count(named) >= 2, written
        answers.append((written, twin.ask("GET", f"Observation?code:text={named}")))
    assert answers[0] == answers[1]


NAMING = (
    ("url", "https://other.example/fhir/Observation/{}"),
    ("url", "http://127.0.0.1:8080/fhir/Observation/{}/_history/1"),
    ("uri", "Observation/{}"),
    ("uri", "https://other.example/of/Observation/{}?a=1"),
    ("canonical", "https://other.example/Observation/{}|1"),
)


@pytest.mark.parametrize(("kind", "text"), NAMING)
def test_l49_a_url_that_ends_as_a_hidden_name_is_refused_like_any(
    pair: tuple[Twin, Twin], kind: str, text: str
) -> None:
    """A mask takes it, whichever server it means: else its author could tell by its going."""
    member = f"value{kind.capitalize()}"
    told = []
    for twin in pair:
        seen = twin.server.get("Observation/v2", headers=twin.doctor).json()
        for id_ in ("h1", "u1", "v3"):
            named = {"url": "http://example.org/named", member: text.format(id_)}
            asked = twin.ask("PUT", "Observation/v2", {**seen, "extension": [named]})
            told.append((asked[0], asked[2].replace(id_, "*") if id_ != "v3" else ""))
    assert told[:2] == [told[0]] * 2 and told[:3] == told[3:]
    assert [status for status, _ in told[:3]] == [422, 422, 200], told
    assert f"Observation.extension[0].{member}" in told[0][1]


def test_what_the_current_version_names_already_may_stay(pair: tuple[Twin, Twin]) -> None:
    """What a system has written ahead, or of another server, is no bar to who writes later."""
    urls = ("https://other.example/fhir/Observation/u1", "https://other.example/Observation/h1")
    for twin in pair:
        seen = whole(twin, "Observation/v2")
        ahead = [{"url": "http://example.org/named", "valueUri": url} for url in urls]
        twin.put({**seen, "extension": ahead[: 2 if twin.full else 1]})
        shown = twin.server.get("Observation/v2", headers=twin.doctor).json()
        assert shown["extension"] == ahead[:1]
        answer = twin.server.put("Observation/v2", shown | {"language": "en"}, headers=twin.doctor)
        assert answer.status_code == 200, answer.text
        hidden = twin.ask("PUT", "Observation/h1", {**shown, "id": "h1"})
        assert hidden[0] == 422


@pytest.mark.parametrize("of", ["system", "extension", "data"])
def test_what_can_name_no_resource_is_not_looked_at(pair: tuple[Twin, Twin], of: str) -> None:
    url = "https://other.example/Observation/u1"
    said: dict[str, Json] = {
        "system": {"identifier": [{"system": url, "value": "1"}]},
        "extension": {"extension": [{"url": url, "valueString": "x /Observation/h1"}]},
        "data": {
            "contained": [{"resourceType": "Observation", "id": "h1", "status": "final"}],
            "hasMember": [to("#h1")],
            "note": [{"text": "Observation/h1"}],
        },
    }
    if of == "data":
        said["data"]["contained"][0] |= {"code": {"text": "x"}, "subject": to("Patient/p1")}
    told = []
    for twin in pair:
        seen = twin.server.get("Observation/v2", headers=twin.doctor).json()
        told.append(twin.ask("PUT", "Observation/v2", seen | said[of]))
        told[-1] += (twin.ask("GET", "Observation/v2"),)
    assert told[0] == told[1] and told[0][0] == 200, told
