"""Clients that write and remember what they were told: the left side of the ledger check."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field
from typing import Any

from bench.client import Answer, Connection

SYSTEM = "urn:example:load"
LOST = (OSError, asyncio.IncompleteReadError, ValueError, IndexError)
"""What a client sees when the server dies."""

Place = tuple[str, int]
"""(id, version)."""


@dataclass(slots=True)
class Told:
    """``ok``: tag -> where it was stored, None where the answer did not say (transactions).
    ``unknown``: tags of requests without a clear answer. ``refused``: tags that were not taken.
    ``deleted`` and ``perhaps_deleted``: ids. ``failed``: what was said with a 500.
    """

    ok: dict[str, Place | None] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    perhaps_deleted: set[str] = field(default_factory=set)
    statuses: dict[int, int] = field(default_factory=dict)
    failed: list[bytes] = field(default_factory=list)


def patient(tag: str, id_: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "resourceType": "Patient",
        "identifier": [{"system": SYSTEM, "value": tag}],
        "name": [{"family": f"Family-{tag}", "given": ["Load"]}],
        "birthDate": "1970-01-01",
    }
    return made | {"id": id_} if id_ else made


def transaction(tag: str, id_: str) -> dict[str, Any]:
    """Two creates and an update: whole or absent."""
    create = {"resource": patient(tag), "request": {"method": "POST", "url": "Patient"}}
    update = {
        "resource": patient(tag, id_),
        "request": {"method": "PUT", "url": f"Patient/{id_}"},
    }
    return {"resourceType": "Bundle", "type": "transaction", "entry": [create, update, create]}


class Client:
    """One client with resources of its own, and one that it shares with the others."""

    def __init__(self, base: str, name: str, told: Told, chance: random.Random) -> None:
        self._base = base
        self._name = name
        self._told = told
        self._chance = chance
        self._mine: list[str] = []
        self._connection: Connection | None = None
        self._number = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._number += 1
            await self.step(f"{self._name}-{self._number}")
        await self._drop()

    async def step(self, tag: str) -> None:
        """One random request."""
        what = self._chance.random()
        if what < 0.4 or not self._mine:
            await self._create(tag)
        elif what < 0.7:
            await self._write(tag, self._chance.choice(self._mine))
        elif what < 0.75:
            await self._write(tag, "shared")
        elif what < 0.85:
            await self._delete(self._mine.pop())
        else:
            body = transaction(tag, f"{self._name}-fixed")
            self._note(tag, await self._send("POST", "", body), None)

    async def _create(self, tag: str) -> None:
        answer = await self._send("POST", "/Patient", patient(tag))
        where = None
        if answer is not None and answer.status == 201:
            where = place(answer)
            self._mine.append(where[0])
        self._note(tag, answer, where)

    async def _write(self, tag: str, id_: str) -> None:
        answer = await self._send("PUT", f"/Patient/{id_}", patient(tag, id_))
        stored = answer is not None and answer.status in (200, 201)
        self._note(tag, answer, place(answer) if answer and stored else None)

    async def _delete(self, id_: str) -> None:
        self._told.perhaps_deleted.add(id_)
        answer = await self._send("DELETE", f"/Patient/{id_}")
        if answer is not None and answer.status in (200, 204):
            self._told.deleted.add(id_)

    def _note(self, tag: str, answer: Answer | None, where: Place | None) -> None:
        told = self._told
        if answer is None or answer.status in (429, 500, 503):
            told.unknown.add(tag)
        elif answer.status in (200, 201):
            told.ok[tag] = where
        else:
            told.refused.add(tag)

    async def _send(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> Answer | None:
        """The answer; None if there was none."""
        content = json.dumps(body).encode() if body is not None else b""
        if self._connection is None:
            self._connection = Connection(self._base, None)
        try:
            async with asyncio.timeout(20):
                answer = await self._connection.request(method, path, content)
        except (*LOST, TimeoutError):
            await self._drop()
            await asyncio.sleep(0.01)
            return None
        self._told.statuses[answer.status] = self._told.statuses.get(answer.status, 0) + 1
        if answer.status == 500:
            self._told.failed.append(answer.body)
        if answer.headers.get("connection") == "close":
            await self._drop()
        if answer.status in (429, 503):
            await asyncio.sleep(0.02)
        return answer

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close()
            except OSError:
                return


def place(answer: Answer) -> Place:
    """Where an answer says that the resource is stored."""
    resource = answer.json()
    return resource["id"], int(resource["meta"]["versionId"])


class Load:
    """Clients that run until ``stop``."""

    def __init__(self, base: str, clients: int, seed: int, told: Told | None = None) -> None:
        self.told = told or Told()
        self._stop = asyncio.Event()
        self._tasks = [
            asyncio.create_task(
                Client(base, f"s{seed}c{n}", self.told, random.Random(seed * 1000 + n)).run(
                    self._stop
                )
            )
            for n in range(clients)
        ]

    async def stop(self) -> Told:
        self._stop.set()
        await asyncio.gather(*self._tasks)
        return self.told
