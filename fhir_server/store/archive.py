"""Backups: a consistent copy of a data directory, taken while a server writes to it.

A backup holds the database as of one commit, the blobs that it names, the audit trail as far as
it goes with that commit, and a manifest with the size and SHA-256 of every file. It is a folder,
or one tar file whose first member is the manifest; a key seals that file (``sealed.py``). The
locks, the files of jobs and what is swept are left out.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tarfile
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

import msgspec

from fhir_server.store.erase_log import Entry
from fhir_server.store.files import BLOCK, File, described, sha256_of, sync, write
from fhir_server.store.sealed import Sealer, SealError, Unsealer, is_sealed
from fhir_server.store.sqlite import schema
from fhir_server.store.sqlite.reapplying import Reapplied, reapply
from fhir_server.store.sqlite.schema import FILE
from fhir_server.store.trail import FORMER, Trail, copy_piece, remember

MANIFEST: Final = "manifest.json"
FORMAT: Final = 2
"""1 had no audit trail."""
STAGE: Final = "backup.part"
"""In the data directory: where a backup is put together that leaves it sealed."""
MOST_MANIFEST: Final = 1 << 28
"""Bytes of a manifest that is read at all."""

_BLOB: Final = re.compile(r"blobs/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_CHAIN: Final = re.compile(r"audit/[0-9A-Za-z][0-9A-Za-z.\-]{0,99}\.ndjson")


class ArchiveError(Exception):
    """A backup that cannot be made or used; its text is the one line that the user reads."""


class Manifest(msgspec.Struct, frozen=True):
    """``position``: of the change feed; ``counts``: current resources per type; ``taken``:
    an instant; ``schema``: of the database; ``audit_keys``: public keys of the audit trail.
    """

    format: int
    software: str
    schema: int
    taken: str
    position: int
    counts: dict[str, int]
    files: list[File]
    audit_keys: list[str] = []


def back_up(
    data: Path,
    place: Path,
    software: str,
    taken: str,
    key: bytes | None = None,
    trail: Trail | None = None,
) -> Manifest:
    """Back up ``data`` to a new folder, or to a new file if the name ends in ``.tar`` or there is
    a ``key``. Nothing unsealed then lies anywhere but in ``data``.
    """
    if place.exists():
        raise ArchiveError(f"{place} is there already: a backup does not overwrite")
    if not (data / FILE).is_file():
        raise ArchiveError(f"there is no database in {data}")
    with _built(place, data, key) as folder:
        copy = folder / FILE
        _copy_database(data / FILE, copy)
        with closing(schema.connect(copy, readonly=True)) as connection:
            _sound(connection)
            blobs = sorted(set(_blobs(connection)))
            files = [described(folder, FILE), *(_copy_blob(data, folder, *blob) for blob in blobs)]
            pieces = [] if trail is None else trail.pieces(partial(_has_row, connection))
            files += [copy_piece(data, folder, *piece) for piece in pieces]
            manifest = Manifest(
                format=FORMAT,
                software=software,
                schema=schema.schema_version(connection),
                taken=taken,
                position=schema.last(connection, schema.SEQ),
                counts=dict(connection.execute("SELECT type, live FROM counter WHERE live > 0")),
                files=files,
                audit_keys=[] if trail is None else trail.keys,
            )
        write(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return manifest


class Restored(NamedTuple):
    manifest: Manifest
    reapplied: Reapplied


def restore(
    place: Path,
    data: Path,
    forget: Collection[str],
    erased: Collection[Entry] = (),
    key: bytes | None = None,
) -> Restored:
    """Put a backup into ``data``, which must be empty or absent. Nothing of it is used before
    all of it is verified.

    ``forget``: kinds of ledger rows that do not come back (tokens, jobs). ``erased``: what does
    not come back either, by the erase log. ``key``: what seals the backup.
    """
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise ArchiveError(f"{data} is not empty: a restore does not overwrite")
    part = data.with_name(data.name + ".part")
    try:
        part.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise ArchiveError(f"{part} is left of a restore that did not end: remove it") from None
    try:
        manifest = _unpack(place, part, key)
        _forget(part / FILE, forget)
        reapplied = reapply(part, erased)
        remember(part / FORMER, manifest.audit_keys)
        (part / MANIFEST).unlink()
        if data.exists():
            data.rmdir()
        part.rename(data)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    sync(data.absolute().parent)
    return Restored(manifest, reapplied)


# --- making -----------------------------------------------------------------------------


@contextmanager
def _built(place: Path, data: Path, key: bytes | None) -> Iterator[Path]:
    """A folder that takes its place, as it is or as a tar file, once it is complete."""
    folder = place.with_name(place.name + ".part") if key is None else data / STAGE
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise ArchiveError(f"{folder} is left of a backup that did not end: remove it") from None
    try:
        yield folder
        if key is not None:
            _seal(folder, place, key)
            shutil.rmtree(folder)
        elif place.suffix == ".tar":
            _pack(folder, place)
            shutil.rmtree(folder)
        else:
            folder.rename(place)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    sync(place.absolute().parent)


def _pack(folder: Path, place: Path) -> None:
    whole = place.with_name(place.name + ".part") / "whole.tar"
    names = _names(folder)
    with tarfile.open(whole, "w", format=tarfile.GNU_FORMAT) as tar:
        for name in names:
            tar.add(folder / name, name, recursive=False)
    sync(whole)
    whole.rename(place)


def _seal(folder: Path, place: Path, key: bytes) -> None:
    part = place.with_name(place.name + ".part")
    part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        try:
            sealer = Sealer(file, key)
            stream = cast(BinaryIO, sealer)  # tarfile asks a stream for nothing but write
            with tarfile.open(
                fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT, bufsize=BLOCK
            ) as tar:
                for name in _names(folder):
                    tar.add(folder / name, name, recursive=False)
            sealer.close()
        except BaseException:
            part.unlink()
            raise
    sync(part)
    part.rename(place)


def _names(folder: Path) -> list[str]:
    """Of the files, the manifest first."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [MANIFEST, *(str(p.relative_to(folder)) for p in files if p.name != MANIFEST)]


