"""Bits flip on the disk, behind SQLite's back: R18."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import shutil
import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path

from fhir_server.cli.doctor import examined
from fhir_server.config import Settings
from fhir_server.model.problem import Problem
from fhir_server.model.resource import Key
from fhir_server.search.plan import Scan, Search
from fhir_server.store.sqlite import wal
from fhir_server.store.sqlite.opening import open_store
from tests.faults.load import patient
from tests.serving import served

Bodies = dict[tuple[Key, int], bytes]
COUNT = 40


def stored(folder: Path) -> dict[str, Bodies]:
    """A data directory with patients of two versions: the older half of the writes in the
    database, the newer in its log.
    """
    with served("sqlite", folder / "made") as server:
        for number in range(COUNT):
            server.put(f"Patient/p{number}", patient(f"one-{number}", f"p{number}"))
        connection = sqlite3.connect(folder / "made" / "vehr.sqlite")
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
        for number in range(COUNT):
            server.put(f"Patient/p{number}", patient(f"two-{number}", f"p{number}"))
        bodies = server.run(every(folder / "made"))
        shutil.copytree(folder / "made", folder / "data", ignore=live)
        connection.close()
    assert (folder / "data" / "vehr.sqlite-wal").stat().st_size > 100_000
    return bodies


def live(_: str, names: list[str]) -> set[str]:
    """What belongs to the running process."""
    return {name for name in names if name.endswith(("-shm", ".sock", ".lock"))}


async def every(folder: Path) -> dict[str, Bodies]:
    """Every version by the feed and by its name, and the list of the type."""
    store = await open_store(folder, "command")
    try:
        feed = {(item.key, item.version): item.body async for item in store.changes(0)}
        names = {}
        for number in range(COUNT):
            for version in (1, 2):
                item = await store.version(Key("Patient", f"p{number}"), version)
                if item is not None:
                    names[item.key, item.version] = item.body
        page = await store.run(Search((Scan("Patient"),), count=1000))
        listed = {(item.key, item.version): item.body for item in page.matches}
    finally:
        await store.close()
    return {"feed": feed, "names": names, "list": listed}


def flip(folder: Path, data: Path, name: str, chance: random.Random) -> str:
    """One flipped bit in a copy of ``data``; where. Not in the last transaction of the log:
    there it cannot be told from a write that a loss of power has torn.
    """
    case = folder / "case"
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(data, case)
    content = bytearray((case / name).read_bytes())
    end = len(content)
    if name.endswith("-wal"):
        end = wal.HEADER.size + wal.commits(case / name)[-2] * (wal.FRAME.size + 4096)
    place = chance.randrange(end)
    content[place] ^= 1 << chance.randrange(8)
    (case / name).write_bytes(content)
    return f"{name} at {place}"


def consequence(case: Path, bodies: dict[str, Bodies], where: str) -> str:
    """ "harmless", "refused" or "found": AssertionError for what is wrong and silent."""
    try:
        seen = asyncio.run(every(case))
    except (Problem, sqlite3.Error, ValueError):
        return "refused"
    for road, found in seen.items():
        wrong = [place for place, body in found.items() if body != bodies["feed"].get(place)]
        assert not wrong, f"{where}: by {road} {wrong} is served with other bytes"
    if seen == bodies:
        return "harmless"
    settings = replace(Settings(), store="sqlite:", data=case)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        well = asyncio.run(examined(settings, full=True, scrub=True))
    missing = [(road, place) for road in bodies for place in bodies[road].keys() - seen[road]]
    assert not well, f"{where}: {missing} is not served, and the doctor says\n{said.getvalue()}"
    return "found"


def flips(folder: Path, count: int, seed: int) -> Counter[str]:
    bodies, chance, sums = stored(folder), random.Random(seed), Counter[str]()
    for number in range(count):
        name = ("vehr.sqlite", "vehr.sqlite-wal")[number % 2]
        where = flip(folder, folder / "data", name, chance)
        sums[consequence(folder / "case", bodies, where)] += 1
    return sums
