"""The codes of a value set, as far as they can be told here.

A small value set is taken as a whole. One that is large, or of which a part needs a code system
that is not here, is asked about each code: what cannot be told is neither in nor out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from terminology.codes import WHOLE, Code, Codes
from terminology.compose import Composing
from terminology.concepts import Concepts
from terminology.service import Refused

AT_MOST: Final = 5000
"""Codes that are kept of one value set."""


class Members:
    """``url``: of the value set. ``codes`` None: to be asked one by one, for which ``candidates``
    are the systems of a code that states none. ``systems``: code systems that are in it whole.
    ``unknown``: why nothing is known of it, "" if something is.
    """

    def __init__(
        self,
        url: str,
        codes: Codes | None,
        systems: Mapping[str, Concepts | None],
        candidates: Iterable[str] = (),
        unknown: str = "",
    ) -> None:
        self.url = url
        self.candidates = tuple(dict.fromkeys(candidates))
        self.unknown = unknown
        self.listed = codes is not None
        self._codes = codes or {}
        self._systems = systems
        self._plain = {one.code for one in self._codes if one.code is not None}

    def has(self, system: str | None, code: str) -> bool | None:
        """Of a listed one. None: it cannot be told."""
        if not self.listed:
            return None
        return self._any(code) if system is None else self._of(system, code)

    def _any(self, code: str) -> bool | None:
        """Of an element that has no system: the code of any system of the value set."""
        if code in self._plain:
            return True
        found = [whole(concepts, code) for concepts in self._systems.values()]
        if True in found:
            return True
        return None if None in found else False

    def _of(self, system: str, code: str) -> bool | None:
        if Code(system, code) in self._codes:
            return True
        if Code(system, None) in self._codes:
            return whole(self._systems.get(system), code)
        return False


def whole(concepts: Concepts | None, code: str) -> bool | None:
    """Is it a code of a system that is in a value set as a whole?"""
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
        return Members(canonical, None, {}, unknown=refused.text)
    rows = value_set.get("compose", {}).get("include", ())
    candidates = [one["system"] for one in rows if "system" in one]
    try:
        codes = await work.members(value_set, canonical)
        systems = {one.system: await work.concepts(one.system) for one in codes if one.code is None}
    except Refused:
        return Members(canonical, None, {}, candidates)
    if len(codes) > AT_MOST:
        return Members(canonical, None, {}, candidates)
    return Members(canonical, codes, systems)


async def is_in(work: Composing, canonical: str, system: str, code: str) -> bool | None:
    """One code of a value set that is not listed. None: it cannot be told here."""
    try:
        value_set: Mapping[str, Any] = await work.resource("ValueSet", canonical)
        concepts = await work.concepts(system)
        known = code if concepts is None else concepts.find(code) or code
        said = await work.member(value_set, canonical, system, known)
        if said is WHOLE:
            return whole(concepts, code)
    except Refused:
        return None
    return said is not None
