"""A server is recorded under load; then the power goes at many instants of the recording."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from fhir_server.access.contents import blob_of
from fhir_server.model.resource import Key
from fhir_server.store.blobs import LocalBlobs
from fhir_server.store.sqlite.opening import open_store
from tests.faults.check import check
from tests.faults.killing import gone, launched
from tests.faults.load import Load, Told
from tests.faults.power import Disk, operations, recorder

CONTENT = 60_000
"""Bytes of a Binary: so many go beside the database."""


class Noted(dict[str, Any]):
    """Remembers how far the log was when an entry was made."""

    def __init__(self, far: Callable[[], int]) -> None:
        super().__init__()
        self.at: dict[str, int] = {}
        self._far = far

    def __setitem__(self, key: str, value: Any) -> None:
        self.at[key] = self._far()
        super().__setitem__(key, value)


class NotedSet(set[str]):
    def __init__(self, far: Callable[[], int]) -> None:
        super().__init__()
        self.at: dict[str, int] = {}
        self._far = far

    def add(self, item: str) -> None:
        self.at[item] = self._far()
        super().add(item)


@dataclass(slots=True)
class Recording:
    """``contents``: SHA-256 of acknowledged Binaries by id."""

    root: Path
    log: Path
    told: Told = field(default_factory=Told)
    contents: Noted = field(init=False)
    begins: int = 0

    def __post_init__(self) -> None:
        self.contents = Noted(self.far)
        self.told.ok = Noted(self.far)
        self.told.deleted = NotedSet(self.far)

    def far(self) -> int:
        return os.stat(self.log).st_size

    def acknowledged(self) -> list[int]:
        """Where in the log something was acknowledged."""
        noted = (self.told.ok, self.told.deleted, self.contents)
        return sorted({place for one in noted for place in one.at.values()})  # type: ignore[attr-defined]

    def at(self, place: int) -> tuple[Told, dict[str, str]]:
        """What had been told when the log was so far."""
        ok: Any = self.told.ok
        deleted: Any = self.told.deleted
        then = {tag: where for tag, where in ok.items() if ok.at[tag] <= place}
        told = Told(
            ok=then,
            unknown=(self.told.unknown | ok.keys()) - then.keys(),
            deleted={id_ for id_ in deleted if deleted.at[id_] <= place},
            perhaps_deleted=self.told.perhaps_deleted,
        )
        told.unknown |= self.told.refused
        contents = self.contents
        return told, {id_: sha for id_, sha in contents.items() if contents.at[id_] <= place}


async def record(folder: Path, seconds: float, seed: int, pragmas: str) -> Recording:
    """A server under load for a while, from an empty directory on."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Recording(folder / "data", folder / "log")
    made.log.touch()
    environ = {
        "LD_PRELOAD": str(recorder(folder)),
        "RECORD_ROOT": str(made.root),
        "RECORD_LOG": str(made.log),
        "LAUNCHER_PRAGMAS": pragmas,
    }
    async with launched(made.root, **environ) as launcher:
        pid = await launcher.start()
        made.begins = made.far()
        load = Load(launcher.base, 6, seed, made.told)
        binaries = asyncio.create_task(contents(launcher.base, made, random.Random(seed)))
        await asyncio.sleep(seconds)
        deadline = time.monotonic() + 120
        while len(made.told.ok) < 40 * seconds or not made.contents:
            assert time.monotonic() < deadline, "hardly anything is acknowledged"
            await asyncio.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
        await load.stop()
        await binaries
    return made


async def contents(root: str, made: Recording, chance: random.Random) -> None:
    """Puts content after content until the server is gone."""
    headers = {"content-type": "application/octet-stream"}
    async with httpx.AsyncClient(timeout=20) as client:
        for number in itertools.count():
            body, id_ = chance.randbytes(CONTENT), f"b{number}"
            try:
                answer = await client.put(f"{root}/Binary/{id_}", content=body, headers=headers)
            except httpx.TransportError:
                return
            assert answer.status_code == 201, answer.text
            made.contents[id_] = hashlib.sha256(body).hexdigest()
            await asyncio.sleep(0.03)


def instants(made: Recording, cases: int, chance: random.Random) -> list[int]:
    """Half of them right after an acknowledgement, half anywhere after the start."""
    told = [place for place in made.acknowledged() if place > made.begins]
    places = [chance.choice(told) for _ in range(cases // 2)]
    places += [chance.randint(made.begins, made.far()) for _ in range(cases - len(places))]
    return sorted(places)


async def unplug(made: Recording, cases: int, seed: int) -> Counter[str]:
    """Loses power at so many instants; each time what was acknowledged must be there."""
    memory, sums = "/dev/shm", Counter[str]()
    disk, todo = Disk(made.root), operations(made.log)
    op = next(todo, None)
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        for number, place in enumerate(instants(made, cases, random.Random(seed))):
            while op is not None and op.place < place:
                disk.do(op)
                op = next(todo, None)
            case = Path(folder) / str(number)
            disk.lose_power(case, random.Random(f"{seed}-{number}"))
            try:
                sums.update(await case_of(made, case, place))
            except Exception as error:
                error.add_note(f"power lost at {place} of {made.log}, case {number}, seed {seed}")
                raise
            shutil.rmtree(case)
    return sums


async def case_of(made: Recording, case: Path, place: int) -> dict[str, int]:
    told, known = made.at(place)
    found = await check(case, told, frozenset({"Binary"}))
    await check_contents(case, known)
    return {"cases": 1, "ok": found["ok"], "contents": len(known)}


async def check_contents(folder: Path, known: dict[str, str]) -> None:
    """Every acknowledged Binary has its content, whole."""
    store = await open_store(folder, "command")
    try:
        blobs = LocalBlobs(folder / "blobs")
        for id_, digest in known.items():
            blob = await blob_of(store.ledger, Key("Binary", id_), 1)
            assert blob is not None and blob.sha256 == digest, f"Binary/{id_} is not stored"
            whole = b"".join([part async for part in await blobs.read(blob)])
            assert hashlib.sha256(whole).hexdigest() == digest
    finally:
        await store.close()
