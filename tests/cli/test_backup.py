"""Backup under load, restore, and what a restore refuses; R19, T06, T17."""

from __future__ import annotations

import asyncio
import io
import random
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from fhir_server.access.ports import ArchiveError
from fhir_server.app import opened
from fhir_server.cli.archives import take_backup, use_backup
from fhir_server.config import Settings
from fhir_server.store.archive import MANIFEST
from fhir_server.store.sqlite import schema
from fhir_server.store.sqlite.schema import FILE
from tests.faults.check import check
from tests.faults.load import Load, Told
from tests.faults.running import ROOT, clean_environ, running
from tests.serving import served

CONTENT = bytes(range(256)) * 400
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">something</div>'


def vehr(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fhir_server", *map(str, words)],
        cwd=ROOT,
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def as_of(before: Told, after: Told) -> Told:
    """What must be, and what may be, in a copy taken between two moments."""
    later = (after.ok.keys() | after.unknown) - before.ok.keys()
    return replace(before, unknown=set(later), perhaps_deleted=after.perhaps_deleted)


@pytest.mark.slow
def test_r19_a_backup_under_load_restores_whole(tmp_path: Path) -> None:
    data = tmp_path / "data"

    async def backed_up(base: str) -> None:
        made = httpx.post(f"{base}/Binary", content=CONTENT, headers={"content-type": "image/png"})
        id_ = made.json()["id"]
        load = Load(base, clients=6, seed=3)
        await asyncio.sleep(1)
        moments: list[tuple[Path, Told]] = []
        for name in ("one.tar", "two"):
            before = deepcopy(load.told)
            done = await asyncio.to_thread(vehr, "backup", tmp_path / name, "--data", data)
            assert done.returncode == 0, done.stderr
            moments.append((tmp_path / name, before))
        told = await load.stop()
        assert len(told.ok) > len(moments[0][1].ok) > 10
        for place, before in moments:
            target = tmp_path / f"{place.stem}-restored"
            done = vehr("restore", place, "--data", target)
            assert done.returncode == 0, done.stderr
            await check(target, as_of(before, told), apart=frozenset({"Binary"}))
            with running(target, "--open") as again:
                raw = {"accept": "image/png"}
                assert httpx.get(f"{again.base}/Binary/{id_}", headers=raw).content == CONTENT

    with running(data, "--open") as server:
        asyncio.run(backed_up(server.base))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a patient, a blob and a token."""
    folder = tmp_path_factory.mktemp("small")
    with served("sqlite", folder / "data") as server:
        server.create({"resourceType": "Patient", "id": "p"})
        headers = {"content-type": "image/png"}
        assert server.send("POST", "Binary", content=CONTENT, headers=headers).status_code == 201
        (folder / "token").write_text(server.token("system/*.cruds"))
    take_backup(Settings(data=folder / "data"), folder / "backup.tar")
    take_backup(Settings(data=folder / "data"), folder / "backup")
    return folder


def test_nothing_is_overwritten(small: Path, tmp_path: Path) -> None:
    for place in ("backup.tar", "backup"):
        with pytest.raises(ArchiveError, match="there already"):
            take_backup(Settings(data=small / "data"), small / place)
    for target in (small / "data", small / "token"):
        with pytest.raises(ArchiveError, match="not empty"):
            use_backup(Settings(data=target), small / "backup")
    with pytest.raises(ArchiveError, match="no database"):
        take_backup(Settings(data=tmp_path), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_tokens_do_not_come_back(small: Path, tmp_path: Path) -> None:
    async def verified(data: Path) -> bool:
        async with opened(Settings(data=data)) as domain:
            return await domain.tokens.verify((small / "token").read_text()) is not None

    use_backup(Settings(data=tmp_path / "new"), small / "backup.tar")
    assert not asyncio.run(verified(tmp_path / "new"))
    assert asyncio.run(verified(small / "data"))
    assert sorted(p.name for p in (tmp_path / "new").iterdir() if p.is_dir()) == ["blobs"]


def refused(place: Path, data: Path) -> str:
    with pytest.raises(ArchiveError) as caught:
        use_backup(Settings(data=data), place)
    assert not data.exists() and not data.with_name(data.name + ".part").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_truncated_backup_is_refused(small: Path, tmp_path: Path) -> None:
    whole = (small / "backup.tar").read_bytes()
    chance = random.Random(4)
    for size in (0, 1, 511, 512, *(chance.randrange(len(whole) - 10_240) for _ in range(20))):
        cut = tmp_path / "cut.tar"
        cut.write_bytes(whole[:size])
        refused(cut, tmp_path / "new")


def test_a_changed_backup_is_refused(small: Path, tmp_path: Path) -> None:
    """One bit anywhere in the content of any file."""
    chance = random.Random(5)
    for name in [MANIFEST, FILE, *(str(p.relative_to(small / "backup")) for p in blobs(small))]:
        for _ in range(6):
            copy = tmp_path / "copy"
            shutil.copytree(small / "backup", copy)
            content = bytearray((copy / name).read_bytes())
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            (copy / name).write_bytes(content)
            if name != MANIFEST:
                assert "was changed" in refused(copy, tmp_path / "new")
            shutil.rmtree(copy)
    missing = tmp_path / "missing"
    shutil.copytree(small / "backup", missing)
    blobs(small, missing)[0].unlink()
    assert "not a whole backup" in refused(missing, tmp_path / "new")


def blobs(small: Path, backup: Path | None = None) -> list[Path]:
    return [p for p in ((backup or small / "backup") / "blobs").rglob("*") if p.is_file()]


def rewritten(small: Path, target: Path, change: Callable[[tarfile.TarFile], None]) -> Path:
    """The backup with further members at its end."""
    with tarfile.open(small / "backup.tar") as source, tarfile.open(target, "w") as tar:
        for member in source:
            tar.addfile(member, source.extractfile(member))
        change(tar)
    return target


def member(name: str, kind: bytes = tarfile.REGTYPE) -> Callable[[tarfile.TarFile], None]:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, "/etc/passwd", 1 if kind == b"0" else 0
        tar.addfile(info, io.BytesIO(b"x"))

    return add


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../evil", tarfile.REGTYPE),
        ("/evil", tarfile.REGTYPE),
        ("blobs/../../evil", tarfile.REGTYPE),
        ("more", tarfile.REGTYPE),
        (FILE, tarfile.REGTYPE),
        ("link", tarfile.SYMTYPE),
        (FILE, tarfile.SYMTYPE),
        ("folder", tarfile.DIRTYPE),
        ("device", tarfile.CHRTYPE),
    ],
)
def test_t06_t17_members_that_the_manifest_does_not_name(
    small: Path, tmp_path: Path, name: str, kind: bytes
) -> None:
    made = rewritten(small, tmp_path / "made.tar", member(name, kind))
    assert "does not name" in refused(made, tmp_path / "new")
    assert not (tmp_path / "evil").exists() and not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("name", ["../evil", "/evil", "blobs/aa/../../x", "server.lock"])
def test_t17_names_in_a_manifest(small: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(small / "backup", copy)
    blob = blobs(small, copy)[0].relative_to(copy)
    text = (copy / MANIFEST).read_text().replace(str(blob), name)
    (copy / MANIFEST).write_text(text)
    assert "no backup holds" in refused(copy, tmp_path / "new")


# --- of older programs: R20 ---------------------------------------------------------------


@pytest.mark.parametrize("deltas", [(), (("CREATE TABLE further (rid INTEGER PRIMARY KEY)",),)])
def test_r20_a_backup_of_an_older_schema_is_restored(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deltas: tuple[tuple[str, ...]]
) -> None:
    """Of the version before the index of words; by this program, and by one that is to come."""
    use_backup(Settings(data=tmp_path / "old"), small / "backup")
    connection = sqlite3.connect(tmp_path / "old" / FILE)
    for statement in ("DROP TABLE words", "DROP TABLE followed", "DROP TABLE worded"):
        connection.execute(statement)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    take_backup(Settings(data=tmp_path / "old"), tmp_path / "older.tar")
    monkeypatch.setattr(schema, "DELTAS", (*schema.DELTAS, *deltas))
    monkeypatch.setattr(schema, "VERSION", schema.UNRELEASED + len(schema.DELTAS))
    steps = tuple(f"PRAGMA user_version = {n}" for n in range(2, schema.VERSION + 1))
    monkeypatch.setattr(schema, "_SET_VERSION", steps)
    done = use_backup(Settings(data=tmp_path / "new"), tmp_path / "older.tar")
    assert (done.manifest.schema, sum(done.manifest.counts.values())) == (2, 2)
    with served("sqlite", tmp_path / "new") as server:
        [found] = server.get("Patient").json()["entry"]
        assert server.get("Patient?_text=nothing").json()["total"] == 0
        found["resource"]["text"] = {"status": "generated", "div": DIV}
        assert server.put(f"Patient/{found['resource']['id']}", found["resource"]).is_success
        assert server.get("Patient?_text=something").json()["total"] == 1


# --- encrypted: T26 ---------------------------------------------------------------------


def sealing(folder: Path, data: str, key: str = "key") -> Settings:
    path = folder / key
    if not path.exists():
        path.write_text(random.Random(key).randbytes(32).hex())
    return Settings(data=folder / data, backup_key=path)


@pytest.fixture(scope="module")
def sealed(small: Path) -> Path:
    """An encrypted backup of the small data directory."""
    take_backup(sealing(small, "data"), small / "sealed")
    return small / "sealed"


def test_an_encrypted_backup_restores_whole(small: Path, sealed: Path, tmp_path: Path) -> None:
    assert sealed.is_file() and sealed.stat().st_mode & 0o777 == 0o600
    content = sealed.read_bytes()
    assert CONTENT[:64] not in content and b"SQLite format" not in content
    assert MANIFEST.encode() not in content
    assert not list(small.glob("**/*.part"))
    done = use_backup(replace(sealing(small, "data"), data=tmp_path / "new"), sealed)
    with served("sqlite", tmp_path / "new") as server:
        assert server.get("Patient?_summary=count").json()["total"] == 1
    assert len(blobs(small, tmp_path / "new")) == 1
    assert sum(done.manifest.counts.values()) == 2


def test_a_wrong_key_a_missing_key_and_a_needless_key(
    small: Path, sealed: Path, tmp_path: Path
) -> None:
    def said(place: Path, key: str) -> str:
        settings = sealing(small, "data", key) if key else Settings()
        with pytest.raises(ArchiveError) as caught:
            use_backup(replace(settings, data=tmp_path / "new"), place)
        assert list(tmp_path.iterdir()) == []
        return str(caught.value)

    assert "the key does not open" in said(sealed, "other")
    assert "is encrypted" in said(sealed, "")
    for place in ("backup", "backup.tar"):
        assert "is not encrypted" in said(small / place, "key")


def test_a_truncated_or_changed_encrypted_backup_is_refused(
    small: Path, sealed: Path, tmp_path: Path
) -> None:
    whole, chance = sealed.read_bytes(), random.Random(7)
    settings = replace(sealing(small, "data"), data=tmp_path / "new")
    (tmp_path / "cut").write_bytes(whole)
    use_backup(settings, tmp_path / "cut")
    shutil.rmtree(tmp_path / "new")
    for number in range(40):
        if number % 2:
            changed = whole[: chance.randrange(len(whole))]
        else:
            place = chance.randrange(len(whole))
            changed = whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :]
        (tmp_path / "cut").write_bytes(changed)
        with pytest.raises(ArchiveError):
            use_backup(settings, tmp_path / "cut")
        assert [p.name for p in tmp_path.iterdir()] == ["cut"]


def test_nothing_unsealed_lies_beside_the_backup(small: Path, tmp_path: Path) -> None:
    """Not even if it fails: what is put together lies in the data directory."""
    before = sorted(p.name for p in (small / "data").iterdir())
    (tmp_path / "is-a-file").write_text("")
    with pytest.raises(FileExistsError):
        take_backup(sealing(small, "data"), tmp_path / "is-a-file" / "backup")
    assert sorted(p.name for p in (small / "data").iterdir()) == before
    (small / "data" / "backup.part").mkdir()
    with pytest.raises(ArchiveError, match="did not end"):
        take_backup(sealing(small, "data"), tmp_path / "backup")
    (small / "data" / "backup.part").rmdir()
    assert [p.name for p in tmp_path.iterdir()] == ["is-a-file"]


@pytest.mark.slow
def test_encrypted_by_the_commands(small: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("ab" * 32)
    place, data = tmp_path / "b", small / "data"
    done = vehr("backup", place, "--key-file", key, "--data", data)
    assert done.returncode == 0 and "encrypted" in done.stdout, done.stderr
    done = vehr("restore", place, "--data", tmp_path / "new")
    assert done.returncode == 2 and "is encrypted" in done.stderr
    done = vehr("restore", place, "--key-file", small / "token", "--data", tmp_path / "new")
    assert done.returncode == 2 and "not a key file" in done.stderr
    done = vehr("restore", place, "--key-file", key, "--data", tmp_path / "new")
    assert done.returncode == 0, done.stderr
