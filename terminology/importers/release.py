"""The files of a release: a folder, a ZIP archive or a single file.

Nothing is unpacked to a disk: members are read as streams, within a budget.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal, NamedTuple

from terminology.concepts import Json
from terminology.service import Refused

MOST_BYTES: Final = 20_000_000_000
"""Of all members that are read."""
LONGEST: Final = 10_000_000
"""Characters of one field."""


class Imported(NamedTuple):
    """``code_system``: without its concepts. ``concepts``: flat, places as properties."""

    code_system: dict[str, Any]
    concepts: Iterator[Json]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the release does not say itself. ``url``, ``version``: of the code system."""

    url: str = ""
    version: str = ""


class Release:
    """A folder, an archive or one file. Raises Refused for what it does not hold."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._left = MOST_BYTES
        self._archive: zipfile.ZipFile | None = None
        if path.is_dir():
            self.names = sorted(
                str(one.relative_to(path))
                for one in path.rglob("*")
                if one.is_file() and not one.is_symlink()
            )
        elif zipfile.is_zipfile(path):
            self._archive = zipfile.ZipFile(path)
            self.names = sorted(i.filename for i in self._archive.infolist() if not i.is_dir())
        else:
            self.names = [path.name]

    def find(self, pattern: str) -> list[str]:
        """The members whose whole name fits, ignoring case."""
        known = re.compile(pattern, re.IGNORECASE)
        return [name for name in self.names if known.fullmatch(name)]

    def one(self, pattern: str, what: str) -> str:
        """The only such member."""
        found = self.find(pattern)
        if len(found) != 1:
            told = "is not in it" if not found else f"is there {len(found)} times"
            raise Refused("invalid", f"{self.path.name}: {what} {told}")
        return found[0]

    @contextmanager
    def open(self, name: str) -> Iterator[io.BufferedReader]:
        """The bytes of a member."""
        if self._archive is None:
            place = self.path / name if self.path.is_dir() else self.path
            with place.open("rb") as file:
                yield io.BufferedReader(_Limited(file, self))
            return
        try:
            with self._archive.open(name) as member:
                yield io.BufferedReader(_Limited(member, self))
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise Refused("invalid", f"{name[:100]}: {str(error)[:200]}") from error

    @contextmanager
    def text(self, name: str) -> Iterator[IO[str]]:
        with self.open(name) as content:
            try:
                yield io.TextIOWrapper(content, "utf-8-sig", newline="")
            except UnicodeDecodeError as error:
                raise Refused("invalid", f"{name[:100]}: not UTF-8") from error

    def rows(self, name: str, delimiter: str = "\t", *, quoted: bool = False) -> Iterator[Row]:
        """The rows of a table with a heading, by column."""
        with self.text(name) as lines:
            yield from table(lines, name, delimiter, quoted=quoted)

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise Refused("too-costly", f"{self.path.name}: more than {MOST_BYTES} bytes")


Row = dict[str, str]


def table(lines: Iterable[str], name: str, delimiter: str, *, quoted: bool) -> Iterator[Row]:
    csv.field_size_limit(LONGEST)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    try:
        found = csv.DictReader(lines, delimiter=delimiter, quoting=quoting, strict=quoted)
        for row in found:
            if None in row or None in row.values():
                raise Refused("invalid", f"{name[:100]}: a row is not as long as the heading")
            yield row
    except csv.Error as error:
        raise Refused("invalid", f"{name[:100]}: {str(error)[:200]}") from error


class _Limited(io.RawIOBase):
    """A stream whose bytes are counted."""

    def __init__(self, inner: IO[bytes], release: Release) -> None:
        self._inner = inner
        self._release = release

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._inner.read(len(buffer))
        self._release.spend(len(found))
        buffer[: len(found)] = found
        return len(found)


def needed(rows: Iterator[Row], *columns: str) -> Iterator[Row]:
    """The rows, if the table has these columns."""
    for number, row in enumerate(rows):
        if number == 0:
            missing = [column for column in columns if column not in row]
            if missing:
                raise Refused("invalid", f"the column {missing[0]} is missing")
        yield row


def system(url: str, version: str, name: str, **more: Any) -> dict[str, Any]:
    """A CodeSystem without concepts."""
    stated = {"version": version} if version else {}
    return {
        "resourceType": "CodeSystem",
        "url": url,
        **stated,
        "name": name,
        "status": "active",
        "content": "complete",
        **more,
    }


def coded(name: str, value: str) -> Json:
    return {"code": name, "valueCode": value}
