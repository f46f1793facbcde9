"""Labels: computed when written, inherited, kept by later versions, found by new rules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.consent.codes import CONFIDENTIALITY, SENSITIVITY, level
from fhir_server.access.labels import LABEL, Labelling, own_labels, parse_rules, shipped_rules
from fhir_server.store.base import ChangeSet, Committed, Reindexed
from tests.consent.worlds import coded, to
from tests.serving import BACKENDS, BASE, Server, served

Json = dict[str, Any]
ICD = "http://hl7.org/fhir/sid/icd-10"
LABELLING = Labelling(shipped_rules())


@pytest.fixture(params=list(BACKENDS))
def hospital(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path, open_=False) as server:
        put(server, {"resourceType": "Patient", "id": "p"})
        put(server, {"resourceType": "Practitioner", "id": "d"})
        server.user("d", "family-doctor", "Practitioner/d")
        server.relation("d", "p")
        yield server


def put(server: Server, resource: Json) -> Json:
    url = f"{resource['resourceType']}/{resource['id']}"
    answer = server.put(url, resource, headers=server.bearer("system/*.cruds"))
    assert answer.status_code in (200, 201), answer.text
    found: Json = answer.json()
    return found


def encounter(id_: str = "e", **more: Any) -> Json:
    return {
        "resourceType": "Encounter",
        "id": id_,
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": to("Patient/p"),
        **more,
    }


def observation(id_: str, **more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"text": "x"},
        "subject": to("Patient/p"),
        **more,
    }


def seen(server: Server, name: str) -> bool:
    answer = server.get(name, headers=server.bearer("user/*.rs", user="d"))
    assert answer.status_code in (200, 404)
    return answer.status_code == 200


def labels_in(resource: Json) -> set[str]:
    return {label["code"] for label in resource.get("meta", {}).get("security", ())}


PSYCHIATRY = {"reasonCode": [coded(ICD, "F32.1")]}
FHIR_JSON = "application/fhir+json"
JSON_PATCH = "application/json-patch+json"


def test_a_code_labels_and_the_label_is_in_the_bytes(hospital: Server) -> None:
    stored = put(hospital, encounter(**PSYCHIATRY))
    labels = {(s["system"], s["code"]) for s in stored["meta"]["security"]}
    assert labels == {(SENSITIVITY, "PSY"), (CONFIDENTIALITY, "R")}
    assert not seen(hospital, "Encounter/e")


def test_what_arose_in_an_encounter_inherits(hospital: Server) -> None:
    put(hospital, encounter(**PSYCHIATRY))
    put(hospital, observation("o", encounter=to("Encounter/e")))
    put(hospital, observation("derived", derivedFrom=[to("Observation/o")]))
    put(hospital, observation("free"))
    assert [seen(hospital, f"Observation/{i}") for i in ("o", "derived", "free")] == [
        False,
        False,
        True,
    ]


def test_it_inherits_in_whatever_order_they_come(hospital: Server) -> None:
    put(hospital, observation("o", encounter=to("Encounter/e")))
    put(hospital, observation("derived", derivedFrom=[to("Observation/o")]))
    assert seen(hospital, "Observation/o") and seen(hospital, "Observation/derived")
    put(hospital, encounter())
    assert seen(hospital, "Observation/o")
    put(hospital, encounter(**PSYCHIATRY))
    assert not seen(hospital, "Observation/o") and not seen(hospital, "Observation/derived")


DROPPING = {
    "put": ("PUT", observation("o"), {}),
    "patch": ("PATCH", [{"op": "remove", "path": "/encounter"}], {"content-type": JSON_PATCH}),
}


@pytest.mark.parametrize("how", DROPPING)
def test_what_only_the_index_says_outlives_the_reference(hospital: Server, how: str) -> None:
    put(hospital, observation("o", encounter=to("Encounter/e")))
    put(hospital, encounter())
    put(hospital, encounter(**PSYCHIATRY))
    system = hospital.bearer("system/*.cruds")
    assert "security" not in hospital.get("Observation/o", headers=system).json()["meta"]
    method, body, headers = DROPPING[how]
    url, content = "Observation/o", json.dumps(body)
    sent = {"content-type": FHIR_JSON, **system, **headers}
    answer = hospital.send(method, url, content=content, headers=sent)
    assert answer.status_code == 200, answer.text
    assert "encounter" not in answer.json()
    assert labels_in(answer.json()) == {"PSY", "R"}
    assert not seen(hospital, "Observation/o")
    assert not seen(hospital, "Observation/o/_history/1")


def test_what_is_written_again_after_its_deletion_keeps_its_labels(hospital: Server) -> None:
    put(hospital, observation("o", encounter=to("Encounter/e")))
    put(hospital, encounter(**PSYCHIATRY))
    answer = hospital.delete("Observation/o", headers=hospital.bearer("system/*.cruds"))
    assert answer.status_code in (200, 204), answer.text
    assert labels_in(put(hospital, observation("o"))) == {"PSY", "R"}
    assert not seen(hospital, "Observation/o")


def bundle_of(*entries: tuple[str, Json]) -> Json:
    """A transaction of (method, resource)."""
    wanted = []
    for number, (method, resource) in enumerate(entries):
        url = resource["resourceType"] + (f"/{resource['id']}" if method == "PUT" else "")
        full = f"urn:uuid:00000000-0000-4000-8000-00000000000{number}"
        request = {"method": method, "url": url}
        wanted.append({"fullUrl": full, "request": request, "resource": resource})
    return {"resourceType": "Bundle", "type": "transaction", "entry": wanted}


CHILD = observation("o", encounter=to("Encounter/e"))
WHILE = {
    "put": bundle_of(("PUT", CHILD)),
    "post": bundle_of(("POST", CHILD)),
    "with a label of its own": bundle_of(
        ("POST", CHILD), ("PUT", encounter("own", **PSYCHIATRY)), ("PUT", observation("n"))
    ),
}


@pytest.mark.parametrize("how", WHILE)
def test_what_is_written_while_the_label_comes_inherits_it(
    hospital: Server, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    put(hospital, encounter())
    store, system = hospital.domain.store, hospital.bearer("system/*.cruds")
    apply, during = store.apply, ["Observation"]

    async def interrupted(changes: ChangeSet) -> Committed:
        if during and any(change.key.type == "Observation" for change in changes.changes):
            during.clear()
            async with hospital._client() as client:
                body = encounter(**PSYCHIATRY)
                answer = await client.put(f"{BASE}/Encounter/e", json=body, headers=system)
                assert answer.status_code == 200, answer.text
        return await apply(changes)

    monkeypatch.setattr(store, "apply", interrupted)
    answer = hospital.post("", WHILE[how], headers=system)
    assert answer.status_code == 200, answer.text
    [child, *_] = [entry["response"]["location"] for entry in answer.json()["entry"]]
    assert not during and not seen(hospital, child.split("/_history")[0])


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_what_is_labelled_with_all_that_inherits_is_not_read_again(
    hospital: Server, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Whoever loads a record pays for its labels once."""
    store, again = hospital.domain.store, []
    reindex = store.reindex

    async def counted(items: Sequence[Reindexed]) -> int:
        again.extend(items)
        return await reindex(items)

    monkeypatch.setattr(store, "reindex", counted)
    place = "Encounter/e" if method == "PUT" else "urn:uuid:00000000-0000-4000-8000-000000000000"
    child, free = (
        observation("o", encounter=to(place)),
        observation("n", encounter=to("Encounter/f")),
    )
    put(hospital, encounter("f"))
    loaded = bundle_of((method, encounter(**PSYCHIATRY)), (method, child), (method, free))
    answer = hospital.post("", loaded, headers=hospital.bearer("system/*.cruds"))
    assert answer.status_code == 200, answer.text
    _, *places = [e["response"]["location"].split("/_history")[0] for e in answer.json()["entry"]]
    assert [seen(hospital, place) for place in places] == [False, True]
    assert [str(one.key) for one in again] == ([] if method == "POST" else ["Observation/o"])


