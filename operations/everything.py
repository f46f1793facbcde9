"""$everything: the record of a patient or an encounter, and what it refers to.

https://hl7.org/fhir/R4/patient-operation-everything.html,
https://hl7.org/fhir/R4/encounter-operation-everything.html

Three parts, one after the other, as of one point of the change feed: the resource itself, its
compartment (newest first), and what the record refers to elsewhere (practitioners, places,
medications). Everything is read through the session; stored bytes are served.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from fhir_server.access.ports import Page
from fhir_server.access.session import Session
from fhir_server.model.datatypes import FUTURE, PAST, parse_datetime, parse_instant
from fhir_server.model.exchange import Response
from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Key, Stored
from fhir_server.search.link import query_string
from fhir_server.search.plan import (
    TRUE,
    All,
    Any,
    Cursor,
    DateIs,
    IdIn,
    InPatient,
    Not,
    Predicate,
    Present,
    ReferenceIs,
    Scan,
    Search,
    UpdatedIs,
    both,
)
from fhir_server.search.schema import MAIN_DATES, SearchSchema

from .parameters import Arguments, Parameter, decode
from .registry import Handler, Invocation, Operation
from .searchset import Searchsets

AT_ONCE: Final = 1000
"""Resources that one look at the store fetches when everything is wanted."""
ROOT, RECORD, SUPPORT = 0, 1, 2
"""The parts, as a page link names them."""

CURSOR: Final = "_cursor"
_COMMON: Final = (
    Parameter("_since", "instant", "Only what was updated at this moment or later"),
    Parameter("_type", "code", "Only these resource types, separated by commas", max=None),
    Parameter("_count", "positiveInt", "Answer in pages of this size; none: all in one Bundle"),
    Parameter("_total", "code", "none, or accurate: pages say how many there are in all"),
    Parameter(CURSOR, "string", "The place of a further page, from a next link"),
)
_DATES: Final = (
    Parameter("start", "date", "Only care on this date or later; what has no date is kept"),
    Parameter("end", "date", "Only care on this date or earlier; what has no date is kept"),
)
_OUTPUTS: Final = (Parameter("return", "Bundle", "A searchset of all the resources", min=1),)


_REFERENCES: Final = re.compile(b'reference":"([^"]+)"').findall
_URLS: Final = re.compile(b'url":"([^"]+)"').findall


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one call asks for. ``query``: the same, for links. ``count`` None: everything."""

    root: Key
    types: frozenset[str]
    dated: Callable[[str], Predicate]
    since: Predicate
    count: int | None
    total: bool
    query: tuple[tuple[str, str], ...]

    @property
    def place(self) -> str:
        return f"{self.root}/$everything"

    def scan(self, type_: str, member: Predicate) -> Scan:
        return Scan(type_, both(both(member, self.dated(type_)), self.since))


class Record:
    """What belongs to resources of one type: compartment and references."""

    def __init__(self, schema: SearchSchema, base: str, type_: str) -> None:
        self.schema = schema
        self.type = type_
        self._compartment = schema.definitions.compartment(type_)
        elsewhere = schema.types - self._compartment.keys() if type_ == "Patient" else schema.types
        self._support, self._own = elsewhere, schema.types - elsewhere
        self._holds_attachments = cache(self._attaches)
        own = f"(?:{re.escape(base)}/)?"
        self._target = re.compile(
            f"{own}([A-Z][A-Za-z]+)/([A-Za-z0-9\\-.]{{1,64}})(?:[/#]|$)"
        ).match

    def members(self, root: Key) -> Iterable[tuple[str, Predicate]]:
        """(type, in the compartment of ``root``) for every other type of the compartment."""
        for type_, codes in self._compartment.items():
            if type_ == root.type:
                continue
            if root.type == "Patient":
                yield type_, InPatient((root.id,))
                continue
            rows = self.schema.of(type_).parameters
            indexes = sorted({rows[code].index for code in codes if code in rows})
            named = tuple(ReferenceIs(index, root.type, root.id) for index in indexes)
            yield type_, named[0] if len(named) == 1 else Any(named)

    def _attaches(self, path: str) -> bool:
        """Whether there may be an Attachment below a type or element."""
        for element, type_ in self.schema.definitions.members(path).values():
            inline = type_.code == "BackboneElement" and not element.content_reference
            if type_.code == "Attachment" or (inline and self._attaches(element.path)):
                return True
        return False

    def references(self, found: Iterable[Stored]) -> set[Key]:
        """What stored resources refer to, of the types that support a record."""
        found = list(found)
        literals = set(_REFERENCES(b"".join([one.body for one in found])))
        for one in found:
            if self._holds_attachments(one.key.type) and b"Binary/" in one.body:
                literals.update(url for url in _URLS(one.body) if b"Binary/" in url)
        support, own = self._support, self._own
        outside = [one for one in map(bytes.decode, literals) if one.partition("/")[0] not in own]
        targets = filter(None, map(self._target, outside))
        return {Key(target[1], target[2]) for target in targets if target[1] in support}


