"""Documents of the database and the versions that they hold.

``resource`` holds the newest version of each resource, deletions included; ``version`` those
that were superseded. Fields have one letter, since every document repeats their names:

| field | of | holds |
|---|---|---|
| `_id` | resource | `Type/id` |
| `_id` | version | its position in the change feed |
| `o` | version | `Type/id` |
| `t` | both | type |
| `y` | resource | type, unless it is deleted |
| `n` | both | number of creation, the last tie-break of every order |
| `v` `q` `u` `m` | both | version, position in the change feed, lastUpdated, verb |
| `d` | both | main clinical date |
| `k` `s` `r` | resource | what the indexes hold (``keys.py``) |
| `l` `b` | both | length of the body; frame of body and index values |
| `e` `w` | version | position and lastUpdated of the version that superseded it |

Bodies and ledger values are bytes, so no name or value of a client is ever part of a document
or of a query operator.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from bson import encode

from fhir_server.model.problem import TooLarge
from fhir_server.model.resource import Key, Stored
from fhir_server.search.values import DATE_MIN, IndexValues
from fhir_server.store.base import Change
from fhir_server.store.codec import Codec, unpack
from fhir_server.store.mongo.keys import Keys

Document: TypeAlias = dict[str, Any]

VERSION: Final = {"n": 1, "v": 1, "q": 1, "u": 1, "m": 1, "d": 1, "l": 1, "b": 1}
"""The fields of a resource that make a version."""
OLD: Final = {**VERSION, "_id": 0, "o": 1}
"""The same of a superseded one."""
LARGEST: Final = 16 * 1024 * 1024 - 64 * 1024
"""Bytes of a document; MongoDB's limit is 16 MiB."""
_CERTAINLY_SMALL: Final = 100_000


def name(key: Key) -> str:
    """The ``_id`` of a resource."""
    return f"{key.type}/{key.id}"


def wanted(type_: str, id_: str) -> str:
    """The ``_id`` that an id asked for would have; BSON holds no lone surrogates."""
    return f"{type_}/{id_}".encode("utf-8", "replace").decode()


class Row:
    """One version with what search knows of it; opened when it is looked into."""

    __slots__ = ("_codec", "_raw", "_values", "document", "key", "rid", "updated")

    def __init__(self, document: Document, codec: Codec) -> None:
        self.document = document
        where = document["o"] if "o" in document else document["_id"]
        type_, _, id_ = where.partition("/")
        self.key = Key(type_, id_)
        # BSON's 64-bit numbers come as a class of their own, which JSON does not know.
        self.rid = int(document["n"])
        self.updated = int(document["u"])
        self._codec = codec
        self._raw: bytes | None = None
        self._values: IndexValues | None = None

    @property
    def date(self) -> int:
        return int(self.document["d"])

    @property
    def deleted(self) -> bool:
        return bool(self.document["m"] == "DELETE")

    @property
    def raw(self) -> bytes:
        """Body and packed values."""
        if self._raw is None:
            self._raw = self._codec.open(self.document["b"])
        return self._raw

    @property
    def body(self) -> bytes:
        return self.raw[: self.document["l"]]

    @property
    def values(self) -> IndexValues:
        if self._values is None:
            raw = self.raw
            self._values = unpack(raw[self.document["l"] :]) if raw else IndexValues()
        return self._values

    def stored(self) -> Stored:
        d = self.document
        return Stored(self.key, d["v"], self.updated, self.body, int(d["q"]), d["m"])


def made(change: Change, keys: Keys, codec: Codec) -> Document:
    """The document of a change, without its numbers (``n``, ``q``).

    Raises TooLarge: more than a document can hold.
    """
    live = change.method != "DELETE"
    values = (change.values or IndexValues()) if live else None
    document: Document = {
        "_id": name(change.key),
        "t": change.key.type,
        "n": 0,
        "v": change.version,
        "q": 0,
        "u": change.updated,
        "m": change.method,
    }
    if live:
        document["y"] = change.key.type
    document.update(indexed(change.key.type, values, change.body, keys, codec))
    return document


def indexed(
    type_: str, values: IndexValues | None, body: bytes, keys: Keys, codec: Codec
) -> Document:
    """The fields that follow from body and index values; ``values`` None: a deletion."""
    split, frame = codec.frame(body, values)
    if values is None:
        return {"d": DATE_MIN, "k": [], "s": [], "r": [], "l": split, "b": frame}
    k, s, r = keys.indexed(type_, values)
    fields = {"d": values.date, "k": k, "s": s, "r": r, "l": split, "b": frame}
    roughly = len(frame) + 20 * len(k) + 300 * len(s) + 60 * len(r)
    if roughly > _CERTAINLY_SMALL and len(encode(fields)) > LARGEST:
        raise TooLarge("the resource with its index values is larger than a document may be")
    return fields


def superseded(document: Document, by: Document) -> Document:
    """A version that another one has taken the place of."""
    return {
        "_id": document["q"],
        "o": document["_id"],
        **{field: document[field] for field in ("t", *VERSION)},
        "e": by["q"],
        "w": by["u"],
    }