def test_what_comes_of_it_inherits_the_very_label(hospital: Server) -> None:
    put(hospital, observation("o", encounter=to("Encounter/e")))
    put(hospital, observation("loop", derivedFrom=[to("Observation/o"), to("Observation/loop2")]))
    put(hospital, observation("loop2", derivedFrom=[to("Observation/loop")]))
    put(hospital, encounter(**PSYCHIATRY))
    for above in ("o", "loop", "loop2"):
        made = put(hospital, observation(f"of-{above}", derivedFrom=[to(f"Observation/{above}")]))
        assert labels_in(made) == {"PSY", "R"}, above


def test_l44_what_was_concluded_from_it_inherits(hospital: Server) -> None:
    put(hospital, observation("o", code=coded("http://loinc.org", "25836-8")))
    risk = {
        "resourceType": "RiskAssessment",
        "id": "r",
        "status": "final",
        "subject": to("Patient/p"),
    }
    detail = "http://hl7.org/fhir/StructureDefinition/flag-detail"
    flag = {
        "resourceType": "Flag",
        "id": "f",
        "status": "active",
        "code": {"text": "look"},
        "subject": to("Patient/p"),
    }
    put(hospital, risk)
    put(hospital, flag)
    assert seen(hospital, "RiskAssessment/r") and seen(hospital, "Flag/f")
    put(hospital, {**risk, "basis": [to("Observation/o")]})
    put(hospital, {**flag, "extension": [{"url": detail, "valueReference": to("Observation/o")}]})
    assert not seen(hospital, "RiskAssessment/r") and not seen(hospital, "Flag/f")


