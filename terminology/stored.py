"""Answers from the CodeSystems and ValueSets of this server, and from FHIR's own value sets.

Expansion: https://hl7.org/fhir/R4/valueset.html#compositions. What cannot be expanded here is
refused by name, never taken for empty.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from fhir_server.definitions.registry import Definitions
from fhir_server.model.problem import BadRequest
from terminology.codes import Code, Codes, common, without
from terminology.hierarchy import Hierarchy

MOST_CODES: Final = 1000
"""A search by more codes than this is refused."""
MOST_IMPORTS: Final = 50
"""Value sets and code systems that one question may need."""

Find: TypeAlias = Callable[[str, str, str], Awaitable[Mapping[str, Any] | None]]
"""(type, url, version or "") -> the resource; for ValueSet/id the url is that."""


class Question(NamedTuple):
    """``about``: the value set (``members``) or the code system of ``code``. ``case``: is it
    case-sensitive? Then the answer is the system, else it is empty."""

    kind: Literal["members", "below", "above", "case"]
    about: str
    code: str = ""


class Unloaded(Exception):
    """A question whose answer has to be fetched first."""

    def __init__(self, question: Question) -> None:
        super().__init__(f"not loaded: {question}")
        self.question = question


class Known:
    """The answers so far, for criteria that are read at once: another question raises Unloaded."""

    def __init__(self) -> None:
        self._answers: dict[Question, tuple[Code, ...]] = {}

    def learn(self, question: Question, answer: tuple[Code, ...]) -> None:
        self._answers[question] = answer

    def _of(self, question: Question) -> tuple[Code, ...]:
        if question not in self._answers:
            raise Unloaded(question)
        return self._answers[question]

    def members(self, value_set: str) -> tuple[Code, ...]:
        return self._of(Question("members", value_set))

    def below(self, system: str, code: str) -> tuple[Code, ...]:
        return self._of(Question("below", system, code))

    def above(self, system: str, code: str) -> tuple[Code, ...]:
        return self._of(Question("above", system, code))


class StoredTerminology:
    """Answers questions; every answer is read afresh."""

    def __init__(self, find: Find, definitions: Definitions) -> None:
        self._find = find
        self._definitions = definitions

    async def answer(self, question: Question) -> tuple[Code, ...]:
        """In order of system and code. Raises BadRequest: unknown, not expandable, too large."""
        work = _Work(self._find, self._definitions)
        if question.kind == "case":
            system = await self._find("CodeSystem", question.about, "")
            matters = system is not None and system.get("caseSensitive") is True
            return (Code(question.about, None),) if matters else ()
        if question.kind == "members":
            codes = await work.value_set(question.about)
        else:
            codes = await work.related(question)
        if len(codes) > MOST_CODES:
            raise BadRequest(
                f"{question.about[:200]}: more than {MOST_CODES} codes", code="too-costly"
            )
        return tuple(sorted(codes, key=lambda c: (c.system, c.code or "")))


class _Work:
    """One question: what was fetched for it, and which value sets are being expanded."""

    def __init__(self, find: Find, definitions: Definitions) -> None:
        self._find = find
        self._definitions = definitions
        self._open: list[str] = []
        self._fetched = 0
        self._systems: dict[str, Hierarchy] = {}

    async def related(self, question: Question) -> Codes:
        hierarchy = await self._hierarchy(question.about)
        if question.code not in hierarchy.concepts:
            raise BadRequest(
                f"{question.code[:100]!r} is not a code of {question.about[:200]}",
                code="code-invalid",
            )
        find = hierarchy.below if question.kind == "below" else hierarchy.above
        return _of(question.about, find(question.code))

    async def value_set(self, canonical: str) -> Codes:
        if canonical in self._open:
            raise _refused(canonical, "the value set contains itself")
        found = await self._fetch("ValueSet", canonical)
        if found is None:
            return self._defined(canonical)
        self._open.append(canonical)
        compose = found.get("compose")
        codes = _listed(found, canonical) if compose is None else await self._composed(compose)
        self._open.pop()
        return codes

    def _defined(self, canonical: str) -> Codes:
        """A value set that comes with FHIR itself."""
        systems = self._definitions.value_set_systems(canonical.partition("|")[0])
        if systems is None:
            raise BadRequest(f"the value set {canonical[:200]} is not known here", code="not-found")
        return frozenset(Code(system, code) for system, some in systems.items() for code in some)

    async def _composed(self, compose: Mapping[str, Any]) -> Codes:
        included: Codes = frozenset()
        for part in compose.get("include", ()):
            included |= await self._part(part)
        excluded: Codes = frozenset()
        for part in compose.get("exclude", ()):
            excluded |= await self._part(part)
        if not excluded:
            return included
        losing = {c.system for c in excluded if c.code is not None}
        for system in sorted(losing & {c.system for c in included if c.code is None}):
            await self._hierarchy(system)
        return without(included, excluded, lambda s: _of(s, self._systems[s].concepts))

    async def _part(self, part: Mapping[str, Any]) -> Codes:
        """What is in the system's part and in every imported value set."""
        sets = [await self.value_set(url) for url in part.get("valueSet", ())]
        if "system" in part:
            sets.append(await self._of_system(part["system"], part))
        if not sets:
            raise BadRequest("a value set includes neither a system nor a value set")
        codes = sets[0]
        for other in sets[1:]:
            codes = common(codes, other)
        return codes

    async def _of_system(self, system: str, part: Mapping[str, Any]) -> Codes:
        if "concept" in part:
            return _of(system, [c["code"] for c in part["concept"]])
        if "filter" not in part:
            return frozenset({Code(system, None)})
        hierarchy = await self._hierarchy(system)
        codes = set(hierarchy.concepts)
        for one in part["filter"]:
            codes &= _filtered(hierarchy, one, system)
        return _of(system, codes)

    async def _hierarchy(self, system: str) -> Hierarchy:
        known = self._systems.get(system)
        if known is None:
            found = await self._fetch("CodeSystem", system)
            if found is None or found.get("content") != "complete":
                raise _refused(system, "the code system is not on this server as a whole")
            known = self._systems[system] = Hierarchy(found)
        return known

    async def _fetch(self, type_: str, canonical: str) -> Mapping[str, Any] | None:
        self._fetched += 1
        if self._fetched > MOST_IMPORTS:
            raise BadRequest(f"{canonical[:200]}: too many value sets", code="too-costly")
        url, _, version = canonical.partition("|")
        return await self._find(type_, url, version)


