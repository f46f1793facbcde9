"""What a value set consists of: https://hl7.org/fhir/R4/valueset.html#compositions

What cannot be composed here is refused by name, never taken for empty.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from terminology.codes import PLAIN, WHOLE, Code, Codes, Member, common, without
from terminology.concepts import ALL, Concepts, Listed, Recent
from terminology.filters import filtered, passes
from terminology.implicit import implied
from terminology.service import ANY_VERSION, Refused, Source, Versions
from terminology.supplemented import Supplemented

T = TypeVar("T")

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
        self._fetched: dict[tuple[str, str], Mapping[str, Any] | None] = {}
        self._collected = 0
        self._systems: dict[str, Concepts | None] = {}
        self._stated: dict[str, str] = {}
        self._supplements: dict[str, dict[str, Listed]] = {}

    async def value_set(self, canonical: str) -> Codes:
        """The members of a value set that is known here."""
        return await self.members(await self.resource("ValueSet", canonical), canonical)

    async def members(self, value_set: Mapping[str, Any], canonical: str) -> Codes:
        return await self._within(value_set, canonical, self._composed, lambda codes: codes)

    async def member(
        self, value_set: Mapping[str, Any], canonical: str, system: str, code: str
    ) -> Member | None:
        """What the value set says of one code, None if the code is not in it; however many codes
        there are. What cannot be composed matters only if the answer depends on it."""

        async def judged(compose: Mapping[str, Any]) -> Member | None:
            return await self._judged(compose, Code(system, code))

        def listed(codes: Codes) -> Member | None:
            return codes.get(Code(system, code))

        return await self._within(value_set, canonical, judged, listed)

    async def _within(
        self,
        value_set: Mapping[str, Any],
        canonical: str,
        composed: Callable[[Mapping[str, Any]], Awaitable[T]],
        listed: Callable[[Codes], T],
    ) -> T:
        """From the definition, or from the expansion that stands in for it."""
        if canonical in self._open:
            raise _refused(canonical, "the value set contains itself")
        await self._supplement(value_set)
        compose = value_set.get("compose")
        if compose is None:
            return listed(_listed(value_set, canonical))
        self._open.append(canonical)
        try:
            return await composed(compose)
        except Refused as refused:
            if refused.code != "not-supported" or "expansion" not in value_set:
                raise
            return listed(_listed(value_set, canonical))
        finally:
            self._open.pop()

    async def _supplement(self, value_set: Mapping[str, Any]) -> None:
        """What the value set's supplements say is known from now on."""
        for one in value_set.get("extension", ()):
            if one.get("url") != SUPPLEMENT:
                continue
            named = str(one.get("valueCanonical", ""))
            found = await self.resource("CodeSystem", named)
            system, _, _ = str(found.get("supplements", "")).partition("|")
            if found.get("content") != "supplement" or not system:
                raise _refused(named, "it is no supplement")
            known = self._supplements.setdefault(system, {})
            if named not in known:
                known[named] = self._recent.of(found)
                self._systems = {
                    name: concepts
                    for name, concepts in self._systems.items()
                    if name.partition("|")[0] != system
                }

    async def _judged(self, compose: Mapping[str, Any], code: Code) -> Member | None:
        said = await self._any(compose.get("include", ()), code)
        if said is None or await self._any(compose.get("exclude", ()), code) is not None:
            return None
        if compose.get("inactive") is False and code.code is not None:
            concepts = await self.concepts(code.system)
            if concepts and code.code in concepts.by_code and concepts.inactive(code.code):
                return None
        return said

    async def _any(self, parts: Iterable[Mapping[str, Any]], code: Code) -> Member | None:
        """What the first part with the code says; a part that cannot be composed is refused only
        if no other has it."""
        unknown: Refused | None = None
        for part in parts:
            try:
                said = await self._said_by(part, code)
            except Refused as refused:
                unknown = unknown or refused
                continue
            if said is not None:
                return said
        if unknown is not None:
            raise unknown
        return None

    async def _said_by(self, part: Mapping[str, Any], code: Code) -> Member | None:
        said: Member | None = None
        if "system" in part:
            self._state(part["system"], part.get("version", ""))
            said = await self._in_system(part, code) if part["system"] == code.system else None
            if said is None:
                return None
        elif "valueSet" not in part:
            raise Refused("invalid", "a value set includes neither a system nor a value set")
        for url in part.get("valueSet", ()):
            value_set = await self.resource("ValueSet", url)
            other = await self.member(value_set, url, code.system, code.code or "")
            if other is None:
                return None
            said = said or other
        return said

    async def _in_system(self, part: Mapping[str, Any], code: Code) -> Member | None:
        """Of the part's own system."""
        if "concept" in part:
            listed = (one for one in part["concept"] if one["code"] == code.code)
            return next((_said(one) for one in listed), None)
        if "filter" not in part:
            return WHOLE
        concepts = await self.whole(code.system)
        known = code.code is not None and code.code in concepts.by_code
        passed = known and all(passes(concepts, f, code.code or "") for f in part["filter"])
        return PLAIN if passed else None

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
        self._state(system, part.get("version", ""))
        if "concept" in part:
            return {Code(system, one["code"]): _said(one) for one in part["concept"]}
        if "filter" not in part:
            return {Code(system, None): PLAIN}
        concepts = await self.whole(system)
        alone = MOST_MEMBERS if len(part["filter"]) == 1 else ALL
        codes = [filtered(concepts, one, alone) for one in part["filter"]]
        kept = set.intersection(*codes)
        return {Code(system, code): PLAIN for code in concepts.ordered(kept)}

    def _state(self, system: str, stated: str) -> None:
        if self._stated.setdefault(system, stated) != stated:
            raise _refused(system, "two versions of the code system are wanted at once")

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
            elif concepts.some_inactive():
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
            usable = await self._usable(found) if found else None
            supplements = self._supplements.get(system)
            if usable is not None and supplements:
                usable = Supplemented(usable, tuple(supplements.values()))
            self._systems[canonical] = usable
        self._systems[system] = concepts = self._systems[canonical]
        return concepts

    async def _usable(self, code_system: Mapping[str, Any]) -> Concepts | None:
        if code_system.get("content") == "not-present":
            return await self._source.filed(code_system)
        return None if code_system.get("content") == "supplement" else self._recent.of(code_system)

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
        if found is None and type_ == "ValueSet":
            found = implied(canonical)
        if found is None:
            raise Refused("not-found", f"the {KINDS[type_]} {canonical[:200]} is not known here")
        return found

    async def _fetch(self, type_: str, canonical: str) -> Mapping[str, Any] | None:
        key = (type_, canonical)
        if key not in self._fetched:
            if len(self._fetched) == MOST_IMPORTS:
                raise Refused("too-costly", f"{canonical[:200]}: too many value sets")
            url, _, version = canonical.partition("|")
            self._fetched[key] = await self._source.find(type_, url, version)
        return self._fetched[key]


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
