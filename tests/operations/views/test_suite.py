"""All published cases of SQL on FHIR v2."""

from __future__ import annotations

from pathlib import Path

from tests.operations.views.suite import cases, fault, flipped

EXCEPTIONS: dict[str, str] = {}
"""Case -> why it does not hold, with an outside source."""

CAP = 0
"""Of the exceptions; it may only shrink."""


def test_every_case_holds(shared: Path) -> None:
    found = cases(shared / "conformance" / "sql-on-fhir")
    assert len(found) >= 73
    told = {case.id: fault(case) for case in found if case.id not in EXCEPTIONS}
    assert not {id_: text for id_, text in told.items() if text}


def test_exceptions_are_few_and_needed(shared: Path) -> None:
    assert len(EXCEPTIONS) <= CAP
    found = {case.id: case for case in cases(shared / "conformance" / "sql-on-fhir")}
    assert all(fault(found[id_]) for id_ in EXCEPTIONS if id_ in found)


def test_a_flipped_case_goes_red(shared: Path) -> None:
    for case in cases(shared / "conformance" / "sql-on-fhir"):
        assert fault(flipped(case)), case.id
