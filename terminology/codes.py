"""Sets of codes: what a value set comes to.

A code of None stands for every code of its system, so that a value set of a whole system
needs no list of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias


class Code(NamedTuple):
    """A code of a system; ``code`` None: every code of it."""

    system: str
    code: str | None


Codes: TypeAlias = frozenset[Code]

Listing: TypeAlias = Callable[[str], Codes]
"""Every code of a system, one by one."""


def common(left: Codes, right: Codes) -> Codes:
    """What is in both."""
    return frozenset(_within(left, right)) | frozenset(_within(right, left))


def _within(some: Codes, others: Codes) -> Iterable[Code]:
    return (c for c in some if c in others or Code(c.system, None) in others)


def without(some: Codes, others: Codes, listing: Listing) -> Codes:
    """What is in ``some`` and not in ``others``; a whole system is listed if it loses codes."""
    whole = {c.system for c in others if c.code is None}
    losing = {c.system for c in others if c.code is not None}
    left: set[Code] = set()
    for code in some:
        if code.system in whole:
            continue
        left |= listing(code.system) if code.code is None and code.system in losing else {code}
    return frozenset(left) - others
