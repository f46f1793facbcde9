"""One contract for every store: of many codes, most of which nothing bears, on one record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fhir_server.search import plan
from fhir_server.search.plan import Scan, Search
from fhir_server.search.values import TokenValue
from tests.store.building import Bench, to, walk

LOINC = "http://loinc.org"
INDEXES = ("code", "component-code")


def many(*codes: str) -> plan.Any:
    """Each code in each index, as models ask."""
    return plan.Any(tuple(plan.TokenIs(i, LOINC, code) for code in codes for i in INDEXES))


def record(patient: str, *parts: plan.Predicate) -> Search:
    about = plan.ReferenceIs("subject", "Patient", patient)
    where = plan.All((plan.InPatient((patient,)), about, *parts))
    return Search((Scan("Observation", where),), count=3, total="none")


def token(code: str, index: str = "code") -> TokenValue:
    return TokenValue(index, LOINC, code)


def put(bench: Bench, name: str, patient: str, *tokens: TokenValue, date: int = 0) -> None:
    found: tuple[Any, ...] = (*tokens, to("subject", f"Patient/{patient}"))
    bench.put(f"Observation/{name}", *found, date=date, patients=(patient,))


@pytest.fixture
def filled(backend: Bench) -> Bench:
    for number in range(8):
        for patient in "pq":
            put(backend, f"{patient}{number}", patient, token(str(number % 4)), date=number)
    return backend


def found(bench: Bench, search: Search) -> list[str]:
    return [name.removeprefix("Observation/") for name in walk(bench, search)[0]]


def test_only_what_is_there_is_found_and_in_order(filled: Bench) -> None:
    wanted = many("0", "2", "none", "neither")
    assert found(filled, record("p", wanted)) == ["p6", "p4", "p2", "p0"]
    assert found(filled, record("q", wanted)) == ["q6", "q4", "q2", "q0"]
    assert found(filled, record("r", wanted)) == []


def test_codes_that_nothing_bears_find_nothing(filled: Bench) -> None:
    assert found(filled, record("p", many("7", "8", "9"))) == []
    outside = record("p", plan.Not(many("7", "8", "9")))
    assert len(found(filled, outside)) == 8
    assert found(filled, record("p", plan.Not(many("0", "1", "2")))) == ["p7", "p3"]


def test_a_part_counts_as_the_whole(filled: Bench) -> None:
    put(filled, "panel", "p", token("x"), token("8", "component-code"), date=20)
    put(filled, "other", "q", token("x"), token("2", "component-code"), date=21)
    assert found(filled, record("p", many("8", "0", "9"))) == ["panel", "p4", "p0"]
    assert found(filled, record("q", many("2", "8", "9"))) == ["other", "q6", "q2"]


def test_what_comes_and_goes_is_seen(filled: Bench) -> None:
    search = record("p", many("5", "8", "9"))
    assert found(filled, search) == []
    put(filled, "new", "p", token("5"), date=30)
    assert found(filled, search) == ["new"]
    put(filled, "part", "p", token("x"), token("9", "component-code"), date=31)
    assert found(filled, search) == ["part", "new"]
    filled.delete("Observation/new")
    put(filled, "part", "p", token("x"), date=31)
    assert found(filled, search) == []


def test_spellings_and_any_system_are_alternatives_too(filled: Bench) -> None:
    put(filled, "any", "p", TokenValue("code", "urn:other", "k"), date=40)
    alternatives = (
        plan.TokenIs("code", None, "k"),
        plan.Any((plan.TokenIs("code", LOINC, "3"), plan.TokenIs("code", LOINC, "three"))),
        *many("8", "9").parts,
    )
    assert found(filled, record("p", plan.Any(alternatives))) == ["any", "p7", "p3"]
    assert found(filled, record("p", plan.Any(alternatives[1:]))) == ["p7", "p3"]


def test_several_patients_and_no_patient(filled: Bench) -> None:
    search = record("p", many("0", "8", "9"))
    (scan,) = search.scans
    both = plan.All((plan.InPatient(("p", "q")), many("0", "8", "9")))
    assert sorted(found(filled, replace(search, scans=(replace(scan, where=both),)))) == [
        *("p0", "p4", "q0", "q4")
    ]
    everybody = replace(scan, where=many("0", "8", "9"))
    assert len(found(filled, replace(search, scans=(everybody,)))) == 4
