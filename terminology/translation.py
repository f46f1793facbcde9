"""Translations by ConceptMaps: https://hl7.org/fhir/R4/conceptmap-operation-translate.html"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from terminology.service import Coded, Json, Refused, Source

NO_MATCH: Final = frozenset({"unmatched", "disjoint"})
"""Equivalences that say that there is no translation."""

REVERSED: Final[Mapping[str, str]] = {
    "wider": "narrower",
    "narrower": "wider",
    "subsumes": "specializes",
    "specializes": "subsumes",
}
"""What an equivalence is called from the other side."""

MOST_STEPS: Final = 10
"""Maps that one translation may be sent on to."""


class Match(NamedTuple):
    """``source``: canonical of the map. ``products``: ConceptMap's own rows."""

    equivalence: str
    concept: Coded
    source: str
    products: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """``source``, ``target``: value sets; ``system``: the code system of the translation.
    ``dependencies``: element -> codes that are stated for it."""

    source: str = ""
    target: str = ""
    system: str = ""
    reverse: bool = False
    dependencies: Mapping[str, frozenset[tuple[str, str]]] | None = None


async def translate(
    maps: Iterable[Json], coded: Coded, wanted: Wanted, source: Source
) -> list[Match]:
    """What the maps say of a code, in their order. Raises Refused."""
    found: list[Match] = []
    for one in maps:
        if _fits(one, wanted):
            found += await _by_map(one, coded, wanted, source, 0)
    return list(dict.fromkeys(found)) if all(not m.products for m in found) else found


def _fits(concept_map: Json, wanted: Wanted) -> bool:
    """Does it lead between the value sets that are wanted?"""
    own = [_scope(concept_map, "source"), _scope(concept_map, "target")]
    if wanted.reverse:
        own.reverse()
    asked = (wanted.source, wanted.target)
    return all(not a or _bare(a) == _bare(o) for a, o in zip(asked, own, strict=True))


def _scope(concept_map: Json, side: str) -> str:
    return str(concept_map.get(f"{side}Uri") or concept_map.get(f"{side}Canonical") or "")


def _bare(canonical: str) -> str:
    return canonical.partition("|")[0]


async def _by_map(
    concept_map: Json, coded: Coded, wanted: Wanted, source: Source, steps: int
) -> list[Match]:
    name = str(concept_map.get("url", ""))
    if name and concept_map.get("version"):
        name += f"|{concept_map['version']}"
    found: list[Match] = []
    for group in concept_map.get("group", ()):
        if not _leads(group, coded, wanted):
            continue
        if wanted.reverse:
            found += _backward(group, coded, name)
            continue
        rows = [e for e in group.get("element", ()) if e.get("code") == coded.code]
        if rows:
            found += _forward(group, rows, wanted, name)
        else:
            found += await _unmapped(group, coded, wanted, source, name, steps)
    return found


def _leads(group: Json, coded: Coded, wanted: Wanted) -> bool:
    here, there = ("target", "source") if wanted.reverse else ("source", "target")
    version = group.get(f"{here}Version", "")
    if group.get(here, "") != coded.system or (version and coded.version not in ("", version)):
        return False
    return not wanted.system or group.get(there, "") == _bare(wanted.system)


def _forward(group: Json, rows: list[Json], wanted: Wanted, name: str) -> Iterator[Match]:
    for row in rows:
        for target in row.get("target", ()):
            if _depends(target, wanted):
                concept = Coded(
                    group.get("target", ""),
                    target.get("code", ""),
                    group.get("targetVersion", ""),
                    target.get("display", ""),
                )
                products = tuple(target.get("product", ()))
                yield Match(target.get("equivalence", ""), concept, name, products)


def _depends(target: Json, wanted: Wanted) -> bool:
    """Is everything stated that this translation depends on?"""
    stated = wanted.dependencies or {}
    return all(
        (one.get("system", ""), one.get("value", "")) in stated.get(one.get("property", ""), ())
        for one in target.get("dependsOn", ())
    )


def _backward(group: Json, coded: Coded, name: str) -> Iterator[Match]:
    for row in group.get("element", ()):
        for target in row.get("target", ()):
            if target.get("code") == coded.code:
                said = target.get("equivalence", "")
                concept = Coded(
                    group.get("source", ""),
                    row.get("code", ""),
                    group.get("sourceVersion", ""),
                    row.get("display", ""),
                )
                yield Match(REVERSED.get(said, said), concept, name)


async def _unmapped(
    group: Json, coded: Coded, wanted: Wanted, source: Source, name: str, steps: int
) -> list[Match]:
    """https://hl7.org/fhir/R4/valueset-conceptmap-unmapped-mode.html"""
    unmapped: Mapping[str, Any] = group.get("unmapped", {})
    target, version = group.get("target", ""), group.get("targetVersion", "")
    match unmapped.get("mode"):
        case "provided":
            return [Match("relatedto", Coded(target, coded.code, version, coded.display), name)]
        case "fixed":
            display = unmapped.get("display", "")
            return [Match("relatedto", Coded(target, unmapped["code"], version, display), name)]
        case "other-map":
            if steps == MOST_STEPS:
                raise Refused("too-costly", "the concept maps refer to each other too often")
            url, _, wanted_version = str(unmapped.get("url", "")).partition("|")
            other = await source.find("ConceptMap", url, wanted_version)
            if other is None:
                raise Refused("not-found", f"the concept map {url[:200]} is not known here")
            return await _by_map(other, coded, wanted, source, steps + 1)
    return []


def missing_dependency(maps: Iterable[Json], coded: Coded) -> bool:
    """Is there a translation of the code that depends on something else?"""
    return any(
        target.get("dependsOn")
        for one in maps
        for group in one.get("group", ())
        if group.get("source", "") == coded.system
        for row in group.get("element", ())
        if row.get("code") == coded.code
        for target in row.get("target", ())
    )
