"""The canary: a mark in every string-like element of every resource type. None gets out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from maximal import DATES, NUMBERS, Maker

from fhir_server.definitions.registry import load
from fhir_server.formats.json import dumps
from fhir_server.model.exchange import Json
from operations.deid.engine import Deidentifier, profiles
from operations.deid.keys import ProjectKey
from operations.deid.run import Run

TYPES = sorted(load().resource_types)
YEAR = 2026

KEPT = {
    "Coding.system": "identifies the code system, if it has the form of a URI",
    "Coding.code": "what a researcher works with; a code has no blanks",
    "Quantity.system": "as Coding.system",
    "Quantity.code": "a unit of another system than UCUM; UCUM units are checked",
    "Age.system": "as Quantity",
    "Age.code": "as Quantity",
    "Count.system": "as Quantity",
    "Count.code": "as Quantity",
    "Distance.system": "as Quantity",
    "Distance.code": "as Quantity",
    "Duration.system": "as Quantity",
    "Duration.code": "as Quantity",
}
"""Where a mark may stay, and why. Everything else must go; whatever is listed must be real."""

FINER_THAN_A_YEAR = re.compile(r"\d{4}-\d{2}|\d{2}:\d{2}")


def shipped(code: str) -> Deidentifier:
    return next(p for p in profiles() if p.profile.code == code)


def safe_harbor() -> Deidentifier:
    return shipped("safe-harbor")


def instances(type_: str, valid: bool = False) -> Iterator[tuple[Maker, Json]]:
    definitions = load()
    for variant in range(Maker(definitions).variants(type_)):
        maker = Maker(definitions, variant, valid)
        yield maker, maker.resource(type_)


def survivors(maker: Maker, output: str) -> set[str]:
    """Where the marks were planted that are in the output, in any of their forms."""
    numbers = re.findall(r"CANARY(\d{6})|urn:oid:1\.2\.(\d{6})|-8000-000000(\d{6})", output)
    marks = {"CANARY" + "".join(groups) for groups in numbers}
    return {maker.planted[mark] for mark in marks if mark in maker.planted}


@cache
def kept_and_planted(type_: str) -> tuple[frozenset[str], frozenset[str]]:
    """Where marks of a type survived, and where they were planted."""
    found: set[str] = set()
    planted: set[str] = set()
    for maker, resource in instances(type_):
        output = dumps(safe_harbor().resource(resource, Run(YEAR))).decode()
        assert not FINER_THAN_A_YEAR.search(without_ids(output)), output
        assert "Q0FOQVJZ" not in output, "a mark in base64"
        found |= survivors(maker, output)
        planted |= set(maker.planted.values())
    return frozenset(found), frozenset(planted)


def without_ids(output: str) -> str:
    return re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "", output)


@pytest.mark.parametrize("type_", TYPES)
def test_no_mark_survives(type_: str) -> None:
    assert kept_and_planted(type_)[0] <= KEPT.keys()


PROJECT = {
    "research": KEPT,
    "limited": KEPT
    | {
        "Address.city": "45 CFR 164.514(e)(2): town or city may stay",
        "Address.postalCode": "as city",
    },
}
"""Where a mark may stay in the profiles of projects, without anything that cleans free text."""


@pytest.mark.parametrize("code", PROJECT)
def test_no_mark_survives_the_profiles_of_projects(code: str) -> None:
    """One variant of every type; the days of dates are others, or gone."""
    found: set[str] = set()
    for type_ in TYPES:
        maker, resource = next(iter(instances(type_)))
        run = Run(YEAR, key=ProjectKey("study", 1, b"k" * 32))
        output = dumps(shipped(code).resource(resource, run)).decode()
        assert "Q0FOQVJZ" not in output
        assert code == "limited" or DATES["date"] not in without_ids(output)
        found |= survivors(maker, output)
    assert found <= PROJECT[code].keys()
    assert set(PROJECT[code]) - set(KEPT) <= found


def test_every_string_like_element_of_every_type_was_planted() -> None:
    definitions = load()
    planted = {
        where
        for type_ in TYPES
        for maker, _ in instances(type_)
        for where in maker.planted.values()
    }
    wanted = set()
    for name, type_ in definitions.types.items():
        if type_.kind == "primitive-type" or type_.abstract:
            continue
        backbones = {
            path
            for path, element in type_.elements.items()
            if path != name and any(t.code in ("BackboneElement", "Element") for t in element.types)
        }
        for content in {name} | backbones:
            for key, (_, ref) in definitions.members(content).items():
                primitive = definitions.type(ref.code).kind == "primitive-type"
                if primitive and ref.code not in (NUMBERS | DATES):
                    wanted.add(f"{content}.{key}")
    assert len(TYPES) == 146
    assert len(wanted) > 2000
    assert wanted <= planted


def test_the_kept_table_has_no_idle_row() -> None:
    found = frozenset().union(*(kept_and_planted(type_)[0] for type_ in TYPES))
    assert found == KEPT.keys()


def test_the_canary_sings() -> None:
    """With a profile that keeps everything the marks are all there: the search finds them."""
    maker = Maker(load())
    output = dumps(maker.resource("Patient")).decode()
    assert len(survivors(maker, output)) > 100


def test_the_docs_have_the_same_table() -> None:
    page = Path(__file__).parents[3] / "ig" / "pagecontent" / "deidentification.md"
    table = page.read_text(encoding="utf-8").split("<!-- kept -->")[1].split("<!-- /kept -->")[0]
    assert dict(re.findall(r"^\| `(.+?)` \| (.+?) \|$", table, re.MULTILINE)) == KEPT
