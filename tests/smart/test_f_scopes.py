"""checks F: what a scope lets through at the resource server. Users: ``test_user_scopes``."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from tests.serving import Server
from tests.smart.conftest import CATEGORY

Json = dict[str, Any]
FHIR_JSON = {"content-type": "application/fhir+json"}
TYPE = "Observation"


def observation(patient: str = "a", category: str = "laboratory") -> Json:
    return {
        "resourceType": TYPE,
        "status": "final",
        "category": [{"coding": [{"system": CATEGORY, "code": category}]}],
        "code": {"text": "y"},
        "subject": {"reference": f"Patient/{patient}"},
    }


def interactions(server: Server, headers: Json) -> dict[str, list[httpx.Response]]:
    """Letters -> the answers of the interactions that they stand for (scope grammar of SMART)."""
    system = server.bearer("system/*.cruds")
    id_ = server.create(observation(), headers=system)["id"]
    place = f"{TYPE}/{id_}"
    changed = observation() | {"id": id_, "status": "amended"}
    patch = b'[{"op":"replace","path":"/status","value":"final"}]'
    json_patch = {**headers, "content-type": "application/json-patch+json"}
    read = [server.get(u, headers=headers) for u in (place, f"{place}/_history")]
    read.append(server.get(f"{place}/_history/1", headers=headers))
    searches = [server.get(u, headers=headers) for u in (TYPE, f"{TYPE}/_history")]
    searches.append(
        server.post(
            f"{TYPE}/_search",
            headers=headers | {"content-type": "application/x-www-form-urlencoded"},
        )
    )
    return {
        "r": read,
        "s": searches,
        "c": [server.post(TYPE, observation(), headers=headers)],
        "u": [
            server.put(place, changed, headers=headers),
            server.send("PATCH", place, headers=json_patch, content=patch),
        ],
        "d": [server.delete(place, headers=headers)],
    }


@pytest.mark.parametrize("letter", list("cruds"))
@pytest.mark.parametrize("context", ["system", "patient"])
def test_f01_one_letter_each(clinic: Server, context: str, letter: str) -> None:
    holder = {"patient": "a"} if context == "patient" else {}
    headers = clinic.bearer(f"{context}/{TYPE}.{letter}", **holder)
    for other, answers in interactions(clinic, headers).items():
        for answer in answers:
            if other == letter:
                assert answer.status_code < 300, (letter, answer.request.url, answer.text)
            else:
                assert answer.status_code == 403, (letter, other, answer.status_code)


def test_f01_who_may_change_and_not_read_learns_nothing_by_a_patch(clinic: Server) -> None:
    """The answer is empty, alone and in a Bundle; tests and selectors are refused."""
    system = clinic.bearer("system/*.cruds")
    id_ = clinic.create(observation() | {"code": {"text": "canary"}}, headers=system)["id"]
    place, headers = f"{TYPE}/{id_}", clinic.bearer(f"system/{TYPE}.u")
    typed = {**headers, "content-type": "application/json-patch+json"}

    def patch(*operations: Json) -> httpx.Response:
        return clinic.send("PATCH", place, headers=typed, json=list(operations))

    replace = {"op": "replace", "path": "/status", "value": "amended"}
    done = patch(replace)
    assert (done.status_code, done.content) == (200, b"")
    asked = patch({"op": "test", "path": "/code/text", "value": "canary"})
    guessed = patch({"op": "test", "path": "/code/text", "value": "other"})
    assert asked.status_code == guessed.status_code == 403 and asked.content == guessed.content
    part = [
        {"name": "type", "valueCode": "delete"},
        {"name": "path", "valueString": "Observation.code.where(text = 'canary')"},
    ]
    parameters = {
        "resourceType": "Parameters",
        "parameter": [{"name": "operation", "part": part}],
    }
    fhirpath = clinic.send("PATCH", place, headers=headers | FHIR_JSON, json=parameters)
    assert fhirpath.status_code == 403
    data = base64.b64encode(json.dumps([replace]).encode()).decode()
    binary = {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}
    entry = {"request": {"method": "PATCH", "url": place}, "resource": binary}
    for kind in ("batch", "transaction"):
        bundle = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
        answer = clinic.post("", bundle, headers=headers)
        assert answer.json()["entry"][0]["response"]["status"].startswith("200"), answer.text
        assert "canary" not in answer.text


def test_what_search_parameters_of_a_scope_leave_out_is_like_what_never_was(
    clinic: Server,
) -> None:
    """Law 3 and rulings 1, 2: a system client writes over nothing that it does not see."""
    system = clinic.bearer("system/*.cruds")
    hidden = clinic.create(observation(category="exam"), headers=system)["id"]
    headers = clinic.bearer(f"system/{TYPE}.cruds?category={CATEGORY}|laboratory")
    for send in (
        lambda id_: clinic.delete(f"{TYPE}/{id_}", headers=headers),
        lambda id_: clinic.put(f"{TYPE}/{id_}", observation() | {"id": id_}, headers=headers),
        lambda id_: clinic.put(
            f"{TYPE}/{id_}", observation(category="exam") | {"id": id_}, headers=headers
        ),
    ):
        there, unused = send(hidden), send("unused")
        assert there.status_code == unused.status_code, (there.text, unused.text)
        assert there.text.replace(hidden, "unused") == unused.text
    kept = clinic.get(f"{TYPE}/{hidden}", headers=system).json()
    assert kept["meta"]["versionId"] == "1"


@pytest.mark.parametrize(
    "scope",
    [
        *("patient/Observation.sr", "patient/Observation.x", "patient/Observation."),
        *("patient/Nothing.rs", "patient/observation.rs", "Observation.rs", "patient/*.rsr"),
        *("patient/Observation.rs?", "patient/Observation.rs?nothing=x"),
        *("patient/Observation.rs?category", "patient/*.rs?category=x", "patients/*.rs"),
        *("patient/Observation.rs?_has:AuditEvent:entity:agent=x", "user/*.read.write"),
        *("patient/Observation.rs?subject.name=x", "patient/Observation.rs?date=nodate"),
    ],
)
def test_f01b_f02_what_is_no_scope_is_not_granted(clinic: Server, scope: str) -> None:
    negotiation = clinic.app._inner._bases[b"auth"]._server.negotiation  # type: ignore[attr-defined]
    allowed = "patient/*.cruds user/*.cruds"
    assert negotiation.granted(scope, allowed, ("patient", "user")) == []
    headers = clinic.bearer(scope, patient="a")
    assert clinic.get(TYPE, headers=headers).status_code in (400, 401, 403)


@pytest.mark.parametrize(("v1", "letters"), [("read", "rs"), ("write", "cud"), ("*", "cruds")])
def test_f02_version_1(clinic: Server, v1: str, letters: str) -> None:
    headers = clinic.bearer(f"system/{TYPE}.{v1}")
    for letter, answers in interactions(clinic, headers).items():
        for answer in answers:
            may = set(letter) <= set(letters)
            assert (answer.status_code < 300) == may, (letter, answer.text)


def test_f03_other_types(clinic: Server) -> None:
    headers = clinic.bearer("patient/Observation.rs", patient="a")
    assert clinic.get("Observation", headers=headers).status_code == 200
    for type_ in ("Condition", "Patient", "Practitioner"):
        assert clinic.get(type_, headers=headers).status_code == 403


LAB = f"Observation.rs?category={CATEGORY}|laboratory"


@pytest.mark.parametrize("context", ["patient", "user", "system"])
def test_f04_f05_granular_scopes(lasting: Server, context: str) -> None:
    holder = {"patient": {"patient": "a"}, "user": {"user": "doc"}, "system": {}}[context]
    some = lasting.bearer(f"{context}/{LAB}", **holder)
    whole = lasting.bearer(f"{context}/Observation.rs", **holder)
    url = f"Observation?category={CATEGORY}|laboratory"
    wanted = {e["resource"]["id"] for e in lasting.get(url, headers=whole).json()["entry"]}
    found = {e["resource"]["id"] for e in lasting.get(TYPE, headers=some).json()["entry"]}
    assert found == wanted and all(id_.startswith("laboratory") for id_ in found)
    hidden = lasting.get("Observation/vital-signs-a", headers=some)
    absent = lasting.get("Observation/nothing", headers=some)
    assert hidden.status_code == absent.status_code == 404
    assert hidden.text.replace("vital-signs-a", "nothing") == absent.text
    for url in ("Observation/vital-signs-a/_history", "Observation/vital-signs-a/_history/1"):
        assert lasting.get(url, headers=some).status_code == 404
    history = lasting.get("Observation/_history", headers=some).json()
    assert all("laboratory" in entry["fullUrl"] for entry in history["entry"])


def test_granular_scopes_judge_writes_before_and_after(clinic: Server) -> None:
    scope = f"patient/Observation.cruds?category={CATEGORY}|laboratory"
    headers = clinic.bearer(scope, patient="a")
    assert clinic.post(TYPE, observation(), headers=headers).status_code == 201
    other = observation(category="vital-signs")
    assert clinic.post(TYPE, other, headers=headers).status_code == 403
    away = other | {"id": "laboratory-a"}
    assert clinic.put("Observation/laboratory-a", away, headers=headers).status_code == 403
    into = observation() | {"id": "vital-signs-a"}
    assert clinic.put("Observation/vital-signs-a", into, headers=headers).status_code == 405
    clinic.delete("Observation/vital-signs-a", headers=headers)
    kept = clinic.get("Observation/vital-signs-a", headers=clinic.bearer("system/*.rs"))
    assert kept.status_code == 200
    elsewhere = observation("b")
    assert clinic.post(TYPE, elsewhere, headers=headers).status_code in (403, 422)


def test_several_scopes_are_one_or_the_other(clinic: Server) -> None:
    parts = [
        f"patient/Observation.rs?category={CATEGORY}|{code}" for code in ("laboratory", "survey")
    ]
    headers = clinic.bearer(" ".join(parts), patient="a")
    found = clinic.get(TYPE, headers=headers).json()["entry"]
    assert [entry["resource"]["id"] for entry in found] == ["laboratory-a"]


def test_f07_each_entry_is_judged_alone(clinic: Server) -> None:
    headers = clinic.bearer("patient/Observation.cruds", patient="a")
    entries = [
        {"resource": observation(), "request": {"method": "POST", "url": TYPE}},
        {
            "resource": {"resourceType": "Condition", "subject": {"reference": "Patient/a"}},
            "request": {"method": "POST", "url": "Condition"},
        },
    ]
    bundle: Json = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    before = clinic.get(f"{TYPE}?_summary=count", headers=headers).json()["total"]
    answer = clinic.post("", bundle, headers=headers).json()
    statuses = [entry["response"]["status"][:3] for entry in answer["entry"]]
    assert statuses == ["201", "403"]
    refused = clinic.post("", bundle | {"type": "transaction"}, headers=headers)
    assert refused.status_code == 403
    after = clinic.get(f"{TYPE}?_summary=count", headers=headers).json()["total"]
    assert after == before + 1


def test_f08_every_type_on_the_way_needs_its_scope(clinic: Server) -> None:
    """Chains, _has, includes and $everything reach no type without a scope of its own."""
    headers = clinic.bearer("patient/Observation.rs", patient="a")
    for query, most in (
        ("Observation?subject:Patient.family=Family-a", 0),
        ("Observation?_has:Provenance:target:agent=x", 0),
        ("Observation?_include=Observation:subject", 2),
        ("Observation?_include=*", 2),
        ("Observation?_revinclude=Provenance:target", 2),
    ):
        answer = clinic.get(query, headers=headers)
        if answer.status_code != 200:
            assert answer.status_code in (400, 403), query
            continue
        entries = answer.json().get("entry", [])
        assert {e["resource"]["resourceType"] for e in entries} <= {TYPE}, query
        assert len(entries) == most, query
    assert clinic.get("Patient/a/$everything", headers=headers).status_code == 403
    wide = clinic.bearer("patient/Observation.rs patient/Patient.rs", patient="a")
    everything = clinic.get("Patient/a/$everything", headers=wide).json()["entry"]
    assert {e["resource"]["resourceType"] for e in everything} == {"Patient", TYPE}


def test_f10_links_between_patients_extend_nothing(clinic: Server) -> None:
    system = clinic.bearer("system/*.cruds")
    linked = {
        "resourceType": "Patient",
        "id": "a",
        "link": [{"other": {"reference": "Patient/b"}, "type": "seealso"}],
    }
    assert clinic.put("Patient/a", linked, headers=system).status_code == 200
    headers = clinic.bearer("patient/*.rs", patient="a")
    assert clinic.get("Patient/b", headers=headers).status_code == 404
    assert clinic.get("Observation/laboratory-b", headers=headers).status_code == 404
