"""R18: a flipped bit is found and named, and never served."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from fhir_server.model.problem import Problem, Unavailable
from fhir_server.search.plan import IdIn, Scan, Search
from fhir_server.store.sqlite import schema, wal
from fhir_server.store.sqlite.opening import open_store
from tests.faults import flipping

pytestmark = pytest.mark.slow


def test_r18_flips_anywhere(tmp_path: Path) -> None:
    found = flipping.flips(tmp_path, 30, seed=18)
    assert found["refused"] > 0, found


def test_r18_the_log(tmp_path: Path) -> None:
    """In the middle: commits that were acknowledged lie behind. At its end: a torn write."""
    bodies = flipping.stored(tmp_path)
    name = "vehr.sqlite-wal"
    log = tmp_path / "data" / name
    whole = log.read_bytes()
    ends = wal.commits(log)
    step = wal.FRAME.size + 4096

    def opened(content: bytes) -> dict[str, flipping.Bodies]:
        shutil.rmtree(tmp_path / "case", ignore_errors=True)
        shutil.copytree(tmp_path / "data", tmp_path / "case")
        (tmp_path / "case" / name).write_bytes(content)
        return asyncio.run(flipping.every(tmp_path / "case"))

    assert opened(whole) == bodies
    for place in (wal.HEADER.size + (ends[3] - 1) * step + 999, 17):
        bad = bytearray(whole)
        bad[place] ^= 2
        with pytest.raises(wal.DamagedLog, match=name) as caught:
            opened(bytes(bad))
    end = wal.HEADER.size + (ends[-1] - 1) * step
    torn = whole[:end] + bytes([whole[end + 30] ^ 1]) * step
    seen, bodies = opened(torn)["feed"], bodies["feed"]
    assert len(seen) == len(bodies) - 1 and set(seen) < set(bodies)
    assert "damaged" in str(caught.value)


def test_r18_the_advice_works(tmp_path: Path) -> None:
    bodies = flipping.stored(tmp_path)
    log = tmp_path / "data" / "vehr.sqlite-wal"
    bad = bytearray(log.read_bytes())
    bad[len(bad) // 2] ^= 1
    log.write_bytes(bad)
    with pytest.raises(wal.DamagedLog) as caught:
        asyncio.run(open_store(tmp_path / "data", "serve"))
    size = int(str(caught.value).partition("truncate -s ")[2].split()[0])
    with log.open("r+b") as file:
        file.truncate(size)
    seen = asyncio.run(flipping.every(tmp_path / "data"))["feed"]
    assert flipping.COUNT < len(seen) < len(bodies["feed"])


def test_r18_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vehr.sqlite").write_bytes(b"something else" * 999)
    with pytest.raises(Unavailable, match="cannot be opened"):
        asyncio.run(open_store(tmp_path, "serve"))
    (tmp_path / "vehr.sqlite").unlink()
    asyncio.run(closed(tmp_path))


async def closed(folder: Path) -> None:
    """The refusal left no lock behind."""
    store = await open_store(folder, "serve")
    await store.close()


def test_the_check_of_flips_can_fail(tmp_path: Path) -> None:
    bodies = flipping.stored(tmp_path)
    place = next(iter(bodies["list"]))
    with pytest.raises(AssertionError, match="other bytes"):
        flipping.consequence(
            tmp_path / "data", bodies | {"feed": bodies["feed"] | {place: b"{}"}}, "nowhere"
        )
    assert issubclass(wal.DamagedLog, Problem)


def test_r18_the_dictionary(tmp_path: Path) -> None:
    """This program has its own copy; what only the database has is refused by name."""
    bodies = flipping.stored(tmp_path)
    connection = sqlite3.connect(tmp_path / "data" / schema.FILE)
    connection.execute("UPDATE dictionary SET content = zeroblob(length(content))")
    connection.commit()
    assert asyncio.run(flipping.every(tmp_path / "data")) == bodies
    connection.execute("INSERT INTO dictionary VALUES (4294967295, ?)", (b"\x37\xa4\x30\xec" * 9,))
    connection.commit()
    connection.close()
    with pytest.raises(Problem, match="dictionary"):
        asyncio.run(flipping.every(tmp_path / "data"))


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE resource SET seq = seq - 1 WHERE id = 'p7'",
        "UPDATE version SET version = 3 WHERE seq = (SELECT seq FROM resource WHERE id = 'p7')",
        "UPDATE resource SET id = 'q7' WHERE id = 'p7'",
        "UPDATE resource SET type = 'Person' WHERE id = 'p7'",
    ],
)
def test_r18_another_body_is_not_served(tmp_path: Path, sql: str) -> None:
    """Columns that lead to a body: none shows one patient as another."""
    flipping.stored(tmp_path)
    connection = sqlite3.connect(tmp_path / "data" / schema.FILE)
    assert connection.execute(sql).rowcount == 1
    connection.commit()
    connection.close()

    async def look() -> None:
        store = await open_store(tmp_path / "data", "command")
        try:
            for id_ in ("p7", "q7"):
                for type_ in ("Patient", "Person"):
                    page = await store.run(Search((Scan(type_, IdIn((id_,))),)))
                    assert not page.matches
        finally:
            await store.close()

    with pytest.raises(Problem, match=r"P[a-z]*/.7 version \d is damaged"):
        asyncio.run(look())
