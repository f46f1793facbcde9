"""The parts of a package out of a zip or tar archive, in memory; nothing is extracted.

Only regular files with the names of ``NAMES`` are taken, at the top or in one folder. Raises
``ArchiveError`` for whatever else an archive may hold (APPNOTE.TXT 6.3.10; POSIX.1-2001 pax).
"""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Final, NamedTuple

NAMES: Final = frozenset(
    {"model.onnx", "card.toml", "features.toml", "golden.json", "reference.json"}
    | {"report.json", "README.md", "LICENSE", "signature.txt"}
)
"""The files that a package may have."""

MOST_ENTRIES: Final = 32
LARGEST: Final = 256 * 1024 * 1024
"""Bytes of all files together."""
LARGEST_TEXT: Final = 4 * 1024 * 1024
"""Bytes of any file but the graph."""
RATIO: Final = 200
"""Bytes that one byte of an archive may stand for; what is under ``FREE`` is not measured."""
FREE: Final = 1024 * 1024
GRAPH: Final = "model.onnx"


class ArchiveError(Exception):
    """The archive is refused; the text is the reason."""


class ArchiveTooLarge(ArchiveError):
    """It holds, or unpacks to, more than a package may."""


class _Entry(NamedTuple):
    name: str
    content: IO[bytes]


def unpack(data: bytes) -> dict[str, bytes]:
    """Content by name."""
    try:
        return _unpacked(data)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise ArchiveError(f"the archive is damaged: {type(error).__name__}") from error
    except (ValueError, NotImplementedError, RuntimeError, OverflowError) as error:
        raise ArchiveError(f"the archive cannot be read: {type(error).__name__}") from error


def _unpacked(data: bytes) -> dict[str, bytes]:
    if data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _gathered(_zipped(data), len(data))
    if data[:2] == b"\x1f\x8b":
        return _gathered(_tarred(_inflated(data)), len(data))
    if data[257:262] == b"ustar":
        return _gathered(_tarred(data), len(data))
    raise ArchiveError("it is neither a zip nor a tar archive (plain or gzip)")


def _gathered(entries: Iterator[_Entry], packed: int) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    folders: set[str] = set()
    total = 0
    for entry in entries:
        folder, name = place(entry.name)
        folders.add(folder)
        if len(folders) > 1:
            raise ArchiveError("its files are in more than one folder")
        if name in files:
            raise ArchiveError(f"it holds {name} twice")
        limit = LARGEST if name == GRAPH else LARGEST_TEXT
        content = entry.content.read(min(limit, LARGEST - total) + 1)
        total += len(content)
        if len(content) > limit or total > LARGEST:
            raise ArchiveTooLarge(f"{name} is larger than {limit} bytes")
        if total > max(FREE, packed * RATIO):
            raise ArchiveTooLarge(f"it expands to more than {RATIO} times its size")
        files[name] = content
    return files


def place(name: str) -> tuple[str, str]:
    """Folder ("" for none) and file name of an entry. Raises ArchiveError for a path that could
    lead anywhere else, or a name that is no part of a package."""
    shown = ascii(name[:80])
    if not name or "\0" in name or "\\" in name or any(ord(c) < 32 for c in name):
        raise ArchiveError(f"the name {shown} is not a file name")
    if name.startswith("/") or name[1:2] == ":":
        raise ArchiveError(f"the path {shown} is absolute")
    parts = name.removeprefix("./").split("/")
    if ".." in parts:
        raise ArchiveError(f"the path {shown} leaves its folder")
    if len(parts) > 2 or "." in parts or "" in parts:
        raise ArchiveError(f"the path {shown} is too deep")
    if parts[-1] not in NAMES:
        known = ", ".join(sorted(NAMES))
        raise ArchiveError(f"{shown} is no part of a package; it may hold {known}")
    return ("" if len(parts) == 1 else parts[0]), parts[-1]


def _zipped(data: bytes) -> Iterator[_Entry]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        listed = archive.infolist()
        _few(len(listed))
        for info in listed:
            name = info.orig_filename
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind == stat.S_IFLNK:
                raise ArchiveError(f"{name[:80]!a} is a link")
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveError(f"{name[:80]!a} is a device or pipe")
            if info.flag_bits & 0x1:
                raise ArchiveError(f"{name[:80]!a} is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ArchiveError(f"{name[:80]!a} is compressed in another way than deflate")
            if name.endswith("/"):
                _folder(name)
                continue
            with archive.open(info) as file:
                yield _Entry(name, file)


def _tarred(data: bytes) -> Iterator[_Entry]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for count, member in enumerate(archive, 1):
            _few(count)
            shown = ascii(member.name[:80])
            if member.issym() or member.islnk():
                raise ArchiveError(f"{shown} is a link")
            if member.isdir():
                _folder(member.name + "/")
                continue
            if not member.isreg() or member.issparse():
                raise ArchiveError(f"{shown} is a device, pipe or sparse file")
            file = archive.extractfile(member)
            if file is None:
                raise ArchiveError(f"{shown} has no content")
            with file:
                yield _Entry(member.name, file)


def _few(count: int) -> None:
    if count > MOST_ENTRIES:
        raise ArchiveTooLarge(f"it holds more than {MOST_ENTRIES} entries")


def _folder(name: str) -> None:
    """A folder is only a name; it is judged as the path of a file in it."""
    if name not in ("./", "."):
        place(f"{name}{GRAPH}")


def _inflated(data: bytes) -> bytes:
    """Gunzipped, up to the limits."""
    limit = LARGEST + MOST_ENTRIES * 4096
    inflating = zlib.decompressobj(wbits=31)
    content = inflating.decompress(data, min(limit, max(FREE, len(data) * RATIO)) + 1)
    if inflating.unconsumed_tail:
        raise ArchiveTooLarge(f"it expands to more than {RATIO} times its size")
    if not inflating.eof:
        raise EOFError
    if inflating.unused_data.strip(b"\0"):
        raise ArchiveError("more follows the end of the archive")
    return content
