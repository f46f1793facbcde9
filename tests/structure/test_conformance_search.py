"""Every conformance case of search has a test of its number, over HTTP, on every store.

The numbers are those of the list of what a FHIR tester checks: 25 to 57 are search, 69 is
``$everything``. A test is named ``test_c44_…`` (or ``test_c28_c29_…``), or has its rows in a
table ``CASES`` whose keys are the numbers.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ("tests/conformance", "tests/operations/record")
EVERY_STORE = {"server", "secured", "record", "many", "servers"}
"""Fixtures that serve each store in turn, or all of them together."""
SEARCH = {*range(25, 58), 69}
NUMBERED = re.compile(r"test((?:_c\d+)+)_")


def modules() -> Iterator[ModuleType]:
    for place in PLACES:
        for path in sorted((ROOT / place).glob("test_*.py")):
            yield importlib.import_module(".".join((*path.relative_to(ROOT).parts[:-1], path.stem)))


def covered(found: ModuleType) -> set[int]:
    """The numbers of one file that are asked of every store."""
    numbers: set[int] = set(getattr(found, "CASES", ()))
    for name, test in inspect.getmembers(found, inspect.isfunction):
        match = NUMBERED.match(name)
        if match is not None and EVERY_STORE & set(inspect.signature(test).parameters):
            numbers |= {int(number) for number in match[1].split("_c")[1:]}
    return numbers


def test_each_case_of_search_has_a_test() -> None:
    there = {number for found in modules() for number in covered(found)}
    assert there >= SEARCH, f"without a test: {sorted(SEARCH - there)}"


@pytest.mark.parametrize("number", [26, 44, 69])
def test_a_case_without_a_test_is_noticed(number: int) -> None:
    """The tables and names are really read: without them the number is missing."""
    bearing = [found for found in modules() if number in covered(found)]
    assert bearing
    for found in bearing:
        kept = {name: value for name, value in vars(found).items() if f"c{number}" not in name}
        kept["CASES"] = {n: rows for n, rows in getattr(found, "CASES", {}).items() if n != number}
        twin = ModuleType(found.__name__)
        vars(twin).update(kept)
        assert number not in covered(twin)
