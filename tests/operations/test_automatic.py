"""Drafts that follow the record by themselves: once, in place, and wherever the server dies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from predicting import NOW, SNOMED, Chart, Road, World, indexes

from fhir_server.access.drafts import Draft
from fhir_server.access.feed import LEASE, Feed
from fhir_server.formats.json import loads
from fhir_server.model.datatypes import parse_instant
from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Key
from fhir_server.search.plan import Scan, Search
from operations.models import automatic
from operations.models.automatic import Automatic
from operations.models.package import ModelPackage

pytestmark = pytest.mark.usefixtures("each_store")

CREATININE = "2160-0"


class Killed(BaseException):
    """Nothing of the process goes on."""


class Hospital:
    """A world with a follower; its clock is moved by hand."""

    def __init__(self, *resources: dict[str, Any], quiet: float = 0) -> None:
        chart = Chart()
        self.world = World([*chart.resources, *resources])
        self.clock = parse_instant(NOW)
        self.engine = replace(self.world.engine, now=lambda: self.clock)
        self.follower = self.another("one", quiet)
        self.rounds()

    def another(self, holder: str, quiet: float = 0) -> Automatic:
        feed = Feed(self.engine, automatic.NAME, holder)
        return Automatic(Road.models, indexes, self.world.system, feed, quiet)

    def rounds(self, follower: Automatic | None = None) -> int:
        """Until there is nothing left to do; how many."""
        count = 0
        while Road.runner.run((follower or self.follower).round()):
            count += 1
            assert count < 50
        return count

    def put(self, *resources: dict[str, Any]) -> None:
        drafts = [Draft("PUT", Key(r["resourceType"], r["id"]), r) for r in resources]
        Road.runner.run(self.world.system.write(drafts))
        self.clock += 10_000  # a version is later than the one before

    def delete(self, key: Key) -> None:
        Road.runner.run(self.world.system.write([Draft("DELETE", key)]))
        self.clock += 10_000

    def of(self, type_: str) -> list[dict[str, Any]]:
        search = Search((Scan(type_),), count=100, total="none")
        page = Road.runner.run(self.world.system.search(search))
        return [loads(one.body) for one in page.matches]

    def drafts(self) -> list[dict[str, Any]]:
        return [o for o in self.of("Observation") if "identifier" in o]


def creatinine(value: float = 0.9, id_: str = "c", **fields: Any) -> dict[str, Any]:
    chart = Chart()
    return {**chart.measure(CREATININE, value, "mg/dL"), "id": id_, **fields}


def test_what_feeds_a_model_brings_its_draft_up_to_date_in_place() -> None:
    hospital = Hospital()
    hospital.put(creatinine())
    assert hospital.rounds() > 0
    (draft,) = hospital.drafts()
    assert draft["status"] == "preliminary" and draft["subject"] == {"reference": "Patient/p"}
    assert draft["identifier"][0]["value"] == "ckd-epi-2021-1.0.0"
    first = draft["valueQuantity"]["value"]
    hospital.put(creatinine(1.8))
    hospital.rounds()
    (again,) = hospital.drafts()
    assert (again["id"], again["meta"]["versionId"]) == (draft["id"], "2")
    assert again["valueQuantity"]["value"] < first
    made = [p for p in hospital.of("Provenance") if p["target"][0]["reference"].endswith("/2")]
    assert made[0]["agent"][0]["onBehalfOf"] == {"display": "system:test"}


def test_what_changes_nothing_writes_nothing() -> None:
    hospital = Hospital(creatinine())
    hospital.put(creatinine(0.8))
    hospital.rounds()
    position = Road.runner.run(hospital.world.store.position())
    chart = Chart()
    hospital.put({**chart.measure("8302-2", 180, "cm"), "id": "height"})  # feeds no model
    hospital.put({**chart.measure("2093-3", 5, "mmol/L"), "id": "lipid"})  # not enough for one
    hospital.rounds()
    assert Road.runner.run(hospital.world.store.position()) == position + 2
    assert hospital.rounds() == 0  # its own drafts feed nothing


def test_a_decision_stands_while_the_inputs_do() -> None:
    hospital = Hospital()
    hospital.put(creatinine())
    hospital.rounds()
    (draft,) = hospital.drafts()
    hospital.put({**draft, "status": "final"})
    hospital.put({**hospital.of("Patient")[0], "telecom": [{"system": "phone", "value": "1"}]})
    hospital.rounds()
    assert [one["status"] for one in hospital.drafts()] == ["final"]
    hospital.put(creatinine(2))
    hospital.rounds()
    assert sorted(one["status"] for one in hospital.drafts()) == ["final", "preliminary"]


def test_a_draft_without_its_inputs_is_cancelled() -> None:
    hospital = Hospital()
    hospital.put(creatinine())
    hospital.rounds()
    hospital.put(creatinine(status="entered-in-error"))
    hospital.rounds()
    assert [one["status"] for one in hospital.drafts()] == ["cancelled"]
    hospital.put(creatinine())
    hospital.rounds()
    assert sorted(one["status"] for one in hospital.drafts()) == ["cancelled", "preliminary"]
    hospital.delete(Key("Observation", "c"))
    hospital.rounds()
    assert {one["status"] for one in hospital.drafts()} == {"cancelled"}


def test_a_condition_and_a_moved_subject_count() -> None:
    chart = Chart()
    chart.condition("49436004")
    fibrillation = {**chart.resources[-1], "id": "af"}
    hospital = Hospital()
    hospital.put(fibrillation)
    hospital.rounds()
    found = {one["identifier"][0]["value"] for one in hospital.drafts()}
    assert found == {"cha2ds2-vasc-1.0.0"}
    hospital.put({**chart.patient, "id": "q"})
    hospital.put({**fibrillation, "subject": {"reference": "Patient/q"}})
    hospital.rounds()
    status = {(o["subject"]["reference"][-1], o["status"]) for o in hospital.drafts()}
    assert status == {("p", "cancelled"), ("q", "preliminary")}


def test_changes_of_a_patient_are_taken_together_once_it_is_quiet() -> None:
    hospital = Hospital(quiet=5)
    hospital.put(creatinine(1))
    assert hospital.rounds() == 0
    hospital.put(creatinine(2))
    hospital.clock += 6_000_000
    assert hospital.rounds() > 0
    (draft,) = hospital.drafts()
    assert draft["meta"]["versionId"] == "1"


def test_killed_anywhere_it_goes_on_and_writes_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patients = [{**Chart().patient, "id": f"p{n}"} for n in range(3)]
    hospital = Hospital(*patients)
    values = [creatinine(1, f"c{n}", subject={"reference": f"Patient/p{n}"}) for n in range(3)]
    hospital.put(*values)
    done, plain = 0, Automatic._drafted

    async def dies(self: Automatic, patient: str, packages: Sequence[ModelPackage]) -> None:
        nonlocal done
        await plain(self, patient, packages)
        done += 1
        if done in (1, 3):
            raise Killed

    monkeypatch.setattr(Automatic, "_drafted", dies)
    for _ in range(2):
        with pytest.raises(Killed):
            Road.runner.run(hospital.follower.round())
    successor = hospital.another("two")
    assert hospital.rounds(successor) == 0  # the lease of the dead still runs
    hospital.clock += LEASE + 1
    assert hospital.rounds(successor) > 0
    drafts = hospital.drafts()
    assert len(drafts) == 3
    assert {one["meta"]["versionId"] for one in drafts} == {"1"}


def test_a_runtime_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    hospital = Hospital()
    hospital.put(creatinine())
    plain = Automatic._drafted

    async def away(self: Automatic, patient: str, packages: Sequence[ModelPackage]) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(Automatic, "_drafted", away)
    assert hospital.rounds() == 0
    monkeypatch.setattr(Automatic, "_drafted", plain)
    assert hospital.rounds() > 0
    assert len(hospital.drafts()) == 1


def test_smoking_is_a_part_of_what_is_read() -> None:
    chart = Chart()
    chart.pressure(140)
    chart.measure("2093-3", 5.5, "mmol/L")
    chart.measure("2085-9", 1.3, "mmol/L")
    hospital = Hospital(*chart.resources[1:])
    hospital.put({**chart.smoking("266919005"), "id": "smoking"})
    hospital.rounds()
    (risk,) = [
        r for r in hospital.of("RiskAssessment") if r["method"]["coding"][0]["code"] == "score2"
    ]
    assert risk["status"] == "preliminary"
    assert SNOMED in str(risk["extension"])


def test_a_place_that_is_not_in_this_store_is_left() -> None:
    """A database that was restored counts anew."""
    hospital = Hospital()
    ledger = hospital.world.store.ledger
    row = Road.runner.run(ledger.get("feed", automatic.NAME))
    assert row is not None
    far = {"seq": 1_000_000, "holder": "gone", "until": 0}
    assert Road.runner.run(ledger.cas("feed", automatic.NAME, far, row.revision))
    hospital.rounds()
    hospital.put(creatinine())
    hospital.rounds()
    assert len(hospital.drafts()) == 1
