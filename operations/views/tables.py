"""Rows as bytes: CSV, NDJSON, JSON and Parquet.

https://build.fhir.org/ig/FHIR/sql-on-fhir-v2/operations.html. Numbers keep their digits, but in
Parquet, which has them as double. Text is text in all of them; a spreadsheet that opens CSV would
take some of it for formulas, so there, and only there, an apostrophe goes before such text.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from fhir_server.formats.json import dumps, number_text
from fhir_server.model.problem import BadRequest, NotAcceptable

from .definition import Column
from .parquet import Parquet
from .rows import Row

_FORMULA: Final = re.compile(r"[=@\t\r\n]|[+-](?![\d\s().,/-]*$)")
"""What a spreadsheet computes; numbers and telephone numbers are left alone.
https://owasp.org/www-community/attacks/CSV_Injection"""


class Table(Protocol):
    """One table while it is written: ``head``, any number of ``rows``, ``tail``."""

    def head(self) -> bytes: ...

    def rows(self, rows: Sequence[Row]) -> bytes: ...

    def tail(self) -> bytes: ...


class Ndjson:
    """One object a line."""

    def __init__(self, columns: Sequence[Column], header: bool) -> None:
        self._names: Final = [column.name for column in columns]

    def head(self) -> bytes:
        return b""

    def rows(self, rows: Sequence[Row]) -> bytes:
        return b"".join([dumps(dict(zip(self._names, row, strict=True))) + b"\n" for row in rows])

    def tail(self) -> bytes:
        return b""


class JsonArray(Ndjson):
    """One array of objects."""

    def __init__(self, columns: Sequence[Column], header: bool) -> None:
        super().__init__(columns, header)
        self._between = b""

    def head(self) -> bytes:
        return b"["

    def rows(self, rows: Sequence[Row]) -> bytes:
        lines = [dumps(dict(zip(self._names, row, strict=True))) for row in rows]
        text = b",\n".join(lines)
        if text:
            text, self._between = self._between + text, b",\n"
        return text

    def tail(self) -> bytes:
        return b"]\n"


class Csv:
    """RFC 4180. Nothing is an empty field, a list or an object its JSON; no text is a formula."""

    def __init__(self, columns: Sequence[Column], header: bool) -> None:
        self._names: Final = [column.name for column in columns]
        self._header = header

    def head(self) -> bytes:
        return _lines([self._names]) if self._header else b""

    def rows(self, rows: Sequence[Row]) -> bytes:
        return _lines([[_field(value) for value in row] for row in rows])

    def tail(self) -> bytes:
        return b""


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}" if _FORMULA.match(value) else value
    return dumps(value).decode() if isinstance(value, dict | list) else number_text(value)


class Format:
    """One row: what a table is called, and how it is written."""

    def __init__(
        self,
        name: str,
        media: str,
        also: tuple[str, ...],
        table: Callable[[Sequence[Column], bool], Table],
    ) -> None:
        self.name, self.media, self.table = name, media, table
        self.names: Final = frozenset({name, media, *also})


FORMATS: Final = (
    Format(
        "ndjson",
        "application/x-ndjson",
        ("application/ndjson", "application/fhir+ndjson", "application/fhir ndjson"),
        Ndjson,
    ),
    Format(
        "json", "application/json", ("application/fhir+json", "application/fhir json"), JsonArray
    ),
    Format("csv", "text/csv", (), Csv),
    Format("parquet", "application/vnd.apache.parquet", ("application/x-parquet",), Parquet),
)
"""https://build.fhir.org/ig/FHIR/sql-on-fhir-v2/ValueSet-OutputFormatCodes.html; the first is
what is written if nobody asks."""


def named_format(name: str) -> Format:
    """By code or media type. BadRequest for one that is not written."""
    for format_ in FORMATS:
        if name.lower() in format_.names:
            return format_
    known = ", ".join(format_.name for format_ in FORMATS)
    raise BadRequest(
        f"_format: {name[:80]!r} is not supported; known: {known}", code="not-supported"
    )


def accepted_format(header: str | None) -> Format:
    """By an Accept header, in the order of what it lists. NotAcceptable if nothing fits."""
    for part in (header or "*/*").split(","):
        media = part.partition(";")[0].strip().lower()
        if media in ("*/*", "application/*"):
            return FORMATS[0]
        for format_ in FORMATS:
            if media in format_.names:
                return format_
    known = ", ".join(format_.media for format_ in FORMATS)
    raise NotAcceptable(f"tables are written as {known}")
