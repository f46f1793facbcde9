"""The codes of a value set, as far as they can be told here.

A part of a value set whose code system is not here leaves its codes open: neither in nor out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from terminology.codes import Code, Codes
from terminology.compose import Composing
from terminology.concepts import Concepts
from terminology.service import Refused

_PARTLY: Final = frozenset({"not-supported", "not-found", "too-costly"})
EVERY: Final = "*"


class Members:
    """``codes``: those that are listed. ``systems``: the code systems that are in it as a whole.
    ``open_``: systems of which it cannot be told what is in it, ``EVERY`` for any.
    """

    def __init__(
        self,
        codes: Codes,
        systems: Mapping[str, Concepts | None],
        open_: Mapping[str, str],
        *,
        excluding: bool = False,
    ) -> None:
        self._codes = codes
        self._systems = systems
        self._open = open_
        self._excluding = excluding
        self._plain = {one.code for one in codes if one.code is not None}
        self.unknown = next(iter(open_.values()), "")

    def has(self, system: str | None, code: str) -> bool | None:
        found = self._any(code) if system is None else self._of(system, code)
        return None if found and self._excluding else found

    def _any(self, code: str) -> bool | None:
        """Of an element that has no system: the code of any system of the value set."""
        if code in self._plain:
            return True
        found = [self._whole(system, code) for system in self._systems]
        if True in found:
            return True
        return None if None in found or self._open else False

    def _of(self, system: str, code: str) -> bool | None:
        if Code(system, code) in self._codes:
            return True
        if Code(system, None) in self._codes:
            return self._whole(system, code)
        return None if system in self._open or EVERY in self._open else False

    def _whole(self, system: str, code: str) -> bool | None:
        concepts = self._systems.get(system)
        if concepts is None:
            return None
        if concepts.find(code) is not None:
            return True
        return False if concepts.complete else None


async def members(work: Composing, canonical: str) -> Members:
    """Of a value set that is named by its canonical url."""
    try:
        value_set = await work.resource("ValueSet", canonical)
    except Refused as refused:
        return Members({}, {}, {EVERY: refused.text})
    try:
        return await _known(work, await work.members(value_set, canonical), {}, excluding=False)
    except Refused as refused:
        if refused.code not in _PARTLY or "compose" not in value_set:
            return Members({}, {}, {EVERY: refused.text})
    return await _partly(work, value_set, canonical)


async def _partly(work: Composing, value_set: Mapping[str, Any], canonical: str) -> Members:
    compose = value_set["compose"]
    codes: Codes = {}
    open_: dict[str, str] = {}
    for part in compose.get("include", ()):
        try:
            codes |= await work.members({"compose": {"include": [part]}}, canonical)
        except Refused as refused:
            whole = "valueSet" in part and "system" not in part
            open_[EVERY if whole else part.get("system", EVERY)] = refused.text
    return await _known(work, codes, open_, excluding="exclude" in compose)


async def _known(
    work: Composing, codes: Codes, open_: Mapping[str, str], *, excluding: bool
) -> Members:
    systems = {one.system: await work.concepts(one.system) for one in codes if one.code is None}
    return Members(codes, systems, open_, excluding=excluding)