def test_within_one_transaction_too(hospital: Server) -> None:
    bundle = bundle_of(("PUT", CHILD), ("PUT", encounter(**PSYCHIATRY)))
    answer = hospital.post("", bundle, headers=hospital.bearer("system/*.cruds"))
    assert answer.status_code == 200, answer.text
    assert not seen(hospital, "Observation/o")


def test_l36_a_label_of_one_version_is_one_of_all(hospital: Server) -> None:
    put(hospital, observation("o"))
    put(hospital, observation("o", code=coded("http://loinc.org", "25836-8")))
    put(hospital, observation("o", note=[{"text": "corrected"}]))
    for name in ("Observation/o", *(f"Observation/o/_history/{n}" for n in (1, 2, 3))):
        assert not seen(hospital, name), name


def test_a_reindex_keeps_what_is_inherited(hospital: Server) -> None:
    put(hospital, observation("o", encounter=to("Encounter/e")))
    put(hospital, encounter(**PSYCHIATRY))
    answer = hospital.post("$reindex", headers=hospital.bearer("system/*.cruds"))
    assert answer.status_code in (200, 202), answer.text
    assert not seen(hospital, "Observation/o")


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        ([], "N"),
        ([{"system": CONFIDENTIALITY, "code": "L"}], "L"),
        ([{"system": CONFIDENTIALITY, "code": "V"}, {"system": SENSITIVITY, "code": "HIV"}], "V"),
        ([{"system": SENSITIVITY, "code": "HIV"}], "R"),
        ([{"system": "urn:own", "code": "VIP"}], "R"),
        ([{"system": SENSITIVITY, "code": "REDACT"}], "N"),
        ([{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}], "N"),
    ],
)
def test_what_labels_mean(security: list[Json], expected: str) -> None:
    assert level(own_labels({"meta": {"security": security}})) == expected


@pytest.mark.parametrize(
    "text", ["HIV-1 viral load", "ВІЛ-інфекція", "ВИЧ", "Psychiatric consultation", "Суїцид"]
)
def test_words_label(text: str) -> None:
    assert LABELLING(observation("o", code={"text": text})), text


@pytest.mark.parametrize("text", ["Shiver", "Hive", "archive", "Total cholesterol"])
def test_words_within_words_do_not(text: str) -> None:
    assert not LABELLING(observation("o", code={"text": text})), text


def test_rules_are_data_and_bad_ones_are_refused() -> None:
    rules = parse_rules('[label.GDIS]\nwords = ["brca"]\n[label.GDIS.codes]\n"urn:x" = ["1*"]\n')
    found = Labelling(rules)(observation("o", code=coded("urn:x", "12")))
    assert {(token.param, token.code) for token in found} == {(LABEL, "GDIS"), (LABEL, "R")}
    with pytest.raises(ValueError, match="NOSUCH"):
        parse_rules('[label.NOSUCH]\nwords = ["x"]\n')
