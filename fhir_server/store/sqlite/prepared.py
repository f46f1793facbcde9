"""Change sets made ready for the writer: frames and index rows, and their form on the wire.

Everything that costs time and needs no database is done here, in the process that serves
the request; the writer only checks and inserts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, get_args

import msgspec

from fhir_server.model.resource import Key
from fhir_server.search import plan
from fhir_server.search.values import IndexValues
from fhir_server.store.base import Change, ChangeSet, Erasure, Guard, Reindexed
from fhir_server.store.codec import Codec
from fhir_server.store.ledger import LedgerWrite
from fhir_server.store.sqlite.keys import NO_ROWS, Keys, Rows

SLICE: Final = 64
"""Changes that are prepared before others get a turn on the loop."""


class PreparedChange(NamedTuple):
    type: str
    id: str
    version: int
    expect: int
    updated: int
    method: str
    live: bool
    split: int
    frame: bytes
    rows: Rows

    @property
    def reindexes(self) -> bool:
        """Whether it only renews the values of a version that is there."""
        return self.version == self.expect


class PreparedSet(NamedTuple):
    """``expire``: also remove the ledger rows that have expired by then (epoch seconds).

    ``follow``: of so many versions the words are then read into the index of words.
    ``erasures``: in a set without changes. ``scrub``: after the commit, leave nothing in the
    files of what was ever deleted.
    """

    changes: tuple[PreparedChange, ...]
    guards: tuple[Guard, ...] = ()
    ledger: tuple[LedgerWrite, ...] = ()
    expire: float | None = None
    erasures: tuple[Erasure, ...] = ()
    scrub: bool = False
    follow: int = 0


def prepare_change(change: Change, keys: Keys, codec: Codec) -> PreparedChange:
    live = change.method != "DELETE"
    values = (change.values or IndexValues()) if live else None
    split, frame = codec.frame(change.body, values)
    rows = keys.rows(change.key.type, values) if values is not None else NO_ROWS
    return PreparedChange(
        change.key.type,
        change.key.id,
        change.version,
        change.expect,
        change.updated,
        change.method,
        live,
        split,
        frame,
        rows,
    )


def prepare_reindexed(fresh: Reindexed, body: bytes, keys: Keys, codec: Codec) -> PreparedChange:
    """``body``: of the version, which stays."""
    split, frame = codec.frame(body, fresh.values)
    rows = keys.rows(fresh.key.type, fresh.values)
    version = fresh.version
    return PreparedChange(*fresh.key, version, version, 0, "", True, split, frame, rows)


async def prepare(change_set: ChangeSet, keys: Keys, codec: Codec) -> PreparedSet:
    made: list[PreparedChange] = []
    for number, change in enumerate(change_set.changes, 1):
        made.append(prepare_change(change, keys, codec))
        if number % SLICE == 0:
            await asyncio.sleep(0)
    return PreparedSet(tuple(made), change_set.guards, change_set.ledger)


# --- the wire ---------------------------------------------------------------------------

_NODES: Final[dict[str, Any]] = {
    node.__name__: node
    for node in (
        *get_args(plan.Predicate),
        plan.Scan,
        Guard,
        LedgerWrite,
        Erasure,
    )
}
"""The dataclasses that travel; nothing else is ever made from bytes."""


def _flat(value: Any) -> Any:
    """A node as a map of one entry, its fields in order; tuples as arrays."""
    name = type(value).__name__
    if name in _NODES:
        names = value.__dataclass_fields__
        return {name: [_flat(getattr(value, field)) for field in names]}
    if isinstance(value, tuple):
        return [_flat(v) for v in value]
    if isinstance(value, dict):
        return {"": msgspec.json.encode(value)}
    return value


def _node(value: Any) -> Any:
    if isinstance(value, dict):
        ((name, content),) = value.items()
        if name == "":
            return msgspec.json.decode(content)
        return _NODES[name](*(_node(field) for field in content))
    if isinstance(value, list):
        return tuple(_node(v) for v in value)
    return value


def to_wire(prepared: PreparedSet) -> bytes:
    changes = [(*c[:-1], _rows_out(c.rows)) for c in prepared.changes]
    return msgspec.msgpack.encode(
        (
            changes,
            _flat(prepared.guards),
            _flat(prepared.ledger),
            prepared.expire,
            _flat(prepared.erasures),
            prepared.scrub,
            prepared.follow,
        )
    )


def from_wire(content: bytes) -> PreparedSet:
    changes, guards, ledger, expire, erasures, scrub, follow = msgspec.msgpack.decode(content)
    made = tuple(PreparedChange._make((*c[:-1], _rows_in(c[-1]))) for c in changes)
    return PreparedSet(made, _node(guards), _node(ledger), expire, _node(erasures), scrub, follow)


def _rows_out(rows: Rows) -> tuple[Any, ...]:
    return (rows.date, list(rows.postings), list(rows.strings), list(rows.spans))


def _rows_in(columns: Iterable[Any]) -> Rows:
    date, postings, strings, spans = columns
    return Rows(date, _tuples(postings), _tuples(strings), _tuples(spans))


def _tuples(rows: list[list[Any]]) -> set[Any]:
    return {tuple(row) for row in rows}


def stale_keys(keys: Iterable[Key]) -> list[list[str]]:
    return [[k.type, k.id] for k in keys]
