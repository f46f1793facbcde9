"""``python -m bench.micro``: the same work without sockets, for finding where it goes.

Each workload calls the application directly. What is printed is the process CPU of the best
of several batches, in microseconds per unit, and its ratio to the raw-ASGI echo of the same
process: steady enough on a busy machine to tell whether a change was worth it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from unittest import mock

import uvloop

from bench.baseline import echo
from bench.data import bundles, demo, observation
from bench.relay import relayed
from fhir_server.app import Domain, assemble, serving
from fhir_server.config import Settings
from fhir_server.store.base import Store
from fhir_server.store.mongo import sessions, wire
from fhir_server.store.mongo.opening import open_store as open_mongo
from fhir_server.store.sqlite.opening import open_store
from fhir_server.workers.process import COLLECT
from tests.mongodb import new_url

SMALL = 4
"""Rounds of 16 Observations in the record on which two stores are compared."""
PATIENCE = 600
"""Seconds that a request may take: the stand-in for MongoDB is slow."""
T = TypeVar("T")
Batch = Callable[[], Awaitable[int]]
"""Runs one batch; how many units it was."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Client:
    """Requests to an ASGI application of this process."""

    def __init__(self, app: Any, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self._app = app
        self._headers = [(b"host", b"127.0.0.1:8080"), (b"accept", b"application/fhir+json")]
        self._headers += headers

    async def request(self, method: str, url: str, body: bytes = b"") -> Answer:
        path, _, query = url.partition("?")
        headers = list(self._headers)
        if body:
            headers += [
                (b"content-type", b"application/fhir+json"),
                (b"content-length", b"%d" % len(body)),
            ]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": headers,
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        content = b"".join([message.get("body", b"") for message in sent[1:]])
        return Answer(sent[0]["status"], dict(sent[0]["headers"]), content)

    async def expect(self, status: int, method: str, url: str, body: bytes = b"") -> Answer:
        answer = await self.request(method, url, body)
        if answer.status != status:
            raise RuntimeError(f"unexpected {answer.status}: {answer.body[:300]!r}")
        return answer


class Record:
    """A server with the demo patients, and what was created in it."""

    def __init__(self, client: Client, bearing: Client) -> None:
        self.client = client
        self.bearing = bearing
        self.patients: list[str] = []
        self.observations: list[str] = []
        self._loads = [json.dumps(bundle).encode() for bundle in bundles(demo())]
        self._number = 0

    async def transaction(self) -> int:
        """One bundle; counted in resources."""
        self._number += 1
        load = self._loads[self._number % len(self._loads)]
        entries = json.loads((await self.client.expect(200, "POST", "/fhir/", load)).body)["entry"]
        places = [entry["response"]["location"].split("/_history")[0] for entry in entries]
        self.patients += [
            "Patient/" + p.rsplit("/", 1)[1] for p in places if "/Patient/" in f"/{p}"
        ]
        return len(entries)

    async def _created(self, body: bytes) -> None:
        answer = await self.client.expect(201, "POST", "/fhir/Observation", body)
        place = answer.headers[b"location"].decode().split("/_history")[0]
        self.observations.append("/fhir/Observation/" + place.rsplit("/", 1)[1])

    async def create(self, clients: int = 16, rounds: int = 12) -> int:
        for _ in range(rounds):
            numbers = range(self._number, self._number + clients)
            self._number += clients
            patients = self.patients
            await asyncio.gather(
                *(self._created(observation(patients[n % len(patients)], n)) for n in numbers)
            )
        return clients * rounds

    async def read(self, client: Client, total: int = 480, clients: int = 1) -> int:
        known = self.observations
        await _at_once(
            clients,
            (
                client.expect(200, "GET", known[number * 7919 % len(known)])
                for number in range(total)
            ),
        )
        return total

    async def search(self, total: int = 16, clients: int = 1) -> int:
        query = "code=http://loinc.org|2093-3&_sort=-date&_count=20"
        patients = (self.patients[number % len(self.patients)] for number in range(total))
        urls = (f"/fhir/Observation?patient={patient}&{query}" for patient in patients)
        await _at_once(clients, (self.client.expect(200, "GET", url) for url in urls))
        return total

    async def everything(self, total: int = 4) -> int:
        for number in range(total):
            patient = self.patients[number % len(self.patients)]
            await self.client.expect(200, "GET", f"/fhir/{patient}/$everything")
        return total


async def _at_once(clients: int, requests: Iterable[Awaitable[Answer]]) -> None:
    """All of them, so many at a time."""
    for some in batched(requests, clients):
        if clients == 1:
            await some[0]
        else:
            await asyncio.gather(*some)


def batched(requests: Iterable[T], size: int) -> Iterator[list[T]]:
    """In order, ``size`` at a time."""
    left = iter(requests)
    while some := list(islice(left, size)):
        yield some


class Idle:
    """What the process spends on itself while it waits for a database, per second of the wall."""

    spent = 0.0

    async def look(self, seconds: float = 2.0) -> None:
        start = time.process_time()
        await asyncio.sleep(seconds)
        self.spent = (time.process_time() - start) / seconds


IDLE = Idle()


async def best(batch: Batch, batches: int) -> float:
    """Least process CPU of one unit, in microseconds, without what waiting costs."""
    least = float("inf")
    for _ in range(batches):
        start, wall = time.process_time(), time.perf_counter()
        units = await batch()
        waited = (time.perf_counter() - wall) * IDLE.spent
        least = min(least, (time.process_time() - start - waited) / units * 1e6)
    return least


async def echoed(client: Client, total: int = 2000) -> int:
    for _ in range(total):
        await client.request("GET", "/")
    return total


async def figures(
    domain: Domain, app: Any, secured: Any, batches: int, rounds: int
) -> dict[str, float]:
    """Workload -> microseconds. What is read comes first, and twice before it counts."""
    token = await domain.tokens.issue(scope="system/*.cruds", minutes=60, client="bench")
    bearing = Client(secured, ((b"authorization", f"Bearer {token}".encode()),))
    record, raw = Record(Client(app), bearing), Client(echo)
    while len(record.patients) < 3:
        await record.transaction()
    await record.create(rounds=rounds)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)
    await IDLE.look()
    found = {"echo": await best(lambda: echoed(raw), batches)}
    work: tuple[tuple[str, Batch, int], ...] = (
        ("read", lambda: record.read(record.client), 2 * batches),
        ("read, 16 at once", lambda: record.read(record.client, clients=16), 2 * batches),
        ("read, token", lambda: record.read(record.bearing), 2 * batches),
        (
            "read, token, 16 at once",
            lambda: record.read(record.bearing, clients=16),
            2 * batches,
        ),
        ("search, page of 20", record.search, batches),
        ("search, 16 at once", lambda: record.search(clients=16), batches),
        ("$everything", record.everything, batches),
        ("create, 16 at once", lambda: record.create(rounds=2), batches),
        ("create, 1 client", lambda: record.create(clients=1, rounds=16), batches),
        ("transaction, per resource", record.transaction, batches),
    )
    for name, batch, times in work:
        await batch()
        found[name] = await best(batch, times)
    return found


