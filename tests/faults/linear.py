"""Is what the clients saw one order of things? R08: a register and a history per resource.

Every write of a register is a new value, and a read says version and value, so the order of
the writes is known from the versions; what is left to check is real time. An operation takes
effect at one instant between its call and its return; versions must be in an order of such
instants (linearizability, https://doi.org/10.1145/78969.78972).
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass

from bench.client import Connection
from tests.faults.load import LOST


@dataclass(frozen=True, slots=True)
class Seen:
    """One operation: called and returned (monotonic seconds), its version (0: there was
    none) and the value that it wrote or read.
    """

    called: float
    returned: float
    version: int
    value: str
    wrote: bool


class Contradiction(AssertionError):
    """No order of instants explains what was seen."""


def explain(seen: list[Seen], unknown: frozenset[str] = frozenset()) -> None:
    """Raises Contradiction. ``unknown``: values of writes without an answer, which may have
    taken effect at any later time, or never.
    """
    values: dict[int, str] = {}
    for one in seen:
        if one.version and values.setdefault(one.version, one.value) != one.value:
            raise Contradiction(f"version {one.version} has two values")
    written = [one.version for one in seen if one.wrote]
    if len(written) != len(set(written)):
        raise Contradiction("two writes made one version")
    wrote = {one.value for one in seen if one.wrote} | unknown
    if not set(values.values()) <= wrote:
        raise Contradiction(f"nobody wrote {set(values.values()) - wrote}")
    _in_time(seen)


def _in_time(seen: list[Seen]) -> None:
    """What was called after another had returned has a version not below it, above it for a
    write. Versions that all are in such an order have instants (each its earliest possible).
    """
    returned = sorted(seen, key=lambda one: one.returned)
    index, newest = 0, 0
    for one in sorted(seen, key=lambda one: one.called):
        while index < len(returned) and returned[index].returned < one.called:
            newest = max(newest, returned[index].version)
            index += 1
        if one.version < newest + one.wrote:
            what = "made" if one.wrote else "read"
            raise Contradiction(f"version {one.version} was {what} after {newest} was seen")


def history(entries: list[tuple[int, str]], seen: list[Seen]) -> None:
    """The versions that a history shows are those that were written, each once, in order."""
    versions = [version for version, _ in entries]
    if versions != list(range(len(versions), 0, -1)):
        raise Contradiction(f"the history is not whole: {versions}")
    shown = dict(entries)
    for one in seen:
        if one.version and shown.get(one.version) != one.value:
            raise Contradiction(f"the history has another version {one.version}")


class Registers:
    """Clients that write and read a few registers at random."""

    def __init__(self, base: str, count: int, seed: int) -> None:
        self._base = base
        self._names = [f"r{number}" for number in range(count)]
        self._chance = random.Random(seed)
        self.seen: dict[str, list[Seen]] = {name: [] for name in self._names}
        self.unknown: dict[str, set[str]] = {name: set() for name in self._names}

    async def client(self, number: int, until: asyncio.Event) -> None:
        connection, turn = Connection(self._base, None), 0
        while not until.is_set():
            turn += 1
            name = self._chance.choice(self._names)
            try:
                async with asyncio.timeout(20):
                    await self._turn(connection, name, f"{number}-{turn}")
            except (*LOST, TimeoutError):
                self.unknown[name].add(f"{number}-{turn}")
                connection = Connection(self._base, None)
                await asyncio.sleep(0.02)

    async def _turn(self, connection: Connection, name: str, value: str) -> None:
        called, wrote = time.monotonic(), self._chance.random() < 0.5
        path, body = f"/Basic/{name}", basic(name, value)
        if wrote:
            answer = await connection.request("PUT", path, json.dumps(body).encode())
        else:
            answer = await connection.request("GET", path)
        returned = time.monotonic()
        if answer.status in (429, 500, 503):
            if wrote:
                self.unknown[name].add(value)
        elif answer.status == 404:
            self.seen[name].append(Seen(called, returned, 0, "", wrote=False))
        else:
            assert answer.status in (200, 201), answer
            found = answer.json()
            version, text = int(found["meta"]["versionId"]), found["code"]["text"]
            assert not wrote or text == value
            self.seen[name].append(Seen(called, returned, version, text, wrote))

    async def check(self) -> dict[str, int]:
        """Explains everything, also by the histories; counts for the report."""
        connection, sums = Connection(self._base, None), {"operations": 0, "versions": 0}
        for name in self._names:
            seen, entries = self.seen[name], []
            path: str | None = f"/Basic/{name}/_history?_count=1000"
            while path:
                page = (await connection.request("GET", path)).json()
                entries += [_version(entry["resource"]) for entry in page.get("entry", ())]
                links = {link["relation"]: link["url"] for link in page["link"]}
                path = links["next"].partition("/fhir")[2] if "next" in links else None
            explain(seen, frozenset(self.unknown[name]))
            history(entries, seen)
            sums["operations"] += len(seen)
            sums["versions"] += len(entries)
        await connection.close()
        return sums


def basic(name: str, value: str) -> dict[str, object]:
    return {"resourceType": "Basic", "id": name, "code": {"text": value}}


def _version(resource: dict[str, dict[str, str]]) -> tuple[int, str]:
    return int(resource["meta"]["versionId"]), resource["code"]["text"]
