"""A store that was copied is the same store: versions, histories, orders, index, ledger, contents.
A copy that is killed goes on; one that cannot be right is refused."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pymongo
import pytest

from fhir_server.cli.archives import LEFT
from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Stored
from fhir_server.search.plan import TRUE, History, Scan, Search
from fhir_server.store import places
from fhir_server.store.base import Store
from fhir_server.store.blobs import LocalBlobs
from fhir_server.store.mongo.moving import MongoTarget
from fhir_server.store.mongo.opening import open_store as open_mongo
from fhir_server.store.moving import Moved, MoveError
from fhir_server.store.sqlite.moving import SqliteTarget
from fhir_server.store.sqlite.opening import open_store as open_sqlite
from fhir_server.store.sqlite.schema import FILE
from tests.audit.trail import entries
from tests.mongodb import new_url
from tests.s3 import new_bucket
from tests.serving import Json, served

PLAIN = {"content-type": "text/plain"}
CONTENT = bytes(range(256)) * 400
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


def patient(n: int, name: str = "Ann") -> Json:
    gender = ("female", "male")[n % 2]
    return {
        "resourceType": "Patient",
        "id": f"p{n}",
        "name": [{"family": f"{name}{n}"}],
        "gender": gender,
        "birthDate": f"19{50 + n % 50}-01-01",
    }


def observation(n: int) -> Json:
    code = {"system": "http://loinc.org", "code": ("2093-3", "718-7")[n % 2]}
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [code], "text": "cholesterol"},
        "subject": {"reference": f"Patient/p{n % 20}"},
        "effectiveDateTime": f"20{18 + n % 6}-03-0{1 + n % 9}",
        "valueQuantity": {"value": 4 + n % 5, "unit": "mmol/L"},
    }


def expunge(server: Any, place: str, **wanted: bool) -> None:
    parameters = [{"name": name, "valueBoolean": value} for name, value in wanted.items()]
    body = {"resourceType": "Parameters", "parameter": parameters}
    answer = server.post(f"{place}/$expunge", body)
    assert answer.status_code == 200, answer.text


def fill(server: Any) -> None:
    """A record with a past: several versions, deletions, returns, erasures, contents."""
    for n in range(20):
        server.put(f"Patient/p{n}", patient(n))
    made = [server.create(observation(n)) for n in range(30)]
    for n in range(0, 20, 3):
        server.put(f"Patient/p{n}", patient(n, "Beth"))
        server.put(f"Patient/p{n}", patient(n))
    for one in made[:6]:
        server.delete(f"Observation/{one['id']}")
    back = made[0]["id"]
    server.put(f"Observation/{back}", observation(0) | {"id": back})
    expunge(server, f"Observation/{made[3]['id']}", expungeEverything=True)
    expunge(server, "Patient/p3", expungePreviousVersions=True)
    server.send("POST", "Binary", content=CONTENT, headers=PLAIN)
    server.user("anna", "family-doctor")
    server.client("app", redirects=("https://app.example/cb",))
    server.relation("anna", "p1")
    server.token("system/*.rs")
    server.put("Patient/last", patient(50) | {"id": "last"})
    expunge(server, "Patient/last", expungeEverything=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "data"
    with served("sqlite", folder) as server:
        fill(server)
    return folder


def silent(*_: Any) -> None:
    return None


def copy(
    of: str, to: str, tmp: Path, contents: tuple[Any, Any] = (None, None), tell: Any = silent
) -> Moved:
    return asyncio.run(places.copy((of, to), contents, LEFT, tmp / "spool", tell))


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


# --- stopped in the middle --------------------------------------------------------------

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


def twin_of(source: Path, tmp: Path) -> Path:
    """A copy of the folder of a server that has stopped."""
    without = shutil.ignore_patterns("*.sock", "*.lock")
    return Path(shutil.copytree(source, tmp / "twin", ignore=without))


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


# --- what is refused --------------------------------------------------------------------


def test_a_target_that_holds_something_is_refused(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with served("sqlite", other) as server:
        server.create(patient(1))
    kept = (other / FILE).read_bytes()
    with pytest.raises(MoveError, match="not empty"):
        copy(f"sqlite:{source}", f"sqlite:{other}", tmp_path)
    assert (other / FILE).read_bytes() == kept
    url = new_url()
    with served("mongo", tmp_path / "m", at=url) as server:
        server.create(patient(1))
    with pytest.raises(MoveError, match="not empty"):
        copy(f"sqlite:{source}", url, tmp_path, (None, tmp_path / "b"))
    (tmp_path / "x.part").mkdir()
    (tmp_path / "x.part" / "mine").write_text("mine")
    with pytest.raises(MoveError, match="something else"):
        copy(f"sqlite:{source}", f"sqlite:{tmp_path / 'x'}", tmp_path)


def test_a_newer_or_older_schema_is_refused(source: Path, tmp_path: Path) -> None:
    for version, said in ((99, "use the newer program"), (2, "older program")):
        twin = twin_of(source, tmp_path / str(version))
        with closing(sqlite3.connect(twin / FILE)) as connection:
            connection.execute(" ".join(("PRAGMA user_version =", str(version))))
        with pytest.raises((Unavailable, MoveError), match=said):
            copy(f"sqlite:{twin}", f"sqlite:{tmp_path / 'new'}", tmp_path)
    url = new_url()
    with pytest.raises(MoveError, match="empty or of an older"):
        copy(url, f"sqlite:{tmp_path / 'new'}", tmp_path, (tmp_path, None))
    with pymongo.MongoClient(url) as client:
        name = urlsplit(url).path[1:]
        client[name].meta.insert_one({"_id": "schema", "version": 99})
        for pair in ((url, f"sqlite:{tmp_path / 'new'}"), (f"sqlite:{source}", url)):
            with pytest.raises(Unavailable, match="use the newer program"):
                copy(*pair, tmp_path, (tmp_path, tmp_path))
    assert not (tmp_path / "new").exists()


def test_itself_or_nothing_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(MoveError, match="the same"):
        copy(f"sqlite:{source}", f"sqlite:{source}", tmp_path)
    with pytest.raises(MoveError, match="no database"):
        copy(f"sqlite:{tmp_path / 'none'}", f"sqlite:{tmp_path / 'new'}", tmp_path)


def test_two_at_once_are_refused(source: Path, tmp_path: Path) -> None:
    target = SqliteTarget(tmp_path / "new")
    with pytest.raises(MoveError, match="running"):
        copy(f"sqlite:{source}", f"sqlite:{tmp_path / 'new'}", tmp_path)
    asyncio.run(target.close())


def test_a_missing_or_damaged_content_is_named(source: Path, tmp_path: Path) -> None:
    twin = twin_of(source, tmp_path)
    (file,) = (p for p in (twin / "blobs").rglob("*") if len(p.name) == 64)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(MoveError, match=file.name):
        copy(f"sqlite:{twin}", f"sqlite:{tmp_path / 'new'}", tmp_path)
    assert not (tmp_path / "new").exists()


Change = dict[str, Any]


@pytest.fixture(params=["drop", "body", "order", "row"])
def mutant(request: pytest.FixtureRequest) -> str:
    """What a target does not do as it should."""
    return str(request.param)


def broken(monkeypatch: pytest.MonkeyPatch, target: Any, mutant: str) -> None:
    add, rows = target.add, target.add_rows

    async def wrong(self: Any, versions: list[Any], mark: Any) -> None:
        one = versions[1]
        change: Change = {
            "body": {"raw": one.raw.replace(b"Ann", b"Eve")},
            "order": {"rid": one.rid + 1000},
        }.get(mutant, {})
        versions = [versions[0], one._replace(**change), *versions[2:]]
        if mutant == "drop":
            del versions[1]
        await add(self, versions, mark)

    async def fewer(self: Any, batch: list[Any]) -> None:
        await rows(self, batch[1:])

    if mutant == "row":
        monkeypatch.setattr(target, "add_rows", fewer)
    else:
        monkeypatch.setattr(target, "add", wrong)


def test_what_differs_is_found(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    broken(monkeypatch, SqliteTarget, mutant)
    with pytest.raises(MoveError, match="differs"):
        copy(f"sqlite:{source}", f"sqlite:{tmp_path / 'new'}", tmp_path)
    assert not (tmp_path / "new").exists()


def test_what_differs_on_mongodb_is_found(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    """And no server serves it."""
    url = new_url()
    broken(monkeypatch, MongoTarget, mutant)
    with pytest.raises(MoveError, match="differs"):
        copy(f"sqlite:{source}", url, tmp_path, (None, tmp_path / "blobs"))
    with pytest.raises(Unavailable, match="has not ended"):
        asyncio.run(open_mongo(url))


# --- the command ------------------------------------------------------------------------


def vehr(*words: object, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("VEHR_")}
    return subprocess.run(
        [sys.executable, "-m", "fhir_server", *map(str, words)],
        cwd=Path(__file__).parents[2],
        env=clean | environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


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
