"""The connections of the MongoDB store: who they are, what protects them, what they refuse."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from bson import Binary
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, NetworkTimeout, NotPrimaryError, OperationFailure

from bench.relay import message
from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Key
from fhir_server.store.base import Change, ChangeSet
from fhir_server.store.mongo import lines as connections
from fhir_server.store.mongo import wire
from fhir_server.store.mongo.lines import Lines
from fhir_server.store.mongo.opening import database_name, open_store, require_transactions
from fhir_server.store.mongo.sessions import Plain, all_found, found
from fhir_server.store.mongo.sharding import distribute
from fhir_server.store.mongo.wire import Line
from tests.mongodb import new_url
from tests.store.building import values


def test_answers_in_pieces_of_any_size() -> None:
    """What TCP cuts is put together again."""
    message = wire._HEADER.pack(21 + 300, 1, 0, wire.OP_MSG, 0, 0) + bytes(300)

    async def scenario(size: int) -> bytes:
        line = Line()
        answer = line._answer = asyncio.get_running_loop().create_future()
        for begin in range(0, len(message), size):
            line.data_received(message[begin : begin + size])
        return await answer

    for size in (1, 3, 4, 16, 100, 320, 321, 1000):
        assert asyncio.run(scenario(size)) == message


def test_batches_and_a_reader_that_stops() -> None:
    async def scenario() -> None:
        url = new_url()
        client: AsyncMongoClient[Any] = AsyncMongoClient(url)
        lines = Lines.of(client, url, database_name(url))
        session = Plain(lines)
        await client[database_name(url)].x.insert_many([{"_id": n} for n in range(500)])
        command = {"find": "x", "filter": {}, "sort": {"_id": 1}, "batchSize": 7}
        assert [d["_id"] for d in await all_found(session, dict(command))] == list(range(500))
        batches = found(session, dict(command))
        assert [d["_id"] for d in await anext(batches)] == list(range(7))
        assert [d["_id"] for d in await anext(batches)] == list(range(7, 14))
        await batches.aclose()
        assert len(lines._free) == 1
        await lines.close()
        await client.close()

    asyncio.run(scenario())


def test_more_than_one_message_holds() -> None:
    """A set of 60 MB is written whole: MongoDB takes 48 MB at once."""

    async def scenario() -> None:
        store = await open_store(new_url())
        changes = [
            Change(Key("A", str(n)), 1, 1, os.urandom(12 * 2**20), values(), "PUT", 0)
            for n in range(5)
        ]
        await store.apply(ChangeSet(tuple(changes)))
        kept = await store.current([change.key for change in changes])
        assert [one and one.body for one in kept] == [change.body for change in changes]
        await store.close()

    asyncio.run(scenario())


def test_a_server_that_is_silent_is_given_up_in_time() -> None:
    async def scenario() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(lambda: Line(0.05), "127.0.0.1", port)
        with pytest.raises(NetworkTimeout):
            await line.send({"ping": 1, "$db": "admin"})
        with pytest.raises(AutoReconnect):
            await line.send({"ping": 1, "$db": "admin"})
        server.close()

    asyncio.run(scenario())


def test_a_server_that_falls_silent() -> None:
    """One timer looks after all commands of a connection, and gives each its whole time."""
    answer = Line()._message({"ok": 1.0}, ())

    async def scenario() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(3):
                await message(reader)
                writer.write(answer)
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        _, line = await asyncio.get_running_loop().create_connection(Line, "127.0.0.1", port)
        watches = set()
        for _ in range(3):
            assert await line.send({"ping": 1, "$db": "admin"}) == {"ok": 1.0}
            watches.add(line._watch)
        assert len(watches) == 1
        last = asyncio.create_task(line.send({"ping": 1, "$db": "admin"}))
        await asyncio.sleep(0)
        line._look()  # the timer of the first: this one has just been asked
        assert not line.lost and line._watch not in watches
        line._asked -= wire.PATIENCE
        line._look()
        with pytest.raises(NetworkTimeout):
            await last
        assert line.lost
        server.close()

    asyncio.run(scenario())


def test_more_at_once_than_there_are_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take turns; who goes away meanwhile, waiting or served, takes no place with him."""
    monkeypatch.setattr(connections, "MOST", 2)

    async def scenario() -> None:
        url = new_url()
        client: AsyncMongoClient[Any] = AsyncMongoClient(url)
        lines = Lines.of(client, url, database_name(url))
        busy, most = 0, 0

        async def work(line: Line) -> None:
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            try:
                await asyncio.sleep(0.002)
            finally:
                busy -= 1

        for _ in range(5):
            tasks = [asyncio.create_task(lines.use(work)) for _ in range(12)]
            for n, task in enumerate(tasks):
                if n % 3 == 0:
                    task.cancel()
                if n % 4 == 0:
                    await asyncio.sleep(0.001)
            await asyncio.gather(*tasks, return_exceptions=True)
        assert (most, lines._used, len(lines._waiting)) == (2, 0, 0)
        await lines.close()
        await client.close()

    asyncio.run(scenario())


