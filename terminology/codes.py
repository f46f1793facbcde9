"""Sets of codes: what a value set comes to.

A code of None stands for every code of its system, so that a value set of a whole system
needs no list of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias


class Code(NamedTuple):
    """A code of a system; ``code`` None: every code of it."""

    system: str
    code: str | None


class Member(NamedTuple):
    """What a value set says of a code of its own: ``ValueSet.compose.include.concept``."""

    display: str = ""
    designations: tuple[Mapping[str, Any], ...] = ()


PLAIN: Final = Member()
WHOLE: Final = Member()
"""Said of a code whose whole system is in the value set; it is this object and no other."""

Codes: TypeAlias = dict[Code, Member]
"""In the order of the value set."""

Listing: TypeAlias = Callable[[str], Iterable[str]]
"""Every code of a system, one by one."""


def common(left: Codes, right: Codes) -> Codes:
    """What is in both."""
    return _within(left, right) | _within(right, left)


def _within(some: Codes, others: Codes) -> Codes:
    return {
        code: said
        for code, said in some.items()
        if code in others or Code(code.system, None) in others
    }


def without(some: Codes, others: Codes, listing: Listing) -> Codes:
    """What is in ``some`` and not in ``others``; a whole system is listed if it loses codes."""
    whole = {c.system for c in others if c.code is None}
    losing = {c.system for c in others if c.code is not None}
    left: Codes = {}
    for code, said in some.items():
        if code.system in whole:
            continue
        if code.code is None and code.system in losing:
            for one in listing(code.system):
                left.setdefault(Code(code.system, one), PLAIN)
        else:
            left[code] = said
    return {code: said for code, said in left.items() if code not in others}
