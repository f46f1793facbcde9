"""$closure: https://hl7.org/fhir/R4/conceptmap-operation-closure.html

A client keeps a table of which of its concepts subsume which; the server remembers what it has
told, so that only what is new goes over the line. A table belongs to who made it; each step is
a row of the ledger, numbered like the versions that the client sees.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from fhir_server.access.ports import Ledger, Row
from fhir_server.access.session import Session
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Conflict, NotFound, Unprocessable
from terminology.local import Found, Local
from terminology.service import Coded

from .parameters import Arguments, Parameter
from .registry import Invocation, Operation
from .terms import SourceOf, answering

KIND: Final = "closure"
MOST: Final = 2000
"""Concepts in one table."""
ATTEMPTS: Final = 5


class Link(NamedTuple):
    """``above`` subsumes ``below``; both of one system."""

    system: str
    version: str
    below: str
    above: str


def closure(source_of: SourceOf, ledger: Ledger) -> Operation:
    """The row."""

    async def answer(
        arguments: Arguments, service: Local, session: Session, call: Invocation
    ) -> Json:
        table = _Table(ledger, session, arguments.one("name"))
        given = [Coded.of(one) for one in arguments.all("concept")]
        since = arguments.one("version")
        if since is not None and given:
            raise BadRequest("version and concept do not go together")
        if not given and since is None:
            await table.begin()
            return _map(table.name, 0, (), call)
        steps = await table.steps()
        if since is not None:
            return _map(
                table.name, len(steps) - 1, _links(steps[_number(since, steps) + 1 :]), call
            )
        fresh = await table.add(given, service)
        return _map(table.name, fresh[0], fresh[1], call)

    return Operation(
        code="closure",
        levels=frozenset(("system",)),
        types=(),
        affects_state=True,
        inputs=(
            Parameter("name", "string", "Of the table; alone: it begins anew", min=1),
            Parameter("concept", "Coding", "To be added", max=None),
            Parameter("version", "string", "Tell what came after this version"),
        ),
        outputs=(Parameter("return", "ConceptMap", "What is new in the table", min=1),),
        scope="user/CodeSystem.rs",
        description="Keeps a client's table of which of its concepts subsume which.",
        example="POST /$closure",
        handler=answering(source_of, answer),
        needs=("CodeSystem",),
    )


class _Table:
    """Rows ``owner/number``: what was added in that step, and which links it made."""

    def __init__(self, ledger: Ledger, session: Session, name: str) -> None:
        self.name = name
        self._ledger = ledger
        owner = f"{session.principal.id}\n{name}"
        self._prefix = hashlib.sha256(owner.encode()).hexdigest() + "/"

    async def begin(self) -> None:
        for row in await self._rows():
            await self._ledger.cas(KIND, row.key, None, row.revision)
        await self._ledger.insert_unique(KIND, self._key(0), {"concepts": [], "links": []})

    async def steps(self) -> list[Row]:
        found = await self._rows()
        if not found:
            raise NotFound(f"the closure table {self.name[:100]!r} was not begun")
        return found

    async def add(self, given: list[Coded], service: Local) -> tuple[int, list[Link]]:
        """The new version, and the links that were not there before."""
        for _ in range(ATTEMPTS):
            steps = await self.steps()
            known = [Coded(*one) for step in steps for one in step.value["concepts"]]
            fresh = [one for one in dict.fromkeys(_plain(c) for c in given) if one not in known]
            if len(known) + len(fresh) > MOST:
                text = f"more than {MOST} concepts in the table"
                raise Unprocessable(text, code="too-costly")
            links = await linked(known, fresh, service)
            value = {"concepts": [list(one) for one in fresh], "links": [list(x) for x in links]}
            if await self._ledger.insert_unique(KIND, self._key(len(steps)), value):
                return len(steps), links
        raise Conflict("the closure table is being changed by others")

    async def _rows(self) -> list[Row]:
        return await self._ledger.scan(KIND, self._prefix)

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:08}"


def _plain(coded: Coded) -> Coded:
    if not coded.system or not coded.code:
        raise BadRequest("Each concept has a system and a code", code="required")
    return coded._replace(display="")


async def linked(known: list[Coded], fresh: list[Coded], service: Local) -> list[Link]:
    """Between the fresh ones, and between these and the known ones."""
    found = [await service.concept(one) for one in fresh]
    before = [await service.concept(one) for one in known]
    links: dict[Link, None] = {}
    for one in found:
        above = one.concepts.above(one.code) - {one.code}
        for other in (*found, *before):
            if _same(one, other) and other.code in above:
                links[_link(one, other)] = None
    for other in before:
        above = other.concepts.above(other.code) - {other.code}
        for one in found:
            if _same(one, other) and one.code in above:
                links[_link(other, one)] = None
    return list(links)


def _same(one: Found, other: Found) -> bool:
    return one.concepts.canonical == other.concepts.canonical


def _link(below: Found, above: Found) -> Link:
    return Link(below.concepts.url, below.concepts.version, below.code, above.code)


def _number(version: str, steps: list[Row]) -> int:
    if not version.isdecimal() or int(version) >= len(steps):
        raise BadRequest(f"version: {version[:40]!r} is none of this table", code="value")
    return int(version)


def _links(steps: Iterable[Row]) -> list[Link]:
    return [Link(*one) for step in steps for one in step.value["links"]]


def _map(name: str, version: int, links: Iterable[Link], call: Invocation) -> Json:
    """Each element is subsumed by its targets."""
    groups: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for link in links:
        groups[link.system, link.version][link.below].append(link.above)
    found: dict[str, Any] = {
        "resourceType": "ConceptMap",
        "version": str(version),
        "name": name,
        "status": "active",
        "experimental": True,
        "date": format_instant(call.now),
    }
    if groups:
        found["group"] = [_group(*key, rows) for key, rows in groups.items()]
    return found


def _group(system: str, version: str, rows: dict[str, list[str]]) -> Json:
    stated = {"sourceVersion": version, "targetVersion": version} if version else {}
    elements = [
        {
            "code": below,
            "target": [{"code": above, "equivalence": "subsumes"} for above in targets],
        }
        for below, targets in rows.items()
    ]
    return {"source": system, "target": system, **stated, "element": elements}
