"""The expansion of a value set: https://hl7.org/fhir/R4/valueset-operation-expand.html

Members come in the order of the value set and, within a code system, in that of the system.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

from terminology.codes import PLAIN, Codes, Member
from terminology.compose import MOST_MEMBERS, Composing
from terminology.concepts import Concepts, folded, speaks
from terminology.service import Expanding, Json, Refused

MOST_SHOWN: Final = 10_000
"""Codes in one answer."""
STRIDE: Final = 200
"""Members that are looked at before others have their turn."""
ROWS: Final = 20
"""Of an index of words, for what it costs to look at one concept."""
LANGUAGES: Final = "urn:ietf:bcp:47"
"""The system of languages in a token of ``designation``."""

T = TypeVar("T")


class Entry(NamedTuple):
    """One member: what its code system (None: not known here) and the value set say of it.
    ``found``: the words that are sought are known to be in it."""

    system: str
    code: str
    concepts: Concepts | None
    said: Member
    found: bool = False


async def expand(work: Composing, value_set: Json, name: str, how: Expanding) -> dict[str, Any]:
    """``ValueSet.expansion`` without its timestamp and parameters. Raises Refused."""
    codes = await work.members(value_set, name)
    sought = folded(how.filter).split()
    if how.filter and not sought:
        raise Refused("invalid", "filter: there is no word in it")
    plain = not (how.active or how.selectable or how.nested or how.without)
    if plain and how.count is not None and len(codes) == 1 and next(iter(codes)).code is None:
        return await _page_of(await work.whole(next(iter(codes)).system), how, how.count, sought)
    entries = [
        entry
        async for entry in _paced(await _entries(work, codes, sought))
        if entry.system not in how.without and _shown(entry, how, sought)
    ]
    found: dict[str, Any] = {"total": len(entries)}
    if how.count == 0:
        return found
    page = entries
    if how.nested:
        _limit(len(page))
        contains = _nest(entries, how)
    else:
        end = None if how.count is None else how.offset + how.count
        page = entries[how.offset : end]
        _limit(len(page))
        if how.offset or how.count is not None:
            found["offset"] = how.offset
        contains = [_contains(entry, how) async for entry in _paced(page)]
    return found | ({"contains": contains} if contains else {})


async def _paced(items: Iterable[T]) -> AsyncIterator[T]:
    """The same, with a pause for others after every ``STRIDE``."""
    for number, item in enumerate(items, 1):
        yield item
        if number % STRIDE == 0:
            await asyncio.sleep(0)


async def _page_of(
    concepts: Concepts, how: Expanding, count: int, sought: Sequence[str]
) -> dict[str, Any]:
    """Some codes of a whole code system, of whatever size."""
    most = min(count, MOST_SHOWN + 1)
    if sought:
        total = concepts.hits(sought)
        page = list(islice(concepts.sought(sought), how.offset, how.offset + most))
    else:
        total, page = len(concepts.by_code), concepts.page(how.offset, most)
    _limit(len(page))
    entries = (Entry(concepts.url, code, concepts, PLAIN) for code in page)
    contains = [_contains(entry, how) async for entry in _paced(entries)]
    found: dict[str, Any] = {"total": total}
    if count:
        found["offset"] = how.offset
    return found | ({"contains": contains} if contains else {})


def _limit(shown: int) -> None:
    if shown > MOST_SHOWN:
        text = f"the expansion has more than {MOST_SHOWN} codes: use count, or a filter"
        raise Refused("too-costly", text)


async def _entries(work: Composing, codes: Codes, sought: Sequence[str]) -> list[Entry]:
    """Of whole code systems, and where an index tells it, only what bears the words sought."""
    found: dict[tuple[str, str], Entry] = {}
    bearing = await _bearing(work, codes, sought)
    concepts: Concepts | None
    async for (system, code), said in _paced(codes.items()):
        told = code is None
        if code is None:
            concepts = await work.whole(system)
            listed: Iterable[str] = concepts.sought(sought) if sought else concepts.by_code
        else:
            concepts, listed = await work.concepts(system), (code,)
            known = bearing.get(system)
            if known is not None:
                told = code in known
                if not told and said is PLAIN and not _may_bear(code, sought):
                    continue
        async for one in _paced(listed):
            found.setdefault((system, one), Entry(system, one, concepts, said, told))
            if len(found) > MOST_MEMBERS:
                raise Refused("too-costly", f"the expansion has more than {MOST_MEMBERS} codes")
    return list(found.values())


async def _bearing(work: Composing, codes: Codes, sought: Sequence[str]) -> dict[str, set[str]]:
    """Code system -> its codes with these words, where its index is asked."""
    found: dict[str, set[str]] = {}
    if not sought:
        return found
    many = Counter(system for system, code in codes if code is not None)
    for system, count in many.items():
        concepts = await work.concepts(system)
        if concepts is not None and concepts.indexed and concepts.hits(sought) <= ROWS * count:
            found[system] = set(concepts.sought(sought))
    return found


def _may_bear(code: str, sought: Sequence[str]) -> bool:
    """May the words be in the code itself? It need not be one of the code system."""
    return not code.isascii() or sought[0] in code.casefold()


def _bears(words: str, sought: Sequence[str]) -> bool:
    return all(f" {word}" in words for word in sought)


def _shown(entry: Entry, how: Expanding, sought: Sequence[str]) -> bool:
    """``sought``: how words of every member have to begin."""
    judged = how.active or how.selectable
    if not judged and (entry.found or not sought):
        return True
    concepts, code = entry.concepts, entry.code
    if concepts is not None and code not in concepts.by_code:
        concepts = None
    if judged and concepts is not None:
        if how.active and concepts.inactive(code):
            return False
        if how.selectable and concepts.abstract(code):
            return False
    if entry.found or not sought:
        return True
    words = folded(code) if concepts is None else concepts.words(code)
    if entry.said is not PLAIN:
        said = [entry.said.display, *(str(d.get("value", "")) for d in entry.said.designations)]
        words += folded(" ".join(said))
    return _bears(words, sought)


def _contains(entry: Entry, how: Expanding) -> dict[str, Any]:
    concepts, code, said = entry.concepts, entry.code, entry.said
    concept = None if concepts is None else concepts.by_code.get(code)
    row: dict[str, Any] = {"system": entry.system} if entry.system else {}
    designations: list[Mapping[str, Any]] = list(said.designations)
    display = said.display
    if concept is not None and concepts is not None:
        if concepts.abstract(code):
            row["abstract"] = True
        if concepts.inactive(code):
            row["inactive"] = True
        designations += [d for d in concept.get("designation", ()) if d not in designations]
        if how.language:
            own = _in_language(said, how.language)
            display = own or concepts.translated(code, how.language) or display
        display = display or concepts.display(code)
    row["code"] = code
    if display:
        row["display"] = display
    if how.designations is not None:
        chosen = [one for one in designations if _wanted(one, how.designations)]
        if chosen:
            row["designation"] = chosen
    return row


def _in_language(said: Member, language: str) -> str:
    fitting = (d for d in said.designations if speaks(d.get("language", ""), language))
    return str(next((d.get("value", "") for d in fitting), ""))


def _wanted(designation: Mapping[str, Any], tokens: tuple[str, ...]) -> bool:
    """Is its language or its use among the tokens? None: all are."""
    if not tokens:
        return True
    use = designation.get("use", {})
    for token in tokens:
        system, bar, code = token.rpartition("|")
        if system in ("", LANGUAGES) and speaks(designation.get("language", ""), code):
            return True
        if use.get("code") == code and (not bar or use.get("system", "") == system):
            return True
    return False


def _nest(entries: list[Entry], how: Expanding) -> list[dict[str, Any]]:
    """Each below the first of its parents that is there too; circles begin at their first."""
    rows = {(e.system, e.code): _contains(e, how) for e in entries}
    above: dict[tuple[str, str], tuple[str, str]] = {}
    roots: list[dict[str, Any]] = []
    for entry in entries:
        key = (entry.system, entry.code)
        parent = next((p for p in _parents(entry) if p in rows and not _leads(above, p, key)), None)
        if parent is None:
            roots.append(rows[key])
        else:
            above[key] = parent
            rows[parent].setdefault("contains", []).append(rows[key])
    return roots


def _parents(entry: Entry) -> Iterator[tuple[str, str]]:
    if entry.concepts is not None:
        for parent in entry.concepts.parents(entry.code):
            yield entry.system, parent


def _leads(
    above: Mapping[tuple[str, str], tuple[str, str]], start: tuple[str, str], end: tuple[str, str]
) -> bool:
    """Is ``end`` the start or above it?"""
    at: tuple[str, str] | None = start
    while at is not None:
        if at == end:
            return True
        at = above.get(at)
    return False
