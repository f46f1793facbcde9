"""Frames: body and index values of one version, compressed together with a dictionary.

The values repeat what the body says, so behind the body they cost little. Each frame has
a checksum: a flipped bit is found and never served. The dictionary's id is in the frame's
header; dictionaries are kept in the database, so newer programs read older frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from importlib.resources import files
from typing import Any, Final, TypeAlias

import msgspec
import zstandard
from msgspec import Raw

from fhir_server.model.problem import ServerError
from fhir_server.search.values import (
    DATE_MIN,
    ContainedValue,
    DateValue,
    GroupValue,
    IndexValues,
    NumberValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TokenValue,
    UriValue,
)

Lists: TypeAlias = tuple[
    list[TokenValue],
    list[StringValue],
    list[DateValue],
    list[NumberValue],
    list[QuantityValue],
    list[ReferenceValue],
    list[UriValue],
]
Raws: TypeAlias = tuple[Raw, Raw, Raw, Raw, Raw, Raw, Raw]


class Packed(msgspec.Struct, array_like=True):
    """Index values as they are kept. ``contained`` is left out where there are none."""

    date: int
    patients: tuple[str, ...]
    lists: Raws
    groups: Raw
    contained: Raw = Raw(b"\x90")


LEVEL: Final = 3
LIMIT: Final = 1 << 30
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Packed).decode
_contained = msgspec.msgpack.Decoder(list[tuple[str, str, Raw]]).decode
_groups = msgspec.msgpack.Decoder(list[tuple[str, Lists]]).decode
_DECODERS: Final[dict[str, tuple[int, Callable[[Raw], list[Any]]]]] = {
    name: (number, msgspec.msgpack.Decoder(list[kind]).decode)  # type: ignore[valid-type]
    for number, (name, kind) in enumerate(
        (
            ("tokens", TokenValue),
            ("strings", StringValue),
            ("dates", DateValue),
            ("numbers", NumberValue),
            ("quantities", QuantityValue),
            ("references", ReferenceValue),
            ("uris", UriValue),
        )
    )
}


class KeptValues(IndexValues):
    """Index values as they are kept: each list is opened when it is looked at."""

    __slots__ = ("_packed",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, packed: bytes | memoryview | Raw) -> None:
        self._packed = _decode(packed)
        self.date, self.patients = self._packed.date, self._packed.patients

    def __getattr__(self, name: str) -> list[Any]:
        if name == "groups":
            found: list[Any] = [
                GroupValue(param, IndexValues(DATE_MIN, (), *some))
                for param, some in _groups(self._packed.groups)
            ]
        elif name == "contained":
            found = [
                ContainedValue(type_, id_, KeptValues(inner))
                for type_, id_, inner in _contained(self._packed.contained)
            ]
        elif name in _DECODERS:
            number, decode = _DECODERS[name]
            found = decode(self._packed.lists[number])
        else:
            raise AttributeError(name)
        setattr(self, name, found)
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IndexValues):
            return NotImplemented
        return all(getattr(self, f.name) == getattr(other, f.name) for f in fields(IndexValues))


def _lists(v: IndexValues) -> Lists:
    return v.tokens, v.strings, v.dates, v.numbers, v.quantities, v.references, v.uris


def pack(v: IndexValues) -> bytes:
    return _encode(_packed(v))


def _packed(v: IndexValues) -> tuple[Any, ...]:
    groups = [(g.param, _lists(g.values)) for g in v.groups]
    if not v.contained:
        return v.date, v.patients, _lists(v), groups
    inner = [(one.type, one.id, _packed(one.values)) for one in v.contained]
    return v.date, v.patients, _lists(v), groups, inner


def unpack(packed: bytes | memoryview) -> IndexValues:
    return KeptValues(packed)


@cache
def shipped() -> bytes:
    """The dictionary that comes with this program (``scripts/train_dictionary.py``)."""
    compressed = files(__package__).joinpath("dictionary.zst").read_bytes()
    return zstandard.ZstdDecompressor().decompress(compressed)


class Damaged(ServerError):
    """A stored frame does not pass its checksum."""


class Codec:
    """Makes frames and opens them. ``dictionaries``: by their id, the newest is used."""

    def __init__(self, dictionaries: dict[int, bytes]) -> None:
        newest = zstandard.ZstdCompressionDict(dictionaries[max(dictionaries)])
        newest.precompute_compress(level=LEVEL)
        self._compress = zstandard.ZstdCompressor(
            level=LEVEL, dict_data=newest, write_checksum=True
        ).compress
        self._openers = {
            number: zstandard.ZstdDecompressor(
                dict_data=zstandard.ZstdCompressionDict(content)
            ).decompress
            for number, content in dictionaries.items()
        }
        self._newest = max(dictionaries)
        self._decompress = self._openers[self._newest]

    def frame(self, body: bytes, values: IndexValues | None) -> tuple[int, bytes]:
        """(length of the body, frame); a deletion has an empty frame."""
        if values is None:
            return 0, b""
        return len(body), self._compress(body + pack(values))

    def close(self, raw: bytes) -> bytes:
        """The frame of what ``open`` gave, of another database."""
        return self._compress(raw) if raw else b""

    def open(self, frame: bytes) -> bytes:
        """Body and packed values behind it."""
        if not frame:
            return b""
        try:
            return self._decompress(frame)
        except zstandard.ZstdError:
            return self._open_older(frame)

    def _open_older(self, frame: bytes) -> bytes:
        try:
            number = zstandard.get_frame_parameters(frame).dict_id
            if number != self._newest and number in self._openers:
                return self._openers[number](frame)
        except zstandard.ZstdError:
            pass
        raise Damaged("a stored resource is damaged: restore it from a backup")
