"""Rules: identifiers that are known by their form, one file per family, one row per rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from operations.deid.text.rules.addresses import addresses
from operations.deid.text.rules.contacts import contacts
from operations.deid.text.rules.dates import ages, dates
from operations.deid.text.rules.identifiers import identifiers
from operations.deid.text.rules.people import people
from operations.deid.text.spans import Finder, Span

RULES: Final[tuple[Finder, ...]] = (contacts, identifiers, dates, ages, addresses, people)


def found(text: str) -> Iterator[Span]:
    """What any rule finds, overlapping."""
    for rule in RULES:
        yield from rule(text)