def _of(system: str, codes: Any) -> Codes:
    return frozenset(Code(system, code) for code in codes)


def _listed(value_set: Mapping[str, Any], canonical: str) -> Codes:
    """A value set that bears only its expansion, all of it."""
    expansion = value_set.get("expansion")
    if expansion is None:
        raise _refused(canonical, "the value set has no content")
    codes: set[Code] = set()
    stack = list(expansion.get("contains", ()))
    listed = 0
    while stack:
        one = stack.pop()
        listed += 1
        if "code" in one and not one.get("abstract", False):
            codes.add(Code(one.get("system", ""), one["code"]))
        stack += one.get("contains", ())
    if expansion.get("offset", 0) or expansion.get("total", listed) > listed:
        raise _refused(canonical, "the value set bears only a part of its expansion")
    return frozenset(codes)


def _filtered(hierarchy: Hierarchy, one: Mapping[str, Any], system: str) -> set[str]:
    """https://hl7.org/fhir/R4/valueset-filter-operator.html"""
    name, op, value = one.get("property", ""), one.get("op", ""), one.get("value", "")
    every = set(hierarchy.concepts)
    on_concept = name in ("concept", "code")
    match op:
        case "is-a" if on_concept:
            return hierarchy.below(value) & every
        case "descendent-of" if on_concept:
            return (hierarchy.below(value) - {value}) & every
        case "is-not-a" if on_concept:
            return every - hierarchy.below(value)
        case "generalizes" if on_concept:
            return hierarchy.above(value) & every
        case "=" if on_concept:
            return {value} & every
        case "in" if on_concept:
            return {part.strip() for part in value.split(",")} & every
        case "not-in" if on_concept:
            return every - {part.strip() for part in value.split(",")}
        case "=":
            return {c for c, concept in hierarchy.concepts.items() if _has(concept, name, value)}
        case "exists":
            having = {c for c, concept in hierarchy.concepts.items() if _has(concept, name, None)}
            return having if value == "true" else every - having
    raise _refused(system, f"the filter {name[:40]!r} {op[:20]!r} is not supported")


def _has(concept: Mapping[str, Any], name: str, value: str | None) -> bool:
    """Whether a concept has the property, with this value if one is asked for."""
    for found in concept.get("property", ()):
        if found.get("code") == name:
            text = next((v for k, v in found.items() if k.startswith("value")), None)
            shown = text.get("code") if isinstance(text, dict) else text
            shown = str(shown).lower() if isinstance(shown, bool) else str(shown)
            if value is None or shown == value:
                return True
    return False


def _refused(canonical: str, why: str) -> BadRequest:
    return BadRequest(f"{canonical[:200]} cannot be expanded: {why}", code="not-supported")
