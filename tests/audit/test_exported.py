"""Who took a copy of my data: each patient of a bulk export finds it, in one line of the trail,
with what kinds of data, by whom and what for; nobody else does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit.test_tools import log_of
from tests.audit.trail import ALL, Clinic, observation, patient
from tests.serving import Json, Server, served

TAKING = "system/*.rs"
ASYNC = {"prefer": "respond-async", "x-purpose-of-use": "HOPERAT"}
WHY = "purpose: running the hospital"


@pytest.fixture
def clinic(backend: str, tmp_path: Path) -> Iterator[Clinic]:
    """Three patients: the first two are in the Group ``g``."""
    with served(backend, tmp_path, open_=False) as server:
        found = Clinic(server, tmp_path)
        found.other = server.create(patient(), headers=found.all)["id"]
        found.until = server.create(patient(), headers=found.all)["id"]
        for id_ in (found.other, found.until):
            server.create(observation(id_), headers=found.all)
        member = [{"entity": {"reference": f"Patient/{p}"}} for p in (found.patient, found.other)]
        group = {"resourceType": "Group", "id": "g", "type": "person", "actual": True}
        answer = server.put("Group/g", group | {"member": member}, headers=found.all)
        assert answer.status_code == 201, answer.text
        yield found


def taken(server: Server, url: str, body: Json | None = None, scope: str = TAKING) -> None:
    headers = server.bearer(scope, client="warehouse") | ASYNC
    answer = server.send("POST" if body else "GET", url, json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    place = answer.headers["content-location"]
    for _ in range(1200):
        answer = server.get(place, headers=server.bearer(scope, client="warehouse"))
        if answer.status_code not in (202, 429):
            break
        server.run(asyncio.sleep(0.05))
    assert answer.status_code == 200, answer.text


def told(clinic: Clinic, id_: str, language: str = "en") -> list[str]:
    """What the patient reads of it, without the time."""
    name = f"user-{id_}"
    clinic.server.user(f"{name}-{language}", "patient", f"Patient/{id_}")
    mine = clinic.server.bearer("patient/*.rs", user=f"{name}-{language}", patient=id_)
    text, entries = log_of(clinic.server, id_, mine, f"?language={language}")
    assert not {clinic.patient, clinic.other, clinic.until} - {id_} & {*text.split()}
    return [one["text"].partition(" - ")[2] for one in entries if "warehouse" in one["who"]]


def test_each_patient_of_an_export_finds_it_once(clinic: Clinic) -> None:
    taken(clinic.server, "Group/g/$export?_type=Patient,Observation")
    said = (
        f"warehouse: took a copy to another system: measurements and results, personal data; {WHY}"
    )
    assert told(clinic, clinic.patient) == [said]
    assert told(clinic, clinic.other) == [said]
    assert told(clinic, clinic.until) == []
    lines = [line for line in clinic.lines() if line.get("job")]
    assert [sorted(line["patients"]) for line in lines] == [sorted([clinic.patient, clinic.other])]
    assert not clinic.verified().faults


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("uk", "копія до іншої системи: ваша картка; мета: робота закладу"),
        ("ru", "копия в другую систему: ваша карта; цель: работа учреждения"),
    ],
)
def test_the_whole_record_in_other_languages(clinic: Clinic, language: str, said: str) -> None:
    taken(clinic.server, "Patient/$export")
    assert told(clinic, clinic.until, language) == [f"warehouse: {said}"]


def test_parts_without_a_subject_and_copies_without_names(clinic: Clinic) -> None:
    taken(clinic.server, "$export?_type=Observation&_elements=code")
    taken(clinic.server, "Group/g/$export?_type=Observation&_anonymize=safe-harbor")
    assert told(clinic, clinic.patient) == [
        f"warehouse: made a copy without names: measurements and results; {WHY}",
        f"warehouse: took a copy to another system: measurements and results; {WHY}",
    ]
    assert len(told(clinic, clinic.until)) == 1


def test_tables_are_copies_too(clinic: Clinic) -> None:
    column = [{"name": "id", "path": "id"}]
    view = {"resourceType": "ViewDefinition", "status": "active", "name": "v"}
    view |= {"resource": "Observation", "select": [{"column": column}]}
    part = [{"name": "viewResource", "resource": view}]
    body = {"resourceType": "Parameters", "parameter": [{"name": "view", "part": part}]}
    taken(clinic.server, "ViewDefinition/$export", body)
    [line] = told(clinic, clinic.until)
    assert line.startswith("warehouse: took a copy to another system: measurements and results")


def test_what_is_imported_is_written_with_its_row(clinic: Clinic) -> None:
    server = clinic.server
    content = json.dumps(observation(clinic.other) | {"id": "imported"}).encode()
    headers = clinic.all | {"content-type": "application/fhir+ndjson+x"}
    answer = server.send("POST", "Binary", content=content, headers=headers)
    assert answer.status_code == 201, answer.text
    binary = "/".join(answer.headers["location"].split("/")[-4:-2])
    part = [{"name": "type", "valueCode": "Observation"}, {"name": "url", "valueUri": binary}]
    given = [
        {"name": "inputFormat", "valueString": "application/fhir+ndjson"},
        {"name": "input", "part": part},
    ]
    body = {"resourceType": "Parameters", "parameter": given}
    taken(server, "$import", body, scope=f"{ALL} {TAKING}")
    assert told(clinic, clinic.other) == [
        "warehouse: added from files; purpose: running the hospital"
    ]
    assert told(clinic, clinic.patient) == []
    [line] = [line for line in clinic.lines() if line.get("job")]
    assert line["patients"] == [clinic.other] and len(line["writes"]) == 1
    assert not clinic.verified().faults
