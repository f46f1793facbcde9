"""Parquet as its specification has it, and as another reader reads it where there is one."""

from __future__ import annotations

import io
import struct
from decimal import Decimal
from typing import Any

import pytest

from fhir_server.fhirpath import Expression
from operations.views.definition import Column
from operations.views.parquet import Parquet

NAMES = {"id": "id", "n": "integer", "b": "boolean", "d": "decimal", "l": "string"}
COLUMNS = [Column(name, Expression("id"), type_, name == "l", "") for name, type_ in NAMES.items()]
ROWS: list[Any] = [
    (f"ж{i}", None if i % 3 == 0 else i - 5, None if i % 4 == 0 else i % 2 == 0,
     Decimal("1.50") * i if i % 5 else None, ["a", i])
    for i in range(1003)
]  # fmt: skip


def written(*groups: list[Any]) -> bytes:
    table = Parquet(COLUMNS, True)
    return table.head() + b"".join([table.rows(rows) for rows in groups]) + table.tail()


def test_its_frame() -> None:
    """https://parquet.apache.org/docs/file-format/: magic, pages, footer, its length, magic."""
    data = written(ROWS[:1000], [], ROWS[1000:])
    (length,) = struct.unpack("<I", data[-8:-4])
    footer = data[-8 - length : -8]
    assert data[:4] == data[-4:] == b"PAR1"
    assert footer[:2] == b"\x15\x02" and footer[-1] == 0  # version 1; end of the struct
    for name in NAMES:
        assert len(name).to_bytes(1, "big") + name.encode() in footer
    assert "ж7".encode() in data and struct.pack("<d", 10.5) in data


def test_nothing() -> None:
    data = written([])
    (length,) = struct.unpack("<I", data[-8:-4])
    assert len(data) == 4 + length + 8


def test_another_reader_reads_the_same() -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    table = parquet.read_table(io.BytesIO(written(ROWS[:1000], ROWS[1000:])))
    found = [tuple(row.values()) for row in table.to_pylist()]
    wanted = [
        (id_, n, b, None if d is None else float(d), f'["a",{ls[1]}]') for id_, n, b, d, ls in ROWS
    ]
    assert found == wanted
