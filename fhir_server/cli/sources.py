"""Files of FHIR JSON to load: Bundles, single resources, NDJSON; plain or gzipped; folders."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

from fhir_server.config import SettingsError

SUFFIXES: Final = (".json", ".ndjson", ".jsonl")


@dataclass(frozen=True, slots=True)
class Document:
    """One JSON text and where it stands. ``line`` 0: the whole file. ``fault``: unreadable.
    ``met``: a whole file that was met in a folder, which may hold other things than FHIR."""

    file: Path
    line: int
    body: bytes
    fault: str = ""
    met: bool = False

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}" if self.line else str(self.file)


def files(paths: list[Path]) -> list[Path]:
    """The files of these paths, folders searched through; SettingsError if one is absent."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.is_file() and kind(p))
        elif path.is_file() and kind(path):
            found.append(path)
        elif path.exists():
            raise SettingsError(f"{path}: not a {', '.join(SUFFIXES)} file (or one of them .gz)")
        else:
            raise SettingsError(f"{path}: there is no such file or folder")
    return found


def kind(path: Path) -> str:
    """The suffix that says what a file holds, "" for another file."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return suffix if suffix in SUFFIXES else ""


def documents(path: Path, advance: Callable[[int], None]) -> Iterator[Document]:
    """What a file holds; ``advance`` is told the bytes of the file that have been read."""
    with path.open("rb") as raw:
        stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if path.suffix == ".gz" else raw
        told = 0
        line = 0
        try:
            for line, body in _parts(path, stream):
                yield Document(path, line, body)
                advance(raw.tell() - told)
                told = raw.tell()
        except (OSError, EOFError, zlib.error):
            yield Document(path, line + 1, b"", "the file cannot be read to its end")


def _parts(path: Path, stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    if kind(path) == ".json":
        yield 0, stream.read()
        return
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield number, line
