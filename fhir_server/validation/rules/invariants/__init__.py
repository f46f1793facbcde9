"""Invariants written out in Python: rows of key and test, driven by the definitions.

The definitions say where an invariant applies and give its text; a row says how to test it.
Rows follow the published FHIRPath with its errata. Invariants without a row need FHIRPath
(or are tested elsewhere: ``ELSEWHERE``).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from fhir_server.definitions.elements import Constraint

from ..fault import Fault
from . import administrative, bundle, clinical, datatypes, definitional
from .values import Test

ROWS: Mapping[str, Test] = MappingProxyType(
    {
        **datatypes.ROWS,
        **bundle.ROWS,
        **clinical.ROWS,
        **administrative.ROWS,
        **definitional.ROWS,
    }
)
"""key -> test; where FHIR uses a key twice, path#key -> test."""

ELSEWHERE = frozenset({"ele-1", "dom-2", "dom-3", "dom-4", "dom-5", "ref-1", "txt-1", "txt-2"})
"""Tested by the structure itself and by the files contained, references and xhtml."""


class Invariant(NamedTuple):
    """An invariant at an element: its test, and the fault when that fails."""

    test: Test
    fault: Fault


def _row(path: str, key: str) -> Test | None:
    return ROWS.get(f"{path}#{key}") or ROWS.get(key)


def has_row(path: str, key: str) -> bool:
    """Is the invariant tested here?"""
    return _row(path, key) is not None


def invariant(path: str, constraint: Constraint) -> Invariant | None:
    """What tests an invariant at an element; None when it has no row, or only warns."""
    if constraint.severity != "error":
        return None
    test = _row(path, constraint.key)
    if test is None:
        return None
    return Invariant(test, Fault("invariant", f"{constraint.human.strip()} ({constraint.key})"))
