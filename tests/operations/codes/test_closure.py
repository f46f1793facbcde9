"""$closure: the table of a client grows step by step, and is its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.operations.codes.asking import CODE_SYSTEM, KINDS, post, put, refusal
from tests.serving import BACKENDS, Server, served

Json = dict[str, Any]


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path) as server:
        put(server, CODE_SYSTEM)
        yield server


NAME = {"name": "name", "valueString": "mine"}


def concepts(*codes: str, system: str = KINDS) -> list[Json]:
    return [{"name": "concept", "valueCoding": {"system": system, "code": c}} for c in codes]


def version(number: str) -> Json:
    return {"name": "version", "valueString": number}


def links(found: Json) -> set[tuple[str, str]]:
    """(below, above)"""
    assert found["resourceType"] == "ConceptMap"
    return {
        (element["code"], target["code"])
        for group in found.get("group", ())
        for element in group["element"]
        for target in element["target"]
        if target["equivalence"] == "subsumes" and group["source"] == group["target"] == KINDS
    }


def test_only_what_is_new_is_told(server: Server) -> None:
    begun = post(server, "$closure", NAME)
    assert (begun["version"], links(begun)) == ("0", set())
    first = post(server, "$closure", NAME, *concepts("heart", "lung"))
    assert (first["version"], links(first)) == ("1", set())
    second = post(server, "$closure", NAME, *concepts("disease", "infarct", "heart"))
    assert second["version"] == "2"
    assert links(second) == {
        ("heart", "disease"),
        ("lung", "disease"),
        ("infarct", "heart"),
        ("infarct", "disease"),
    }
    assert second["group"][0]["sourceVersion"] == "2" == second["group"][0]["targetVersion"]
    third = post(server, "$closure", NAME, *concepts("infarct"))
    assert (third["version"], links(third)) == ("3", set())


def test_a_client_that_missed_something_asks_again(server: Server) -> None:
    post(server, "$closure", NAME)
    told = [post(server, "$closure", NAME, *concepts(c)) for c in ("heart", "disease", "infarct")]
    for missed in range(4):
        again = post(server, "$closure", NAME, version(str(missed)))
        assert again["version"] == "3"
        assert links(again) == set().union(*(links(one) for one in told[missed:]))
    for wrong in ("4", "-1", "x"):
        outcome = post(server, "$closure", NAME, version(wrong), status=400)
        assert refusal(outcome)[0] == "value"


def test_it_begins_anew(server: Server) -> None:
    post(server, "$closure", NAME)
    post(server, "$closure", NAME, *concepts("heart", "disease"))
    assert post(server, "$closure", NAME)["version"] == "0"
    assert links(post(server, "$closure", NAME, *concepts("heart"))) == set()


def test_what_is_refused(server: Server) -> None:
    assert refusal(post(server, "$closure", NAME, *concepts("heart"), status=404))[0] == "not-found"
    post(server, "$closure", NAME)
    post(server, "$closure", NAME, *concepts("nothing"), status=404)
    post(server, "$closure", NAME, *concepts("heart", system="urn:x"), status=404)
    post(server, "$closure", NAME, version("0"), *concepts("heart"), status=400)
    empty = {"name": "concept", "valueCoding": {"code": "heart"}}
    post(server, "$closure", NAME, empty, status=400)
    assert post(server, "$closure", NAME, version("0"))["version"] == "0"
