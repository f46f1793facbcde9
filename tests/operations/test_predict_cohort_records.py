"""A Group's patients are read together, and each gets what he would get alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from predicting import Chart, Road, World, indexes

from operations.models import cohort
from operations.models.cohort import Cohort
from operations.models.record import Item
from operations.models.session_record import SessionRecord

pytestmark = pytest.mark.usefixtures("each_store")

Json = dict[str, Any]


def ward(subject: str = "Patient/q") -> list[Json]:
    """Two patients with conditions, one without; and one who is not asked for."""
    resources: list[Json] = [{**Chart().patient, "id": id_} for id_ in "pqrz"]
    for number, whose in enumerate(["Patient/p", subject, "Patient/p", "Patient/z", "Patient/q"]):
        chart = Chart()
        condition = chart.condition("44054006", recordedDate=f"2020-01-0{number + 1}")
        resources.append({**condition, "id": f"c{number}", "subject": {"reference": whose}})
    return resources


def together(world: World, ids: str = "pqr") -> dict[str, list[Item] | None]:
    async def read() -> dict[str, list[Item] | None]:
        both = Cohort(world.session, list(ids), indexes)
        found = await asyncio.gather(*(both.record(id_).conditions() for id_ in ids))
        return dict(zip(ids, found, strict=True))

    return Road.runner.run(read())


def alone(world: World, ids: str = "pqr") -> dict[str, list[Item] | None]:
    return {
        id_: Road.runner.run(SessionRecord(world.session, id_, indexes).conditions()) for id_ in ids
    }


def test_one_search_finds_what_each_has() -> None:
    world = World(ward())
    found = together(world)
    assert world.searched == ["Condition"]
    assert found == alone(world)
    assert [len(items or ()) for items in found.values()] == [2, 2, 0]


@pytest.mark.parametrize("subject", ["Patient/q/_history/1", "http://else.example/Patient/q"])
def test_whose_is_not_plain_is_asked_of_each(subject: str) -> None:
    world = World(ward(subject))
    assert together(world) == alone(world)


def test_pages_are_read_on_and_too_much_is_asked_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort, "NEXT", 2)
    world = World(ward())
    found = together(world)
    assert world.searched == ["Condition"] * 2 and found == alone(world)
    monkeypatch.setattr(cohort, "MOST", 1)
    assert together(world) == found


def test_what_may_not_be_searched_is_told_as_to_one() -> None:
    world = World(ward(), scope="patient/Patient.rs")
    assert together(world) == alone(world) == {"p": None, "q": None, "r": None}


def test_only_what_is_permitted_is_shared() -> None:
    world = World(ward(), scope="patient/Patient.rs patient/Condition.rs")
    found = together(world)
    assert found == alone(world)
    assert len(found["p"] or ()) == 2 and not found["q"]
