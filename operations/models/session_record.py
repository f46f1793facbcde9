"""The stored record of one patient, through the session and nothing else.

The session's policy is in every search; a type that may not be searched at all is None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from fhir_server.access.session import Session
from fhir_server.formats.json import recalled
from fhir_server.model.datatypes import FUTURE
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Forbidden, Gone, NotFound
from fhir_server.model.resource import ID_PATTERN, Key
from fhir_server.search.plan import (
    All,
    Any,
    InPatient,
    Predicate,
    ReferenceIs,
    Scan,
    Search,
)

from .casing import CodePair, bears, comparable
from .evidence import ENTERED, OBSERVED, codings, when
from .record import MEDICATION_TYPES, Groups, Item, versioned

IndexNames: TypeAlias = Callable[[str, str], tuple[str, ...]]
"""(resource type, search parameter) -> the names of its indexes in a plan."""

FIRST, NEXT, MOST = 40, 500, 20_000
"""Resources on the first page and on later ones; the most that are looked through."""
MANY, SOME = 24, 250
"""From more codes than this on, the first page holds so many resources of any code."""

MEDICATION: Final = "Medication/"


class SessionRecord:
    """Implements ``RecordReader`` over a Session."""

    def __init__(self, session: Session, patient: str, index: IndexNames) -> None:
        self._session = session
        self._id = patient
        self._index = index

    async def patient(self) -> Item:
        """Raises NotFound or Gone."""
        stored = await self._session.read(Key("Patient", self._id))
        return _item(Key("Patient", self._id), recalled(stored.body))

    async def observations(self, groups: Groups) -> list[Item] | None:
        """One search for all codes; rare ones that its pages lack are looked for alone.

        For many codes the newest of any code come first: most records are read whole by it,
        and to test each observation for each code costs more.
        """
        alike = _alike(tuple(groups))
        waiting = list(zip(alike.groups, groups.values(), strict=True))
        found: dict[str, Item] = {}
        codes = alike.codes
        count = FIRST if len(codes) <= MANY else SOME
        while waiting:
            page = await self._page(
                "Observation", self._coded([group for group, _ in waiting], count), count
            )
            if page is None:
                return None
            items, more = page
            found.update((item.reference, item) for item in items if _wanted(item, codes))
            if not more or count >= MOST:
                break
            first = _oldest(items)
            left = [
                (group, until)
                for group, until in waiting
                if min((first.get(pair, FUTURE) for pair in group), default=FUTURE) > until
            ]
            count = NEXT if len(left) < len(waiting) or count == SOME else count * 5
            waiting = left
        return list(found.values())

    def _coded(self, groups: Sequence[Sequence[CodePair]], count: int) -> tuple[Predicate, ...]:
        if count == SOME:
            return ()
        names = self._index("Observation", "combo-code")
        return (_bearing(names, tuple(groups)),)

    async def conditions(self) -> list[Item] | None:
        return await self.whole("Condition")

    async def medications(self) -> list[Item] | None:
        found = [await self.whole(type_) for type_ in MEDICATION_TYPES]
        if all(items is None for items in found):
            return None
        return [item for items in found for item in items or ()]

    async def resource(self, reference: str) -> Json | None:
        id_ = reference.removeprefix(MEDICATION).partition("/")[0]
        if not reference.startswith(MEDICATION) or not ID_PATTERN.fullmatch(id_):
            return None
        try:
            return recalled((await self._session.read(Key("Medication", id_))).body)
        except (NotFound, Gone, Forbidden):
            return None

    async def whole(self, type_: str) -> list[Item] | None:
        page = await self._page(type_, (), MOST)
        return None if page is None else page[0]

    async def _page(
        self, type_: str, parts: tuple[Predicate, ...], count: int
    ) -> tuple[list[Item], bool] | None:
        """Up to ``count`` newest resources of the patient, and whether there are more."""
        # The compartment also holds what the patient only performed or asserted for others.
        subjects = self._index(type_, "patient")
        named = tuple(ReferenceIs(name, "Patient", self._id) for name in subjects)
        about: Predicate = named[0] if len(named) == 1 else Any(named)
        scan = Scan(type_, All((InPatient((self._id,)), about, *parts)))
        search: Search | None = Search((scan,), count=min(count, NEXT), total="none")
        items: list[Item] = []
        while search is not None:
            try:
                page = await self._session.search(search)
            except Forbidden:
                return None
            items += [_item(stored.key, recalled(stored.body)) for stored in page.matches]
            enough = len(items) >= count
            search = replace(search, after=page.next) if page.next and not enough else None
        return items, page.next is not None


class _Alike(NamedTuple):
    """Codes as they are compared, in their groups and together."""

    groups: tuple[tuple[CodePair, ...], ...]
    codes: frozenset[CodePair]


@lru_cache(maxsize=256)
def _alike(groups: tuple[tuple[CodePair, ...], ...]) -> _Alike:
    found = tuple(tuple(dict.fromkeys(map(comparable, group))) for group in groups)
    return _Alike(found, frozenset(pair for group in found for pair in group))


@lru_cache(maxsize=256)
def _bearing(names: tuple[str, ...], groups: tuple[tuple[CodePair, ...], ...]) -> Any:
    return Any(tuple(bears(n, pair) for group in groups for pair in group for n in names))


def _item(key: Key, resource: Json) -> Item:
    return Item(versioned(str(key), resource), resource)


def _oldest(items: Sequence[Item]) -> dict[CodePair, int]:
    """Of the comparable codes of values that may count, when the oldest that was read began; so
    what is older than is asked for need not be read."""
    found: dict[CodePair, int] = {}
    for item in items:
        resource = item.resource
        if resource.get("status") not in ENTERED["Observation"]:
            continue
        dated = when(resource, OBSERVED)
        if dated is None:
            continue
        for part in (resource, *resource.get("component", [])):
            if any(name.startswith("value") for name in part):
                for pair in map(comparable, codings(part.get("code"))):
                    found[pair] = min(dated[0].lo, found.get(pair, FUTURE))
    return found


def _wanted(item: Item, codes: Set[CodePair]) -> bool:
    parts = (item.resource, *item.resource.get("component", []))
    return any(not codes.isdisjoint(map(comparable, codings(part.get("code")))) for part in parts)
