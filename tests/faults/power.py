"""Power loss: what a disk may hold when the power goes, from a recording (``recorder.c``): R05.

What was written before the last completed fsync of a file is there. Of what came later any part
may be there, in any order, torn at sectors of 512 bytes. A name is there once its directory was
synced; later changes of names keep their order but may be missing from any point on.
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import pytest

SOURCE: Final = Path(__file__).with_name("recorder.c")
SECTOR: Final = 512
_HEAD: Final = struct.Struct("=cQQQ")


class Op(NamedTuple):
    """``place``: where its record begins in the log. Fields as ``recorder.c`` says."""

    place: int
    kind: str
    inode: int
    offset: int
    content: bytes


def recorder(folder: Path) -> Path:
    """The compiled library; the test is skipped without gcc."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc here")
    library = folder / "recorder.so"
    words = ["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(words, check=True)
    return library


def operations(log: Path) -> Iterator[Op]:
    content, place = log.read_bytes(), 0
    while place + _HEAD.size <= len(content):
        kind, inode, offset, length = _HEAD.unpack_from(content, place)
        start = place + _HEAD.size
        if start + length > len(content):
            return
        yield Op(place, kind.decode(), inode, offset, content[start : start + length])
        place = start + length


@dataclass(slots=True)
class File:
    """``durable``: synced content. ``pending``: what was done since, oldest first."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Op] = field(default_factory=list)
    syncs: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Directory:
    """``durable``: synced names, each with its inode (0: a directory, None: removed)."""

    durable: dict[str, int | None] = field(default_factory=dict)
    pending: list[tuple[str, int | None]] = field(default_factory=list)
    syncs: list[int] = field(default_factory=list)


class Disk:
    """A disk below ``root`` that is told what was done."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._files: dict[int, File] = {}
        self._directories: dict[str, Directory] = {self._root: Directory()}
        self._inodes: dict[str, int] = {}
        """Paths of files as the running system sees them."""

    def do(self, op: Op) -> None:
        match op.kind:
            case "W" | "T":
                self._files.setdefault(op.inode, File()).pending.append(op)
            case "C":
                self._files[op.inode] = File()
                self._inodes[op.content.decode()] = op.inode
                self._name(op.content.decode(), op.inode)
            case "M":
                self._directories[op.content.decode()] = Directory()
                self._name(op.content.decode(), 0)
            case "U":
                self._inodes.pop(op.content.decode(), None)
                self._name(op.content.decode(), None)
            case "R":
                old, new = op.content.decode().split("\0")
                inode = self._inodes[new] = self._inodes.pop(old)
                self._name(new, inode)
                self._name(old, None)
            case "B":
                synced = self._synced(op)
                synced.syncs.append(len(synced.pending))
            case "E":
                self._sync(op)
            case _:
                raise AssertionError(op.kind)

    def _name(self, path: str, inode: int | None) -> None:
        folder, _, name = path.rpartition("/")
        if path != self._root:
            self._directories[folder].pending.append((name, inode))

    def _synced(self, op: Op) -> File | Directory:
        return self._directories.get(op.content.decode()) or self._files.setdefault(
            op.inode, File()
        )

    def _sync(self, op: Op) -> None:
        synced = self._synced(op)
        mark = synced.syncs.pop(0)
        if isinstance(synced, Directory):
            synced.durable.update(synced.pending[:mark])
        else:
            for write in synced.pending[:mark]:
                put(synced.durable, write)
        del synced.pending[:mark]
        synced.syncs = [max(0, later - mark) for later in synced.syncs]

    def lose_power(self, place: Path, chance: random.Random) -> None:
        """Writes to ``place`` what the disk holds after a loss of power now."""
        keep = chance.choice((0.0, 0.3, 0.7, 1.0))
        torn = chance.random() < 0.6
        contents = {
            inode: _content(file, keep, chance, torn=torn) for inode, file in self._files.items()
        }
        self._write(self._root, place, contents, chance)

    def _write(
        self, folder: str, place: Path, contents: dict[int, bytearray], chance: random.Random
    ) -> None:
        place.mkdir()
        directory = self._directories[folder]
        names = dict(directory.durable)
        names.update(directory.pending[: chance.randint(0, len(directory.pending))])
        for name, inode in names.items():
            if inode == 0:
                self._write(f"{folder}/{name}", place / name, contents, chance)
            elif inode is not None:
                (place / name).write_bytes(contents[inode])


def put(content: bytearray, op: Op) -> None:
    """Does a write or a truncation."""
    if op.kind == "T":
        del content[op.offset :]
        content.extend(bytes(op.offset - len(content)))
        return
    content.extend(bytes(max(0, op.offset - len(content))))
    content[op.offset : op.offset + len(op.content)] = op.content


def _content(file: File, keep: float, chance: random.Random, *, torn: bool) -> bytearray:
    pieces = [piece for op in file.pending for piece in (sectors(op) if torn else (op,))]
    kept = [piece for piece in pieces if chance.random() < keep]
    if 0.0 < keep < 1.0:
        chance.shuffle(kept)
    content = bytearray(file.durable)
    for piece in kept:
        put(content, piece)
    return content


def sectors(op: Op) -> Iterator[Op]:
    """A write as the disk does it, sector by sector."""
    if op.kind != "W":
        yield op
        return
    start = 0
    while start < len(op.content):
        end = start + SECTOR - (op.offset + start) % SECTOR
        yield op._replace(offset=op.offset + start, content=op.content[start:end])
        start = end
