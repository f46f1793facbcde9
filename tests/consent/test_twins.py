"""The attacks of a reader from whom something is hidden (numbered as in the list of attacks): the
server answers as its twin, which never held the hidden things.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.consent.worlds import Twin, observation, twins
from tests.serving import BACKENDS


@pytest.fixture(scope="module", params=list(BACKENDS))
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Twin, Twin]]:
    folder: Path = tmp_path_factory.mktemp("twins")
    with twins(request.param, folder) as both:
        yield both


ASKED = {
    "L01": "Observation/h1",
    "L01 condition": "Condition/h2",
    "L01 document": "DocumentReference/h3",
    "L01 binary": "Binary/b3",
    "L01 encounter": "Encounter/h4",
    "L01 provenance": "Provenance/hp",
    "L02": "Observation/h1/_history",
    "L02 version": "Observation/h1/_history/1",
    "L06": "Observation?_id=h1",
    "L06 both": "Observation?_id=h1,v2",
    "L07": "Observation?patient=p1&_count=1",
    "L07 all": "Observation?patient=p1",
    "L07 nobody named": "Observation",
    "L08": "Observation?patient=p1&_summary=count",
    "L08 accurate": "Observation?patient=p1&_count=1&_total=accurate",
    "L08 estimate": "Observation?patient=p1&_count=1&_total=estimate",
    "L09": "Patient?_has:Observation:patient:code=25836-8",
    "L10": "Patient?_has:Observation:patient:code-value-quantity=25836-8$gt3",
    "L11": "Encounter?diagnosis:Condition.code=7200002",
    "L11 provider": "Encounter?service-provider.name=Clinic",
    "L11 condition": "Condition?encounter.service-provider.name=Clinic",
    "L13": "DiagnosticReport?_id=v1&_include=DiagnosticReport:result",
    "L14": "Patient?_id=p2&_revinclude=Observation:focus",
    "L14 subject": "Patient?_id=p2&_revinclude=Observation:subject",
    "L15": "Patient?_id=p1&_revinclude=Observation:patient&_revinclude=Provenance:target",
    "L15 all": "DiagnosticReport?_include=*",
    "L16": "Observation?patient=p1&_sort=value-quantity",
    "L16 date": "Observation?patient=p1&_sort=-date",
    "L17": "DiagnosticReport?result:missing=true",
    "L17 not": "Condition?code:not=7200002",
    "L17 has": "Patient?_has:Condition:patient:code:not=7200002",
    "L17 member": "Observation?has-member:missing=false",
    "L18": "DocumentReference?_content=zolpitest",
    "L18 text": "DiagnosticReport?_text=viral",
    "L18 filter": 'DocumentReference?_filter=description co "zolpitest"',
    "L18 description": "DocumentReference?description:contains=zolpi",
    "L19": "Observation?_security=R",
    "L19 sensitivity": "Observation?_security=HIV",
    "L20": "List/l",
    "L20 list": "Observation?_list=l",
    "L20 condition": "Condition?_list=l",
    "L20 item": "List?item=Condition/h2",
    "L21": "Observation/v4",
    "L21 contained": "Observation?_contained=both&code=25836-8",
    "L21 chain": "Observation?derived-from.code=25836-8",
    "L21 present": "Observation?derived-from:missing=false",
    "L21 absent": "Observation?derived-from:missing=true",
    "L21 filter": "Observation?_filter=derived-from pr true",
    "L21 chained": "DiagnosticReport?result.derived-from:missing=false",
    "L21 of a copy": "Observation?derived-from:Observation.has-member:missing=false",
    "L21 copies": "Observation?_contained=true&has-member:missing=false",
    "L25": "Patient/p1/$everything",
    "L25 type": "Patient/p1/$everything?_type=Observation",
    "L26": "Observation/$lastn?patient=p1&max=9",
    "L26 documents": "DocumentReference/$docref?patient=p1",
    "L26 all documents": "DocumentReference/$docref?patient=p1&start=1900",
    "L35": "Observation/_history",
    "L35 system": "_history",
    "L37": "DiagnosticReport/v1",
    "L37 other": "DiagnosticReport/v5",
    "L38": "DiagnosticReport/v1/_history/1",
    "L39": "Provenance?target=Observation/h1",
    "L39 audit": "AuditEvent?entity=Observation/h1",
    "L39 list": "List?item:Condition.code=7200002",
    "L59": "Observation?patient=Patient/p1/_history/3",
    "L60": "observation/h1",
    "L61": "DiagnosticReport/v1?_elements=result",
    "L61 xml": "DiagnosticReport/v1?_format=xml",
    "L61 text": "DiagnosticReport/v1?_summary=text",
    "L66": "Consent?patient=p1",
    "L66 read": "Consent/c1",
    "stats": "Observation/$stats?subject=Patient/p1&code=http://loinc.org|25836-8&statistic=count",
    "focus": "Observation/o2",
    "compartment": "Patient/p1/Condition",
    "compartment of an encounter": "Encounter/h4/Condition",
}


@pytest.mark.parametrize("attack", ASKED)
def test_the_answer_is_that_of_the_twin(pair: tuple[Twin, Twin], attack: str) -> None:
    whole, without = (twin.ask("GET", ASKED[attack]) for twin in pair)
    assert whole == without


def test_unused_and_hidden_are_alike(pair: tuple[Twin, Twin]) -> None:
    """L01, L04: also on one server."""
    for twin in pair:
        for method in ("GET", "HEAD"):
            hidden = twin.ask(method, "Observation/h1")
            unused = twin.ask(method, "Observation/u1")
            assert hidden == (unused[0], unused[1], unused[2].replace("u1", "h1"))


@pytest.mark.parametrize("header", ["If-None-Match", "If-Modified-Since"])
def test_l03_no_condition_tells(pair: tuple[Twin, Twin], header: str) -> None:
    value = 'W/"1"' if header == "If-None-Match" else "Sat, 29 Oct 2033 19:43:31 GMT"
    for twin in pair:
        assert twin.ask("GET", "Observation/h1", **{header: value})[0] == 404


WRITES = {
    "L46": ("PUT", "Observation/h1", observation("h1", "2093-3", 1, "09")),
    "L47 delete": ("DELETE", "Observation/h1", None),
    "L49": (
        "POST",
        "Observation",
        observation("", "2093-3", 1, "09", encounter={"reference": "Encounter/h4"}),
    ),
}


@pytest.mark.parametrize("attack", WRITES)
def test_a_write_is_answered_as_by_the_twin(pair: tuple[Twin, Twin], attack: str) -> None:
    method, url, body = WRITES[attack]
    if body is not None and method == "POST":
        body = {name: value for name, value in body.items() if name != "id"}
    whole, without = (twin.ask(method, url, body) for twin in pair)
    assert whole == without
    if pair[0].full:
        kept = pair[0].server.get("Observation/h1", headers=pair[0].system)
        assert kept.status_code == 200 and kept.json()["meta"]["versionId"] == "1"


def test_l66_the_rules_are_the_patients_own(pair: tuple[Twin, Twin]) -> None:
    for twin in pair:
        assert twin.ask("GET", "Consent/c1")[0] == 404
        assert '"total":0' in twin.ask("GET", "Consent?patient=p1")[2]
        assert twin.server.get("Consent/c1", headers=twin.patient).status_code == 200


def test_the_patient_sees_all(pair: tuple[Twin, Twin]) -> None:
    whole = pair[0]
    for name in ("Observation/h1", "Condition/h2", "DocumentReference/h3", "Encounter/h4"):
        assert whole.server.get(name, headers=whole.patient).status_code == 200
    report = whole.server.get("DiagnosticReport/v1", headers=whole.patient).json()
    assert len(report["result"]) == 2


def test_l62_no_launch_into_a_hidden_encounter(pair: tuple[Twin, Twin]) -> None:
    """Nor does the page that asks which visit it is about name it."""
    answers = []
    for twin in pair:
        twin.server.client("app", redirects=("https://app.example/back",), scope="launch")
        asked = {"client_id": "app", "patient": "p1", "encounter": "h4"}
        url, kind = "http://127.0.0.1:8080/auth/launch", {"content-type": "application/json"}
        answers.append(twin.ask("POST", url, asked, **kind))
        seen = twin.ask("POST", url, {**asked, "encounter": "e1"}, **kind)
        assert seen[0] == 201, seen
    assert answers[0] == answers[1] and answers[0][0] == 403, answers
