"""Backups of what is not in the data directory: MongoDB and object stores. They have the same form
as those of the embedded store, so each restores into any other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.ports import ArchiveError
from fhir_server.cli import archives
from fhir_server.cli.archives import STAGE, take_backup, use_backup
from fhir_server.config import Settings
from fhir_server.store.base import Store
from fhir_server.store.mongo.opening import open_store as open_mongo
from fhir_server.store.sqlite.opening import open_store as open_sqlite
from tests.mongodb import new_url
from tests.s3 import new_bucket
from tests.serving import served
from tests.store.moving.copies import vehr

CONTENT = bytes(range(256)) * 400
PLAIN = {"content-type": "text/plain"}
KEY = "5e" * 32
EVERYTHING = {
    "resourceType": "Parameters",
    "parameter": [{"name": "expungeEverything", "valueBoolean": True}],
}


def patient(n: int, name: str = "Ann") -> dict[str, Any]:
    return {"resourceType": "Patient", "id": f"p{n}", "name": [{"family": name}]}


def fill(server: Any) -> str:
    """Where the content lies."""
    for n in range(10):
        server.put(f"Patient/p{n}", patient(n))
    server.put("Patient/p1", patient(1, "Beth"))
    server.delete("Patient/p2")
    server.user("anna", "family-doctor")
    server.token("system/*.rs")
    made = server.send("POST", "Binary", content=CONTENT, headers=PLAIN)
    place: str = made.headers["location"].partition("/_history")[0]
    return place


async def opened(settings: Settings) -> Store:
    if settings.on_mongodb:
        return await open_mongo(settings.store)
    return await open_sqlite(settings.data, "command")


def inside(settings: Settings) -> dict[str, Any]:
    async def whole() -> dict[str, Any]:
        store = await opened(settings)
        try:
            kinds = ("user", "blob", "blob-use", "erased", "token")
            ledger = {kind: await store.ledger.scan(kind) for kind in kinds}
            feed = [one async for one in store.changes(0)]
            return {"feed": feed, "counts": await store.counts(), "ledger": ledger}
        finally:
            await store.close()

    return asyncio.run(whole())


def kind(settings: Settings) -> str:
    return "mongo" if settings.on_mongodb else "sqlite"


def on(settings: Settings) -> Any:
    at = settings.store if settings.on_mongodb else ""
    return served(kind(settings), settings.data, at=at, blobs=settings.blobs)


def on_mongodb(folder: Path, **more: Any) -> Settings:
    return Settings(store=new_url(), data=folder, **more)


def in_a_bucket(folder: Path, **more: Any) -> Settings:
    return Settings(data=folder, blobs=new_bucket(), **more)


def both(folder: Path, **more: Any) -> Settings:
    return Settings(store=new_url(), data=folder, blobs=new_bucket(), **more)


def embedded(folder: Path, **more: Any) -> Settings:
    return Settings(data=folder, **more)


@pytest.mark.parametrize("of", [on_mongodb, in_a_bucket, both])
@pytest.mark.parametrize("to", [on_mongodb, in_a_bucket, embedded])
@pytest.mark.parametrize("sealed", [False, True])
def test_from_anywhere_to_anywhere(tmp_path: Path, of: Any, to: Any, sealed: bool) -> None:
    more: dict[str, Any] = {}
    if sealed:
        more["backup_key"] = tmp_path / "key"
        more["backup_key"].write_text(KEY)
    source, target = of(tmp_path / "a", **more), to(tmp_path / "b", **more)
    with on(source) as server:
        place = fill(server)
        expected = server.get("_history?_count=100").json()["entry"]
    manifest = take_backup(source, tmp_path / "backup.tar")
    assert manifest.counts == {"Patient": 9, "Binary": 1}
    if sealed:
        assert b"Patient" not in (tmp_path / "backup.tar").read_bytes()
    done = use_backup(target, tmp_path / "backup.tar")
    assert done.manifest == manifest
    had, has = inside(source), inside(target)
    assert had["ledger"].pop("token") and not has["ledger"].pop("token")
    assert has == had
    with on(target) as server:
        assert server.get(place, headers={"accept": "text/plain"}).content == CONTENT
        assert server.get("_history?_count=100").json()["entry"] == expected
        assert server.get("Patient?name=beth").json()["total"] == 1
    left = [p.name for p in tmp_path.iterdir()]
    assert sorted(left) == sorted({"a", "b", "backup.tar", *(["key"] if sealed else [])})
    assert not (source.data / STAGE).exists()


def test_it_is_as_of_one_point(tmp_path: Path) -> None:
    """While a server writes: no version is half there, none is missing in between."""
    source = on_mongodb(tmp_path / "a")
    with on(source) as server:
        fill(server)

        async def write(stop: asyncio.Event) -> None:
            n = 0
            while not stop.is_set():
                n += 1
                async with server._client() as client:
                    url, body = f"/fhir/Patient/p{n % 10}", patient(n % 10, f"Cleo{n}")
                    await client.put(url, json=body, headers={"content-type": "application/json"})

        async def scenario() -> int:
            stop = asyncio.Event()
            writing = asyncio.create_task(write(stop))
            await asyncio.sleep(0.3)
            manifest = await asyncio.to_thread(take_backup, source, tmp_path / "backup.tar")
            await asyncio.sleep(0.3)
            stop.set()
            await writing
            return manifest.position

        position = server.run(scenario())
        last = server.run(server.domain.store.position())
    assert last > position > 13
    target = embedded(tmp_path / "b")
    use_backup(target, tmp_path / "backup.tar")
    before = [one for one in inside(source)["feed"] if one.seq <= position]
    assert inside(target)["feed"] == before


def test_what_was_erased_since_stays_erased(tmp_path: Path) -> None:
    log = tmp_path / "erased.ndjson"
    source = on_mongodb(tmp_path / "a", erase_log=log)
    with served("mongo", source.data, at=source.store, erase_log=log) as server:
        place = fill(server)
        take_backup(source, tmp_path / "backup.tar")
        for gone in (place, "Patient/p1"):
            assert server.post(f"{gone}/$expunge", EVERYTHING).status_code == 200
    target = on_mongodb(tmp_path / "b", erase_log=log)
    done = use_backup(target, tmp_path / "backup.tar")
    assert done.reapplied.resources == 2
    found = inside(target)
    assert not [one for one in found["feed"] if one.key.id == "p1" or one.key.type == "Binary"]
    assert len(found["ledger"]["erased"]) == 2 and not found["ledger"]["blob"]
    assert not [p for p in (target.data / "blobs").rglob("*") if len(p.name) == 64]


def test_a_restore_does_not_overwrite(tmp_path: Path) -> None:
    source = on_mongodb(tmp_path / "a")
    with on(source) as server:
        fill(server)
    take_backup(source, tmp_path / "backup")
    before = inside(source)
    with pytest.raises(ArchiveError, match="not empty"):
        use_backup(source, tmp_path / "backup")
    assert inside(source) == before
    with pytest.raises(ArchiveError, match="there already"):
        take_backup(source, tmp_path / "backup")
    assert not (tmp_path / "a.restore").exists()


def test_a_restore_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = on_mongodb(tmp_path / "a"), on_mongodb(tmp_path / "b")
    with on(source) as server:
        fill(server)
    take_backup(source, tmp_path / "backup")
    returned = archives._returned

    def killed(stage: Path, settings: Settings) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(archives, "_returned", killed)
    with pytest.raises(KeyboardInterrupt):
        use_backup(target, tmp_path / "backup")
    assert (tmp_path / "b.restore").exists()
    monkeypatch.setattr(archives, "_returned", returned)
    use_backup(target, tmp_path / "backup")
    assert inside(target)["feed"] == inside(source)["feed"]
    assert not (tmp_path / "b.restore").exists()


def test_one_backup_at_a_time(tmp_path: Path) -> None:
    """And what a killed one has left does not get into the next."""
    source = on_mongodb(tmp_path / "a")
    with on(source) as server:
        fill(server)
    left = source.data / STAGE / "left"
    left.parent.mkdir(parents=True)
    left.write_text("left")
    with archives._stage(source) as stage:
        stage.mkdir()
        with pytest.raises(ArchiveError, match="another backup"):
            take_backup(source, tmp_path / "x")
        assert stage.exists()
    manifest = take_backup(source, tmp_path / "backup")
    assert not left.exists() and len(manifest.files) == 2


@pytest.mark.slow
def test_the_commands(tmp_path: Path) -> None:
    source, target = on_mongodb(tmp_path / "a"), on_mongodb(tmp_path / "b")
    with on(source) as server:
        fill(server)
    key = tmp_path / "key"
    key.write_text(KEY)
    for settings, command in ((source, "backup"), (target, "restore")):
        done = vehr(
            *(command, tmp_path / "x", "--key-file", key, "--data", settings.data),
            VEHR_STORE=settings.store,
        )
        assert done.returncode == 0, done.stderr
        assert "10 resources" in done.stdout
    assert inside(target)["feed"] == inside(source)["feed"]
    again = vehr("restore", tmp_path / "x", "--key-file", key, VEHR_STORE=target.store)
    assert again.returncode == 2 and "not empty" in again.stderr
