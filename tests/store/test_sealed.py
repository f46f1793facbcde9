"""Sealed files: what is not exactly what was sealed gives nothing. T26."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from fhir_server.store.sealed import (
    HEADER,
    MAGIC,
    PIECE,
    TAG,
    Sealer,
    SealError,
    Unsealer,
    is_sealed,
    read_key,
)

KEY = bytes(range(32))
SIZES = (0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 7)


def sealed(content: bytes, key: bytes = KEY) -> bytes:
    file = io.BytesIO()
    sealer = Sealer(file, key)
    for start in range(0, len(content), 300_000):
        sealer.write(content[start : start + 300_000])
    sealer.close()
    return file.getvalue()


def opened(whole: bytes, key: bytes = KEY) -> bytes:
    unsealer = Unsealer(io.BytesIO(whole), key, "it")
    parts = []
    while part := unsealer.read(70_000):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("size", SIZES)
def test_round_trip(size: int) -> None:
    content = random.Random(size).randbytes(size)
    whole = sealed(content)
    assert opened(whole) == content and Unsealer(io.BytesIO(whole), KEY, "it").read() == content
    pieces = max(1, -(-size // PIECE))
    assert len(whole) == HEADER + size + pieces * TAG
    assert size < 32 or content[:32] not in whole
    assert sealed(content) != whole


@pytest.mark.parametrize("size", SIZES)
def test_the_end_cannot_be_cut_off(size: int) -> None:
    whole = sealed(bytes(size))
    piece = PIECE + TAG
    boundaries = [HEADER + n * piece for n in range(4)]
    cuts = {0, 1, len(MAGIC), HEADER - 1, *boundaries, len(whole) - 1, len(whole) - TAG}
    for cut in sorted(c for c in cuts if c < len(whole)):
        with pytest.raises(SealError, match="not whole"):
            opened(whole[:cut])
    for more in (b"x", whole[-TAG - 1 :], bytes(piece)):
        with pytest.raises(SealError, match="not whole"):
            opened(whole + more)


def test_pieces_cannot_be_moved() -> None:
    whole = sealed(bytes(3 * PIECE))
    other = sealed(bytes(3 * PIECE))
    piece = PIECE + TAG
    head, *pieces = whole[:HEADER], *(whole[HEADER + n * piece :][:piece] for n in range(3))
    assert opened(head + b"".join(pieces)) == bytes(3 * PIECE)
    foreign = other[HEADER:][:piece]
    for order in (
        [pieces[1], pieces[0], pieces[2]],
        [pieces[0], pieces[2]],
        [pieces[0], pieces[0], pieces[1], pieces[2]],
        [foreign, pieces[1], pieces[2]],
    ):
        with pytest.raises(SealError):
            opened(head + b"".join(order))


def test_a_flipped_bit_is_found() -> None:
    whole = sealed(b"canary" * 1000)
    chance = random.Random(3)
    for place in (*range(HEADER + 1), *(chance.randrange(len(whole)) for _ in range(200))):
        changed = bytearray(whole)
        changed[place] ^= 1 << chance.randrange(8)
        with pytest.raises(SealError):
            opened(bytes(changed))


def test_a_wrong_key() -> None:
    for size in (0, PIECE + 1):
        with pytest.raises(SealError, match="the key does not open it"):
            opened(sealed(bytes(size)), bytes(32))


def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY.hex() + "\n")
    assert read_key(path) == KEY
    for text in ("", "00", KEY.hex() + "00", "x" * 64, KEY.hex()[:-1]):
        path.write_text(text)
        with pytest.raises(SealError, match="64 hexadecimal digits"):
            read_key(path)
    with pytest.raises(SealError, match="cannot be read"):
        read_key(tmp_path / "none")


def test_what_is_sealed(tmp_path: Path) -> None:
    for name, content, expected in (
        ("a", sealed(b""), True),
        ("b", b"x", False),
        ("c", b"", False),
    ):
        (tmp_path / name).write_bytes(content)
        assert is_sealed(tmp_path / name) == expected