def test_a_caller_that_goes_away_leaves_no_answer_behind() -> None:
    """Whoever is next on a connection must not get what another one asked for."""

    async def scenario() -> None:
        url = new_url()
        client: AsyncMongoClient[Any] = AsyncMongoClient(url)
        lines = Lines.of(client, url, database_name(url))
        await client[database_name(url)].x.insert_many([{"_id": n} for n in range(20)])
        session = Plain(lines)

        async def asked(number: int) -> None:
            there = await all_found(session, {"find": "x", "filter": {"_id": number}})
            assert [d["_id"] for d in there] == [number]

        for number in range(20):
            task = asyncio.create_task(asked(number))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asked((number + 1) % 20)
        await lines.close()
        await client.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("reply", "kind", "label"),
    [
        ({"ok": 0, "code": 10107, "errmsg": "x"}, NotPrimaryError, ""),
        ({"ok": 0, "code": 112, "errmsg": "x", "errorLabels": ["L"]}, OperationFailure, "L"),
        ({"ok": 1, "writeErrors": [{"code": 11000, "errmsg": "x"}]}, OperationFailure, ""),
        ({"ok": 1, "writeConcernError": {"code": 64}, "errorLabels": ["L"]}, OperationFailure, "L"),
    ],
)
def test_what_an_answer_says(reply: dict[str, Any], kind: type[Exception], label: str) -> None:
    with pytest.raises(kind) as raised:
        wire._failed(reply)
    assert not label or raised.value.has_error_label(label)  # type: ignore[attr-defined]


def test_sessions_are_version_4_uuids() -> None:
    lsid = Line().lsid["id"]
    assert isinstance(lsid, Binary) and lsid.subtype == 4 and len(lsid) == 16


class Cluster:
    """The router of a cluster, as far as it is asked before it is used."""

    def __init__(self, **hello: Any) -> None:
        self.hello = hello
        self.sent: list[tuple[str, Any, dict[str, Any]]] = []
        self.admin = self

    def __getitem__(self, name: str) -> Cluster:
        return self

    async def command(self, name: str, of: Any = 1, **more: Any) -> Any:
        self.sent.append((name, of, more))
        return self.hello if name == "hello" else {"ok": 1}


async def test_a_cluster_spreads_what_grows_by_hashed_id() -> None:
    router: Any = Cluster(msg="isdbgrid")
    assert await require_transactions(router) is True
    assert await require_transactions(Cluster(setName="rs")) is False  # type: ignore[arg-type]
    router.sent.clear()
    await distribute(router, "vehr")
    key = {"_id": "hashed"}
    index = {"indexes": [{"key": key, "name": "_id_hashed"}]}
    assert router.sent == [
        ("createIndexes", "resource", index),
        ("shardCollection", "vehr.resource", {"key": key}),
        ("createIndexes", "version", index),
        ("shardCollection", "vehr.version", {"key": key}),
    ]


async def test_a_cluster_that_refuses_is_told_in_one_line() -> None:
    class Refusing(Cluster):
        async def command(self, name: str, of: Any = 1, **more: Any) -> Any:
            raise OperationFailure("not\nauthorized", 13, {"errmsg": "not authorized"})

    with pytest.raises(Unavailable, match="resource cannot be sharded") as problem:
        await distribute(Refusing(), "vehr")  # type: ignore[arg-type]
    assert "\n" not in str(problem.value)
