"""What a value set consists of: https://hl7.org/fhir/R4/valueset.html#compositions

What cannot be composed here is refused by name, never taken for empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from terminology.codes import PLAIN, Code, Codes, Member, common, without
from terminology.concepts import Concepts, Recent
from terminology.filters import filtered
from terminology.service import ANY_VERSION, Refused, Source, Versions

MOST_IMPORTS: Final = 50
"""Resources that one question may need."""
MOST_MEMBERS: Final = 50_000
"""Codes that one question may collect."""
SUPPLEMENT: Final = "http://hl7.org/fhir/StructureDefinition/valueset-supplement"


class Composing:
    """One question: what was fetched for it, and which value sets are being composed.

    A value set whose definition needs a code system that is not here is taken as its own
    expansion, if it bears all of it. Raises Refused: not-found, not-supported, too-costly,
    business-rule.
    """

    def __init__(self, source: Source, recent: Recent, versions: Versions = ANY_VERSION) -> None:
        self._source = source
        self._recent = recent
        self._versions = versions
        self._open: list[str] = []
        self._fetched = 0
        self._collected = 0
        self._systems: dict[str, Concepts | None] = {}
        self._stated: dict[str, str] = {}

    async def value_set(self, canonical: str) -> Codes:
        """The members of a value set that is known here."""
        return await self.members(await self.resource("ValueSet", canonical), canonical)

    async def members(self, value_set: Mapping[str, Any], canonical: str) -> Codes:
        if canonical in self._open:
            raise _refused(canonical, "the value set contains itself")
        if any(e.get("url") == SUPPLEMENT for e in value_set.get("extension", ())):
            raise _refused(canonical, "supplements are not supported")
        compose = value_set.get("compose")
        if compose is None:
            return _listed(value_set, canonical)
        self._open.append(canonical)
        try:
            return await self._composed(compose)
        except Refused as refused:
            if refused.code != "not-supported" or "expansion" not in value_set:
                raise
            return _listed(value_set, canonical)
        finally:
            self._open.pop()

    async def _composed(self, compose: Mapping[str, Any]) -> Codes:
        included: Codes = {}
        for part in compose.get("include", ()):
            for code, said in (await self._part(part)).items():
                included.setdefault(code, said)
        excluded: Codes = {}
        for part in compose.get("exclude", ()):
            excluded |= await self._part(part)
        if excluded:
            losing = {c.system for c in excluded if c.code is not None}
            for system in sorted(losing & {c.system for c in included if c.code is None}):
                await self.whole(system)
            included = without(included, excluded, self._codes)
        return await self._active(included) if compose.get("inactive") is False else included

    async def _part(self, part: Mapping[str, Any]) -> Codes:
        """What is in the system's part and in every imported value set."""
        sets = [await self.value_set(url) for url in part.get("valueSet", ())]
        if "system" in part:
            sets.append(await self._of_system(part["system"], part))
        if not sets:
            raise Refused("invalid", "a value set includes neither a system nor a value set")
        codes = sets[-1]
        for other in sets[:-1]:
            codes = common(codes, other)
        self._collected += len(codes)
        if self._collected > MOST_MEMBERS:
            raise Refused("too-costly", f"the value set collects more than {MOST_MEMBERS} codes")
        return codes

    async def _of_system(self, system: str, part: Mapping[str, Any]) -> Codes:
        stated = part.get("version", "")
        if self._stated.setdefault(system, stated) != stated:
            raise _refused(system, "two versions of the code system are wanted at once")
        if "concept" in part:
            return {Code(system, one["code"]): _said(one) for one in part["concept"]}
        if "filter" not in part:
            return {Code(system, None): PLAIN}
        concepts = await self.whole(system)
        codes = [filtered(concepts, one) for one in part["filter"]]
        kept = set.intersection(*codes)
        return {Code(system, code): PLAIN for code in concepts.by_code if code in kept}

    async def _active(self, codes: Codes) -> Codes:
        """Without what is not to be used any more; a whole system is listed if it holds some."""
        found: Codes = {}
        for code, said in codes.items():
            concepts = await self.concepts(code.system)
            if concepts is None:
                found[code] = said
            elif code.code is not None:
                if not (code.code in concepts.by_code and concepts.inactive(code.code)):
                    found[code] = said
            elif any(concepts.inactive(one) for one in concepts.by_code):
                listed = (one for one in concepts.by_code if not concepts.inactive(one))
                found |= {Code(code.system, one): PLAIN for one in listed}
            else:
                found[code] = said
        return found

    def _codes(self, system: str) -> Iterable[str]:
        concepts = self._systems[system]
        return concepts.by_code if concepts is not None else ()

    async def whole(self, system: str) -> Concepts:
        """The code system, if every code of it is here."""
        concepts = await self.concepts(system)
        if concepts is None or not concepts.complete:
            raise _refused(system, "the code system is not on this server as a whole")
        return concepts

    async def concepts(self, system: str, version: str = "") -> Concepts | None:
        """The code system as far as it is here, in the version that was stated."""
        stated = version or self._stated.get(system, "")
        wanted = self._versions.of(system, stated)
        canonical = f"{system}|{wanted}" if wanted else system
        if canonical not in self._systems:
            found = await self._fetch("CodeSystem", canonical)
            usable = found is not None and found.get("content") not in ("not-present", "supplement")
            self._systems[canonical] = self._recent.of(found) if found and usable else None
        self._systems[system] = concepts = self._systems[canonical]
        return concepts

    def versions_used(self) -> list[str]:
        """system|version of the code systems that were looked into."""
        used = {c.canonical for c in self._systems.values() if c is not None and c.version}
        return sorted(used)

    def stated(self, system: str) -> str:
        """The version that the value set states of a system; "" if it leaves it open."""
        return self._stated.get(system, "")

    def give(self, code_system: Mapping[str, Any]) -> Concepts:
        """A code system to be taken instead of what the source has under its url."""
        given = self._recent.of(code_system)
        self._systems[given.url] = self._systems[given.canonical] = given
        return given

    async def resource(self, type_: str, canonical: str) -> Mapping[str, Any]:
        """Raises Refused (not-found)."""
        found = await self._fetch(type_, canonical)
        if found is None:
            raise Refused("not-found", f"the {KINDS[type_]} {canonical[:200]} is not known here")
        return found

    async def _fetch(self, type_: str, canonical: str) -> Mapping[str, Any] | None:
        self._fetched += 1
        if self._fetched > MOST_IMPORTS:
            raise Refused("too-costly", f"{canonical[:200]}: too many value sets")
        url, _, version = canonical.partition("|")
        return await self._source.find(type_, url, version)


KINDS: Final = {
    "CodeSystem": "code system",
    "ValueSet": "value set",
    "ConceptMap": "concept map",
}


def _said(one: Mapping[str, Any]) -> Member:
    display, designations = one.get("display", ""), tuple(one.get("designation", ()))
    return Member(display, designations) if display or designations else PLAIN


def _listed(value_set: Mapping[str, Any], canonical: str) -> Codes:
    """A value set that bears only its expansion, all of it."""
    expansion = value_set.get("expansion")
    if expansion is None:
        raise _refused(canonical, "the value set has no content")
    codes: Codes = {}
    stack = list(reversed(expansion.get("contains", ())))
    listed = 0
    while stack:
        one = stack.pop()
        listed += 1
        if "code" in one and not one.get("abstract", False):
            codes.setdefault(Code(one.get("system", ""), one["code"]), _said(one))
        stack += reversed(one.get("contains", ()))
    if expansion.get("offset", 0) or expansion.get("total", listed) > listed:
        raise _refused(canonical, "the value set bears only a part of its expansion")
    return codes


def _refused(canonical: str, why: str) -> Refused:
    return Refused("not-supported", f"{canonical[:200]} cannot be expanded: {why}")
