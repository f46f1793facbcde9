"""The queries of the benchmarks on MongoDB: which commands each sends, and by which prefix of
which index each of them is served. A query that joins the benchmarks needs its row here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.growth import QUERIES, fill
from bench.micro import Client, Record
from fhir_server.app import Domain, assemble, serving
from fhir_server.config import Settings
from fhir_server.model.resource import Key
from fhir_server.search.plan import Scan, Search
from fhir_server.store.mongo.opening import open_store
from tests.mongodb import new_url
from tests.store.commands import sent, served_by

PAGE, LENGTH = "k_d_n k= sorted", "k_d_n k="
"""A page in the order of an index; how long a list of hashes is, counted up to a limit."""
SAID, RANGE = "s s<", "r r.p="
SERVED: dict[str, list[str]] = {
    "* patient, code, by date": [PAGE],
    "* code, by date": [PAGE],
    "* code, status, by date": [LENGTH, LENGTH, PAGE],
    "* chain on a rare name": [LENGTH, SAID, SAID, LENGTH, LENGTH, PAGE],
    "* _has of a rare value": [SAID, SAID, "_id_ _id="],
    "  code, by date, total": [PAGE],
    "  code, status, total": [LENGTH, LENGTH, PAGE],
    "  code and frequent range": [LENGTH, RANGE, PAGE],
    "  the same, no total": [LENGTH, RANGE, PAGE],
    "  code and rare range": [LENGTH, RANGE, RANGE],
    "  code and range of none": [LENGTH, RANGE, RANGE],
    "  code and year of dates": [LENGTH, "r r.p= r.a<", PAGE],
    "  count of a code": [LENGTH],
    "* read": ["resource _id"],
    "* page 100 by cursor": ["k_d_n k= d< sorted"],
}
"""By the name in ``bench.growth``, when no length is remembered."""
WORKLOADS: dict[str, list[str]] = {
    "read": ["resource _id"],
    "read, token": ["ledger _id", "resource _id"],
    "search, page of 20": ["ledger _id", PAGE],
    "$everything": [
        *["ledger _id", "resource _id", "meta _id", "meta _id"],
        *["e e<", "_id_ _id="],
        *["e e<", PAGE],
    ],
}
"""By the name in ``bench.micro``: tokens and the counters of what was posted are in the ledger;
``e`` is what has changed since the point of which ``$everything`` is."""


class World:
    """A record of the size of two patients."""

    def __init__(self, runner: asyncio.Runner, domain: Domain) -> None:
        self.runner = runner
        self.domain = domain

    def asked(self, type_: str, query: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """How the commands of a query are served, if no lengths of lists are known."""
        pairs = [tuple(p.partition("=")[::2]) for p in query.format(p="p0", c=1).split("&")]

        async def work() -> list[str]:
            parsed = await self.domain.searching.parse((type_,), pairs, None, strict=True)  # type: ignore[arg-type]
            with sent(monkeypatch) as commands:
                await self.domain.system_session("bench").search(parsed.search)
            return [served_by(command) for command in commands]

        store: Any = self.domain.store
        store._tables.counts._known.clear()
        return self.runner.run(work())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("bench")
    with asyncio.Runner() as runner:

        async def filled() -> Domain:
            domain = await assemble(replace(Settings(), data=folder), await open_store(new_url()))
            await fill(domain, 200)
            return domain

        domain = runner.run(filled())
        yield World(runner, domain)
        runner.run(domain.store.close())


@pytest.mark.parametrize(("name", "type_", "query"), QUERIES, ids=[q[0].strip() for q in QUERIES])
def test_a_query_of_growth(
    world: World, name: str, type_: str, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.asked(type_, query, monkeypatch) == SERVED[name]


def test_a_read_and_a_page_behind_a_cursor(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def served() -> dict[str, list[str]]:
        session, search = world.domain.system_session("bench"), Search((Scan("Observation"),))
        behind = replace(search, after=(await session.search(search)).next, total="none")
        found = {}
        for name, work in (
            ("* read", lambda: session.read(Key("Observation", "o1"))),
            ("* page 100 by cursor", lambda: session.search(behind)),
        ):
            with sent(monkeypatch) as commands:
                await work()
            found[name] = [served_by(command) for command in commands]
        return found

    found = world.runner.run(served())
    assert found == {name: SERVED[name] for name in found}
    assert {*found, *(name for name, *_ in QUERIES)} == set(SERVED)


def test_the_requests_of_the_workloads(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def served() -> dict[str, list[str]]:
        token = await world.domain.tokens.issue(scope="system/*.cruds", minutes=60, client="bench")
        bearer = ((b"authorization", f"Bearer {token}".encode()),)
        found = {}
        async with serving(world.domain, open_=True) as app, serving(world.domain) as secured:
            record = Record(Client(app), Client(secured, bearer))
            record.patients = ["Patient/p1"]
            record.observations = ["/fhir/Observation/o1"]
            for name, batch in (
                ("read", lambda: record.read(record.client, 1)),
                ("read, token", lambda: record.read(record.bearing, 1)),
                ("search, page of 20", lambda: record.search(1)),
                ("$everything", lambda: record.everything(1)),
            ):
                await batch()
                with sent(monkeypatch) as commands:
                    await batch()
                found[name] = [served_by(command) for command in commands]
        return found

    assert world.runner.run(served()) == WORKLOADS