class Walk:
    """Goes through the parts of one answer in steps, as of one point."""

    def __init__(self, record: Record, wanted: Wanted, session: Session, as_of: int) -> None:
        self._record = record
        self._wanted = wanted
        self._session = session
        self._as_of = as_of
        self._read: list[Stored] | None = [] if _is_whole(wanted, record.schema) else None
        self._outgoing: list[Key] | None = None
        self._held: frozenset[str] = frozenset()

    async def page(self, after: Cursor | None, moved: bool) -> tuple[list[Stored], Cursor | None]:
        """The resources from ``after`` on, and the place behind them; None at the end.

        ``moved``: something was written since the point; what is hidden by now is left out.
        """
        allows = self._session.policy.allows
        held = await self._session.populated()
        self._held = frozenset(type_ for type_ in held if allows("s", type_))
        found: list[Stored] = []
        place: Cursor | None = after or (ROOT, self._as_of)
        if after is not None:
            self._read = None
        count = self._wanted.count
        while place is not None and (count is None or len(found) < count):
            batch, place = await self._step(place, AT_ONCE if count is None else count - len(found))
            found += await self._still_visible(batch) if moved else batch
        ahead = place
        while ahead is not None and len(ahead) == 2:  # at the beginning of a part: is it empty?
            batch, ahead = await self._step(ahead, 1)
            if batch:
                return found, place
        return found, place if ahead is not None else None

    async def _step(self, place: Cursor, size: int) -> tuple[Sequence[Stored], Cursor | None]:
        """Some resources of one part, and the place behind them."""
        part, after = place[0], place[2:] or None
        if part == SUPPORT:
            return await self._supporting(after, size)
        page = await self._search(self._scans(part == ROOT, wanted=True), size, after)
        if self._read is not None:
            self._read += page.matches
        if page.next is not None:
            return page.matches, (RECORD, self._as_of, *page.next)
        return page.matches, (RECORD if part == ROOT else SUPPORT, self._as_of)

    def _scans(self, root: bool, *, wanted: bool) -> list[Scan]:
        """The root, or its compartment. ``wanted`` False: also what only its references make
        a part of the answer."""
        ask, key = self._wanted, self._wanted.root
        if root:
            members: Iterable[tuple[str, Predicate]] = [(key.type, IdIn((key.id,)))]
        else:
            members = self._record.members(key)
        held = self._held
        if not wanted:
            return [Scan(t, both(member, ask.dated(t))) for t, member in members if t in held]
        shown = held & ask.types
        return [ask.scan(type_, member) for type_, member in members if type_ in shown]

    async def _search(self, scans: Sequence[Scan], size: int, after: Cursor | None = None) -> Page:
        if not scans:
            return Page(())
        search = Search(tuple(scans), count=size, after=after, total="none", as_of=self._as_of)
        return await self._session.search(search)

    async def _supporting(
        self, after: Cursor | None, size: int
    ) -> tuple[Sequence[Stored], Cursor | None]:
        """What the record refers to, by type and id."""
        if self._outgoing is None:
            self._outgoing = sorted(await self._references())
        last = None if after is None else Key(str(after[0]), str(after[1]))
        keys = [key for key in self._outgoing if last is None or key > last]
        found: list[Stored] = []
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            scans = [self._wanted.scan(t, IdIn(ids)) for t, ids in by_type(some) if t in self._held]
            page = await self._search(scans, AT_ONCE)
            found += sorted(page.matches, key=lambda stored: stored.key)
            if len(found) > size:
                return found[:size], (SUPPORT, self._as_of, *found[size - 1].key)
        return found, None

    async def _references(self) -> set[Key]:
        """Out of the record, of wanted types."""
        read = self._read
        if read is None:
            read = []
            for root in (True, False):
                after: Cursor | None = None
                while True:
                    page = await self._search(self._scans(root, wanted=False), AT_ONCE, after)
                    read += page.matches
                    if page.next is None:
                        break
                    after = page.next
        found = self._record.references(read)
        found -= {stored.key for stored in read}
        found.discard(self._wanted.root)
        return {key for key in found if key.type in self._wanted.types}

    async def _still_visible(self, batch: Sequence[Stored]) -> list[Stored]:
        """Without what was deleted or hidden since the point."""
        scans = tuple(Scan(type_, IdIn(ids)) for type_, ids in by_type(s.key for s in batch))
        if not scans:
            return []
        page = await self._session.search(Search(scans, count=len(batch), total="none"))
        living = {stored.key for stored in page.matches}
        return [stored for stored in batch if stored.key in living]


def by_type(keys: Iterable[Key]) -> list[tuple[str, tuple[str, ...]]]:
    """(type, ids) for each type."""
    found: dict[str, list[str]] = {}
    for key in keys:
        found.setdefault(key.type, []).append(key.id)
    return [(type_, tuple(ids)) for type_, ids in found.items()]


