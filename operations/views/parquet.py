"""Parquet without a library: https://parquet.apache.org/docs/file-format/

One row group per call, each column one PLAIN data page (version 1), not compressed; every column
is optional. The footer is Thrift's compact protocol
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md). A collection
or an object is its JSON text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.formats.json import dumps, number_text

from .definition import INTEGERS, Column
from .rows import Row

MAGIC: Final = b"PAR1"
_BOOLEAN, _INT64, _DOUBLE, _BYTES = 0, 2, 5, 6
_OPTIONAL: Final = 1
_UTF8: Final = 0
_PLAIN, _RLE = 0, 3
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12
"""Type codes of the compact protocol."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One column of one row group: where its page begins, how long it is, how many values."""

    offset: int
    size: int
    values: int


class Parquet:
    """``header`` says nothing here: the schema is always there."""

    def __init__(self, columns: Sequence[Column], header: bool) -> None:
        self._columns: Final = [(column.name, _physical(column)) for column in columns]
        self._at = 0
        self._groups: list[tuple[int, list[_Chunk]]] = []

    def head(self) -> bytes:
        self._at = len(MAGIC)
        return MAGIC

    def rows(self, rows: Sequence[Row]) -> bytes:
        if not rows:
            return b""
        written: list[bytes] = []
        chunks: list[_Chunk] = []
        for number, (_, physical) in enumerate(self._columns):
            page = _page(physical, [row[number] for row in rows])
            chunks.append(_Chunk(self._at, len(page), len(rows)))
            self._at += len(page)
            written.append(page)
        self._groups.append((len(rows), chunks))
        return b"".join(written)

    def tail(self) -> bytes:
        footer = self._footer()
        return footer + struct.pack("<I", len(footer)) + MAGIC

    def _footer(self) -> bytes:
        """FileMetaData"""
        elements = [_struct((4, _BINARY, _text("table")), (5, _I32, _zigzag(len(self._columns))))]
        for name, physical in self._columns:
            parts = [(1, _I32, _zigzag(physical)), (3, _I32, _zigzag(_OPTIONAL))]
            parts.append((4, _BINARY, _text(name)))
            if physical == _BYTES:
                parts.append((6, _I32, _zigzag(_UTF8)))
            elements.append(_struct(*parts))
        groups = [self._group(count, chunks) for count, chunks in self._groups]
        return _struct(
            (1, _I32, _zigzag(1)),
            (2, _LIST, _list(_STRUCT, elements)),
            (3, _I64, _zigzag(sum(count for count, _ in self._groups))),
            (4, _LIST, _list(_STRUCT, groups)),
            (6, _BINARY, _text("vehr")),
        )

    def _group(self, count: int, chunks: Sequence[_Chunk]) -> bytes:
        """RowGroup"""
        columns = [
            _struct(
                (2, _I64, _zigzag(chunk.offset)),
                (3, _STRUCT, _column(name, physical, chunk)),
            )
            for (name, physical), chunk in zip(self._columns, chunks, strict=True)
        ]
        return _struct(
            (1, _LIST, _list(_STRUCT, columns)),
            (2, _I64, _zigzag(sum(chunk.size for chunk in chunks))),
            (3, _I64, _zigzag(count)),
        )


def _column(name: str, physical: int, chunk: _Chunk) -> bytes:
    """ColumnMetaData"""
    return _struct(
        (1, _I32, _zigzag(physical)),
        (2, _LIST, _list(_I32, [_zigzag(_PLAIN), _zigzag(_RLE)])),
        (3, _LIST, _list(_BINARY, [_text(name)])),
        (4, _I32, _zigzag(0)),
        (5, _I64, _zigzag(chunk.values)),
        (6, _I64, _zigzag(chunk.size)),
        (7, _I64, _zigzag(chunk.size)),
        (9, _I64, _zigzag(chunk.offset)),
    )


def _physical(column: Column) -> int:
    if column.collection:
        return _BYTES
    if column.type in INTEGERS:
        return _INT64
    return {"boolean": _BOOLEAN, "decimal": _DOUBLE}.get(column.type, _BYTES)


def _page(physical: int, values: Sequence[Any]) -> bytes:
    """PageHeader and data page: definition levels, then what is there."""
    levels = _levels([value is not None for value in values])
    data = levels + _ENCODE[physical]([value for value in values if value is not None])
    header = _struct(
        (1, _I32, _zigzag(0)),
        (2, _I32, _zigzag(len(data))),
        (3, _I32, _zigzag(len(data))),
        (
            5,
            _STRUCT,
            _struct(
                (1, _I32, _zigzag(len(values))),
                (2, _I32, _zigzag(_PLAIN)),
                (3, _I32, _zigzag(_RLE)),
                (4, _I32, _zigzag(_RLE)),
            ),
        ),
    )
    return header + data


def _levels(there: Sequence[bool]) -> bytes:
    """One bit each, in one bit-packed run of the RLE hybrid, its length in front."""
    packed = _bits(there)
    run = _varint(len(packed) << 1 | 1) + packed
    return struct.pack("<I", len(run)) + run


def _bits(values: Iterable[bool]) -> bytes:
    """Eight to a byte, the first lowest."""
    listed = list(values)
    return bytes(
        sum(1 << bit for bit, value in enumerate(listed[start : start + 8]) if value)
        for start in range(0, len(listed), 8)
    )


def _texts(values: Sequence[Any]) -> bytes:
    return b"".join([struct.pack("<I", len(data)) + data for data in map(_utf8, values)])


def _utf8(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bool | dict | list):
        return dumps(value)
    return number_text(value).encode()


_ENCODE: Final[dict[int, Callable[[Sequence[Any]], bytes]]] = {
    _BOOLEAN: _bits,
    _INT64: lambda values: struct.pack(f"<{len(values)}q", *values),
    _DOUBLE: lambda values: struct.pack(f"<{len(values)}d", *[float(v) for v in values]),
    _BYTES: _texts,
}


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _zigzag(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _text(value: str) -> bytes:
    data = value.encode()
    return _varint(len(data)) + data


def _list(kind: int, items: Sequence[bytes]) -> bytes:
    size = len(items)
    head = bytes([size << 4 | kind]) if size < 15 else bytes([0xF0 | kind]) + _varint(size)
    return head + b"".join(items)


def _struct(*fields: tuple[int, int, bytes]) -> bytes:
    """Fields (id, type, value) in rising order of their ids."""
    out = bytearray()
    last = 0
    for id_, kind, value in fields:
        out.append((id_ - last) << 4 | kind)
        out += value
        last = id_
    return bytes(out) + b"\0"
