"""The epoch of definitions: a ledger row whose revision grows with every change of them.

What was compiled from definitions under one epoch holds until the next, in every process.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fhir_server.store.ledger import LedgerWrite

KIND: Final = "definitions"
EPOCH: Final = "epoch"
DEFINING: Final = frozenset(
    {"StructureDefinition", "ValueSet", "CodeSystem", "Questionnaire", "ConceptMap"}
)
"""Types whose resources say what is valid."""
MARK: Final = LedgerWrite(KIND, EPOCH, {})
SEARCHED: Final = "search-parameter"
CHANGES: Final = "changes"
PARAMETERS: Final = LedgerWrite(SEARCHED, CHANGES, {})
"""Tells every process that SearchParameters change; goes with what changes them."""


def changed(types: Iterable[str]) -> tuple[LedgerWrite, ...]:
    """What goes with a write, or an erase, of resources of these types."""
    return () if DEFINING.isdisjoint(types) else (MARK,)