async def measured(store: Store, folder: Path, batches: int, rounds: int) -> dict[str, float]:
    settings = replace(Settings(), data=folder, request_seconds=PATIENCE)
    domain = await assemble(settings, store)
    try:
        async with serving(domain, open_=True) as app, serving(domain) as secured:
            return await figures(domain, app, secured, batches, rounds)
    finally:
        await store.close()


async def on_sqlite(batches: int, rounds: int) -> dict[str, float]:
    with TemporaryDirectory() as folder:
        store = await open_store(Path(folder), "serve")
        return await measured(store, Path(folder), batches, rounds)


async def on_mongo(batches: int, rounds: int, wait: float) -> dict[str, float]:
    """Its server and the relay before it are processes of their own; ``wait``: milliseconds."""
    with (
        TemporaryDirectory() as folder,
        relayed(new_url(), wait) as url,
        mock.patch.object(sessions, "MILLISECONDS", PATIENCE * 1000),
        mock.patch.object(wire, "PATIENCE", float(PATIENCE)),
    ):
        store = await open_mongo(f"{url}&socketTimeoutMS={PATIENCE * 1000}")
        return await measured(store, Path(folder), batches, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.micro", description=__doc__)
    parser.add_argument("--batches", type=int, default=10, help="the best of so many counts")
    parser.add_argument("--backend", choices=("sqlite", "mongo"), default="sqlite")
    parser.add_argument(
        "--wait", type=float, default=0.0, help="milliseconds that MongoDB takes for a read"
    )
    arguments = parser.parse_args()
    uvloop.install()  # as the server does
    if arguments.backend == "sqlite":
        found, other = asyncio.run(on_sqlite(arguments.batches, 100)), {}
    else:
        # A small record: the stand-in for MongoDB takes its time, which is not ours.
        found = asyncio.run(on_sqlite(arguments.batches, SMALL))
        other = asyncio.run(on_mongo(arguments.batches, SMALL, arguments.wait))
    for name, micros in found.items():
        line = f"{name:26} {micros:9.1f} us {micros / found['echo']:8.1f} echoes"
        if other:
            line += f"   mongo {other[name]:9.1f} us {other[name] / micros:6.2f} of sqlite"
        print(line)


if __name__ == "__main__":
    main()
