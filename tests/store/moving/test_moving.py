"""A store that was copied is the same store: versions, histories, orders, index, ledger, contents.
A copy that is killed goes on; one that cannot be right is refused."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from fhir_server.cli.archives import LEFT
from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Stored
from fhir_server.search.plan import TRUE, History, Scan, Search
from fhir_server.store import places
from fhir_server.store.base import Store
from fhir_server.store.blobs import LocalBlobs
from fhir_server.store.mongo.opening import open_store as open_mongo
from fhir_server.store.sqlite.opening import open_store as open_sqlite
from tests.audit.trail import entries
from tests.mongodb import new_url
from tests.s3 import new_bucket
from tests.serving import Json, served
from tests.store.moving.copies import CONTENT, copy, expunge, patient, silent, twin_of, vehr

SEARCHES = (
    "Patient?_sort=-_lastUpdated&_count=100",
    "Patient?gender=female&_total=accurate",
    "Patient?name=ann&_sort=birthdate",
    "Observation?code=http://loinc.org|2093-3&_count=100",
    "Observation?value-quantity=gt6&_count=100",
    "Observation?subject.gender=male&_count=100",
    "Patient?_has:Observation:subject:code=2093-3",
    "Observation?date=ge2021",
    "Observation?_content=cholesterol",
    "_history?_count=500",
    "Patient/p3/_history",
)


async def everything(store: Store) -> dict[str, Any]:
    feed = [one async for one in store.changes(0)]
    kinds = (
        "user",
        "client",
        "relation",
        "erased",
        "blob",
        "blob-use",
        "search-parameter",
    )
    scans = {t: Search((Scan(t, TRUE),), count=100) for t in ("Patient", "Observation")}
    pages = {t: (await store.run(search)).matches for t, search in scans.items()}
    return {
        "feed": feed,
        "counts": await store.counts(),
        "position": await store.position(),
        "ledger": {kind: await store.ledger.scan(kind) for kind in kinds},
        "histories": [await store.versions(History(*one.key)) for one in feed],
        "orders": pages,
    }


def seen(backend: str, folder: Path, url: str = "") -> tuple[dict[str, Any], list[Json]]:
    """A store as its methods give it, and what a server over it answers."""

    async def whole() -> dict[str, Any]:
        store = await (open_mongo(url) if url else open_sqlite(folder, "command"))
        try:
            return await everything(store)
        finally:
            await store.close()

    return asyncio.run(whole()), answers(backend, folder, url)


def same(found: Any, original: Any) -> None:
    for part, expected in original[0].items():
        assert found[0][part] == expected, part
    for search, body, expected in zip(SEARCHES, found[1], original[1], strict=True):
        assert body == expected, search


def answers(backend: str, folder: Path, url: str) -> list[Json]:
    found: list[Json] = []
    with served(backend, folder, at=url) as server:
        for search in SEARCHES:
            answer = server.get(search)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            for part in ("link", "id", "meta"):
                body.pop(part, None)
            found.append(body)
        where = next(e for e in found[-2]["entry"] if e["fullUrl"].find("/Binary/") > 0)
        got = server.get(where["fullUrl"], headers={"accept": "text/plain"})
        assert got.content == CONTENT
        # Numbers go on behind those that were ever given.
        made = server.create(patient(99))
        assert made["meta"]["versionId"] == "1"
    return found


@pytest.fixture(scope="module")
def original(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What is to be the same everywhere, seen on a copy of the folder."""
    return seen("sqlite", twin_of(source, tmp_path_factory.mktemp("twin")))


def test_sqlite_to_sqlite(source: Path, original: Any, tmp_path: Path) -> None:
    moved = copy(f"sqlite:{source}", f"sqlite:{tmp_path / 'new'}", tmp_path)
    assert moved.live["Patient"] == 20 and moved.versions["Patient"] == 34 - 2
    assert moved.blobs == 1 and moved.resumed == 0
    same(seen("sqlite", tmp_path / "new"), original)
    assert not (tmp_path / "new.part").exists()


def test_sqlite_to_mongodb_and_back(source: Path, original: Any, tmp_path: Path) -> None:
    url, blobs = new_url(), tmp_path / "mongo" / "blobs"
    copy(f"sqlite:{source}", url, tmp_path, (None, blobs))
    copy(url, f"sqlite:{tmp_path / 'back'}", tmp_path, (blobs, None))
    same(seen("sqlite", tmp_path / "back"), original)
    same(seen("mongo", tmp_path / "mongo", url), original)


def test_mongodb_to_mongodb(source: Path, original: Any, tmp_path: Path) -> None:
    one, two, blobs = new_url(), new_url(), tmp_path / "blobs"
    copy(f"sqlite:{source}", one, tmp_path, (None, blobs))
    copy(one, two, tmp_path, (blobs, blobs))
    same(seen("mongo", tmp_path, two), original)


def test_contents_go_into_a_bucket_and_back(source: Path, tmp_path: Path) -> None:
    bucket = new_bucket()
    assert copy(f"sqlite:{source}", f"sqlite:{tmp_path / 'a'}", tmp_path, (None, bucket)).blobs == 1
    assert not (tmp_path / "a" / "blobs").exists()
    copy(f"sqlite:{tmp_path / 'a'}", f"sqlite:{tmp_path / 'b'}", tmp_path, (bucket, None))
    assert asyncio.run(LocalBlobs(tmp_path / "b" / "blobs").names())