def _copy_database(source: Path, copy: Path) -> None:
    """As of one commit, without free pages: what was erased is not in them."""
    with closing(schema.connect(source, readonly=True)) as connection:
        schema.schema_version(connection)
        connection.execute("VACUUM INTO ?", (str(copy),))
    copy.chmod(0o600)
    sync(copy)


def _sound(connection: sqlite3.Connection) -> None:
    (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if said != "ok":
        raise ArchiveError("the database is damaged: see vehr doctor")


def _blobs(connection: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    """(SHA-256, size) of what the versions of the database name."""
    for (value,) in connection.execute("SELECT value FROM ledger WHERE kind = 'blob'"):
        row = msgspec.json.decode(value)
        yield row["sha256"], row["size"]


def _copy_blob(data: Path, folder: Path, sha256: str, size: int) -> File:
    name = f"blobs/{sha256[:2]}/{sha256}"
    target = folder / name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        shutil.copyfile(data / name, target)
    except OSError as error:
        raise ArchiveError(f"blob {sha256} cannot be read: {error.strerror}") from None
    target.chmod(0o600)
    sync(target)
    found = described(folder, name)
    if (found.sha256, found.size) != (sha256, size):
        raise ArchiveError(f"blob {sha256} is damaged")
    return found


def _has_row(connection: sqlite3.Connection, kind: str, key: str) -> bool:
    found = connection.execute("SELECT 1 FROM ledger WHERE kind = ? AND key = ?", (kind, key))
    return found.fetchone() is not None


# --- using ------------------------------------------------------------------------------


def _unpack(place: Path, folder: Path, key: bytes | None) -> Manifest:
    """Copies the files of a backup and verifies them."""
    if not place.exists():
        raise ArchiveError(f"there is no backup {place}")
    sealed = place.is_file() and is_sealed(place)
    if sealed and key is None:
        raise ArchiveError(f"{place} is encrypted: say where its key is")
    if key is not None and not sealed:
        raise ArchiveError(f"{place} is not encrypted: give no key if that is what you expect")
    try:
        if place.is_dir():
            manifest = _from_folder(place, folder)
        elif key is not None:
            manifest = _from_sealed(place, folder, key)
        else:
            with tarfile.open(place, "r:") as tar:
                manifest = _from_tar(tar, place, folder)
    except (tarfile.TarError, EOFError):
        raise ArchiveError(f"{place} is not a whole backup") from None
    except SealError as error:
        raise ArchiveError(str(error)) from None
    for entry in manifest.files:
        path = folder / entry.name
        if not path.is_file() or path.stat().st_size != entry.size:
            raise ArchiveError(f"{place} is not a whole backup: {entry.name}")
        if sha256_of(path) != entry.sha256:
            raise ArchiveError(f"{place} was changed: {entry.name}")
        path.chmod(0o600)
        sync(path)
    return manifest


def _from_folder(place: Path, folder: Path) -> Manifest:
    if not (place / MANIFEST).is_file():
        raise ArchiveError(f"{place} is not a whole backup: {MANIFEST}")
    shutil.copyfile(place / MANIFEST, folder / MANIFEST)
    manifest = _manifest((folder / MANIFEST).read_bytes())
    for entry in manifest.files:
        source, target = place / entry.name, folder / entry.name
        if source.is_symlink() or not source.is_file():
            raise ArchiveError(f"{place} is not a whole backup: {entry.name}")
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return manifest


def _from_sealed(place: Path, folder: Path, key: bytes) -> Manifest:
    """Each piece is verified before it is looked at; that the end is there, at the end."""
    with place.open("rb") as file:
        opened = Unsealer(file, key, str(place))
        stream = cast(BinaryIO, opened)  # tarfile asks a stream for nothing but read
        with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK) as tar:
            manifest = _from_tar(tar, place, folder)
        while opened.read(BLOCK):
            pass
    return manifest


def _from_tar(tar: tarfile.TarFile, place: Path, folder: Path) -> Manifest:
    """Takes what the manifest names, by name and size, and nothing else."""
    first = tar.next()
    file = tar.extractfile(first) if first is not None and first.isreg() else None
    if first is None or file is None or first.name != MANIFEST or first.size > MOST_MANIFEST:
        raise ArchiveError(f"{place} is not a backup")
    content = file.read()
    manifest = _manifest(content)
    write(folder / MANIFEST, content)
    wanted = {entry.name: entry.size for entry in manifest.files}
    while (member := tar.next()) is not None:
        content_of = tar.extractfile(member) if member.isreg() else None
        if content_of is None or wanted.pop(member.name, None) != member.size:
            raise ArchiveError(f"{place} holds what its manifest does not name")
        target = folder / member.name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with target.open("xb") as out:
            shutil.copyfileobj(content_of, out, BLOCK)
    return manifest


def _manifest(content: bytes) -> Manifest:
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError:
        raise ArchiveError("the manifest of the backup cannot be read") from None
    if manifest.format not in (1, FORMAT) or manifest.schema > schema.VERSION:
        raise ArchiveError(
            f"the backup was made by version {manifest.software}: use the newer program"
        )
    names = [entry.name for entry in manifest.files]
    if len(set(names)) < len(names) or names[:1] != [FILE]:
        raise ArchiveError("the manifest of the backup cannot be used")
    if not all(_BLOB.fullmatch(name) or _CHAIN.fullmatch(name) for name in names[1:]):
        raise ArchiveError("the manifest of the backup names what no backup holds")
    return manifest


def _forget(database: Path, kinds: Collection[str]) -> None:
    with closing(schema.connect(database)) as connection:
        _sound(connection)
        connection.executemany("DELETE FROM ledger WHERE kind = ?", [(kind,) for kind in kinds])
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