def _is_whole(wanted: Wanted, schema: SearchSchema) -> bool:
    """Does the record that is shown bear all the references that count?"""
    return wanted.since == TRUE and wanted.types == schema.types


def within(schema: SearchSchema, type_: str, lo: int, hi: int) -> Predicate:
    """Care in ``[lo, hi)`` by the most telling date that a resource has; true without one."""
    parameters = schema.of(type_).parameters
    codes = [c for c in MAIN_DATES if c in parameters and parameters[c].kind == "date"]
    found: Predicate = TRUE
    for code in reversed(codes if type_ != "Patient" else []):
        for index in parameters[code].indexes:
            inside = All((DateIs(index, "ge", lo, lo), DateIs(index, "lt", hi, hi)))
            found = Any((inside, All((Not(Present(index, "date")), found))))
    return found


def everything(sets: Searchsets, base: str, type_: str) -> Handler:
    """The handler of instances of one type; ``base``: the own base URL."""
    record = Record(sets.schema, base, type_)

    async def handle(arguments: Arguments, session: Session, call: Invocation) -> Response:
        root = Key(type_, call.id or _own_patient(session))
        place, after, link = f"{root}/$everything", None, arguments.one(CURSOR)
        if link is not None:
            position = sets.cursors.open(session.principal, place, link)
            arguments, after = decode(_INPUTS[type_], position.query), position.after
        wanted = _wanted(sets, arguments, root)
        await session.read(root)
        now = await session.position()
        as_of = now if after is None else int(str(after[1]))
        walk = Walk(record, wanted, session, as_of)
        found, following = await walk.page(after, as_of != now)
        total = len(found) if wanted.count is None else None
        if wanted.total and total is None:
            full = Walk(record, replace(wanted, count=None), session, as_of)
            total = len((await full.page(None, as_of != now))[0])
        shown = f"{CURSOR}={link}" if link is not None else query_string(wanted.query)
        links = [("self", f"{call.base}/{place}" + (f"?{shown}" if shown else ""))]
        if following is not None:
            sealed = sets.cursors.seal(session.principal, place, wanted.query, following)
            links.append(("next", f"{call.base}/{place}?{CURSOR}={sealed}"))
        own = call.base.encode()
        entries = [sets.entry(own, stored, b"match") for stored in found]
        return Response(200, sets.bundle("searchset", entries, total=total, links=links))

    return handle


def _own_patient(session: Session) -> str:
    if session.principal.patient is None:
        raise BadRequest(
            "name the patient, Patient/[id]/$everything: this caller is not bound to one",
            code="not-supported",
        )
    return session.principal.patient


def _wanted(sets: Searchsets, arguments: Arguments, root: Key) -> Wanted:
    """Raises BadRequest for values that mean nothing here."""
    schema, zone = sets.schema, sets.context().zone
    named = [name for value in arguments.all("_type") for name in value.split(",")]
    for name in named:
        if name not in schema.types:
            raise BadRequest(f"_type: {name[:64]!r} is not a resource type", code="value")
    count, total = arguments.one("_count"), arguments.one("_total", "none")
    if total not in ("none", "accurate"):
        raise BadRequest(f"_total: {total[:64]!r} is not none or accurate", code="value")
    start, end, since = (arguments.one(name) for name in ("start", "end", "_since"))
    lo = PAST if start is None else parse_datetime(start, zone).lo
    hi = FUTURE if end is None else parse_datetime(end, zone).hi
    if lo >= hi:
        raise BadRequest("start lies behind end", code="value")
    moment = 0 if since is None else parse_instant(since)
    return Wanted(
        root,
        frozenset(named or schema.types),
        lambda type_: within(schema, type_, lo, hi) if start or end else TRUE,
        TRUE if since is None else UpdatedIs("ge", moment, moment + 1),
        None if count is None else min(count, sets.most),
        total == "accurate",
        tuple((r.name, str(v)) for r in _INPUTS[root.type] for v in arguments.all(r.name)),
    )


_INPUTS: Final = {"Patient": (*_DATES, *_COMMON), "Encounter": _COMMON}


def everything_operations(sets: Searchsets, base: str) -> tuple[Operation, ...]:
    """The rows."""
    return tuple(
        Operation(
            code="everything",
            levels=frozenset(("instance", "type") if type_ == "Patient" else ("instance",)),
            types=(type_,),
            affects_state=False,
            inputs=inputs,
            outputs=_OUTPUTS,
            scope=f"{'patient' if type_ == 'Patient' else 'user'}/*.rs",
            description=f"The whole record of {name}, with what it refers to.",
            example=f"GET /{type_}/example/$everything",
            handler=everything(sets, base, type_),
            id="" if type_ == "Patient" else "encounter-everything",
        )
        for (type_, inputs), name in zip(
            _INPUTS.items(), ("a patient", "an encounter"), strict=True
        )
    )