KILLED = """
    import asyncio, os, pathlib, sys
    from fhir_server.cli.archives import LEFT
    from fhir_server.store import places
    from fhir_server.store.sqlite import moving
    from fhir_server.store.mongo import moving as mongo
    of, to, spool, blobs, after = sys.argv[1:]
    moving.MANY = mongo.SPAN = 5
    left = int(after)
    def tell(what, done, total):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
    contents = None if of.startswith("sqlite:") else pathlib.Path(blobs), pathlib.Path(blobs)
    asyncio.run(places.copy((of, to), contents, LEFT, pathlib.Path(spool), tell))
"""


def killed(of: str, to: str, tmp: Path, after: int) -> None:
    words = [of, to, tmp / "spool", tmp / "blobs", after]
    command = [sys.executable, "-c", textwrap.dedent(KILLED), *map(str, words)]
    done = subprocess.run(command, timeout=120, capture_output=True)
    assert done.returncode == -9, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 4, 15, 17, 25])
@pytest.mark.parametrize("kind", ["sqlite", "mongo"])
def test_killed_it_goes_on(
    source: Path, original: Any, tmp_path: Path, kind: str, after: int
) -> None:
    to = f"sqlite:{tmp_path / 'new'}" if kind == "sqlite" else new_url()
    blobs = tmp_path / "blobs"
    killed(f"sqlite:{source}", to, tmp_path, after)
    killed(f"sqlite:{source}", to, tmp_path, 0)
    if kind == "mongo":
        with pytest.raises(Unavailable, match="has not ended"):
            asyncio.run(open_mongo(to))
    else:
        assert not (tmp_path / "new").exists()
    moved = copy(f"sqlite:{source}", to, tmp_path, (None, blobs))
    assert moved.resumed > 0
    folder = tmp_path / "new" if kind == "sqlite" else tmp_path
    if kind == "sqlite":
        blobs.rename(folder / "blobs")
    same(seen(kind, folder, "" if kind == "sqlite" else to), original)


def feed(folder: Path) -> list[Stored]:
    async def whole() -> list[Stored]:
        store = await open_sqlite(folder, "command")
        try:
            return [one async for one in store.changes(0)]
        finally:
            await store.close()

    return asyncio.run(whole())


def test_what_is_written_meanwhile_stays_out(source: Path, tmp_path: Path) -> None:
    """The second part of the copy is as of the same point as the first."""
    twin = twin_of(source, tmp_path)
    before = feed(twin)
    to = f"sqlite:{tmp_path / 'new'}"
    killed(f"sqlite:{twin}", to, tmp_path, 6)
    with served("sqlite", twin) as server:
        for n in range(0, 20, 2):
            server.put(f"Patient/p{n}", patient(n, "Cleo"))
    assert copy(f"sqlite:{twin}", to, tmp_path).resumed > 0
    assert feed(tmp_path / "new") == before
    with served("sqlite", tmp_path / "new") as server:
        assert server.get("Patient?name=cleo").json()["total"] == 0
        assert server.get("Patient?name=ann").json()["total"] == 20


def test_what_is_erased_meanwhile_does_not_arrive(source: Path, tmp_path: Path) -> None:
    twin, to = twin_of(source, tmp_path), f"sqlite:{tmp_path / 'new'}"
    killed(f"sqlite:{twin}", to, tmp_path, 8)
    with served("sqlite", twin) as server:
        expunge(server, "Patient/p1", expungeEverything=True, keepReferences=True)
    assert copy(f"sqlite:{twin}", to, tmp_path).resumed == 0
    assert feed(tmp_path / "new") == feed(twin)


def test_a_server_may_write_to_the_source(source: Path, tmp_path: Path) -> None:
    """Under load a copy is what was there at one point."""
    twin = twin_of(source, tmp_path)
    with served("sqlite", twin) as server:
        random.seed(5)
        for n in range(40):
            server.put(f"Patient/p{random.randrange(20)}", patient(n % 20, "Dora"))
            if n == 20:
                point = server.run(server.domain.store.position())
                moved = server.run(
                    places.copy(
                        (f"sqlite:{twin}", f"sqlite:{tmp_path / 'new'}"),
                        (None, None),
                        LEFT,
                        tmp_path,
                        silent,
                    )
                )
                assert moved.point.seq == point
    assert feed(tmp_path / "new") == [one for one in feed(twin) if one.seq <= point]


@pytest.mark.slow
def test_the_command(source: Path, tmp_path: Path) -> None:
    url = new_url()
    there = vehr("copy", "--from", f"sqlite:{source}", "--to", url, VEHR_DATA=str(tmp_path / "m"))
    assert there.returncode == 0, there.stderr
    assert "digests of both sides agree" in there.stdout and "Patient" in there.stdout
    assert list((tmp_path / "m" / "blobs").rglob("*"))
    [line] = [one for one in entries(source) if one.get("interaction")]
    assert (line["interaction"], line["target"]) == ("command-copy", url)
    back = vehr(
        "copy", "--from", url, "--to", f"sqlite:{tmp_path / 'b'}", VEHR_DATA=str(tmp_path / "m")
    )
    assert back.returncode == 0, back.stderr
    assert vehr("doctor", "--full", "--scrub", "--data", tmp_path / "b").returncode == 0
    again = vehr("copy", "--from", f"sqlite:{source}", "--to", f"sqlite:{tmp_path / 'b'}")
    assert again.returncode == 2 and again.stderr.strip().endswith("a copy does not overwrite")
    bad = vehr("copy", "--from", "memory:", "--to", url)
    assert bad.returncode == 2 and "--from" in bad.stderr and len(bad.stderr.splitlines()) == 1
