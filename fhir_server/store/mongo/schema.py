"""The collections of a database: indexes, migrations, what belongs to it as a whole.

``meta`` holds the schema version, the secret of the hashes, the dictionaries of the frames and
the counter. The counter is the one place where all writes meet: position in the change feed,
numbers of creation, live resources per type, and the last transactions that committed.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias

import zstandard
from pymongo import IndexModel
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, OperationFailure

from fhir_server.model.problem import Unavailable
from fhir_server.store.codec import Codec, shipped
from fhir_server.store.mongo.documents import Document
from fhir_server.store.mongo.keys import Keys
from fhir_server.store.mongo.lines import Lines
from fhir_server.store.mongo.roads import Counts
from fhir_server.store.mongo.tables import Tables

Database: TypeAlias = AsyncDatabase[Document]
Columns: TypeAlias = tuple[tuple[str, int], ...]

INDEXES: Final[dict[str, dict[str, Columns]]] = {
    "resource": {
        "k_d_n": (("k", 1), ("d", -1), ("n", -1)),
        "s": (("s", 1),),
        "r": (("r.p", 1), ("r.a", 1), ("r.b", 1)),
        "y_u_n": (("y", 1), ("u", -1), ("n", -1)),
        "t_q": (("t", 1), ("q", -1)),
        "q": (("q", 1),),
    },
    "version": {
        "o_v": (("o", 1), ("v", -1)),
        "t_id": (("t", 1), ("_id", -1)),
        "e": (("e", 1),),
    },
    "ledger": {"x": (("x", 1),)},
}
"""Collection -> name of an index -> its fields. Every query names the index that serves it."""

COPYING: Final = {"_id": "copying"}
"""Is in ``meta`` while a copy into the database has not ended (``moving.py``)."""
NEEDED: Final = "the index {} of {} is missing or differs from what this program needs: {}"


async def _first(database: Database) -> None:
    """The first schema."""
    await _put(database, {"_id": "secret", "value": secrets.token_bytes(16)})
    await _put(database, {"_id": "counter", "seq": 0, "rid": 0, "live": {}, "done": []})


MIGRATIONS: Final[tuple[Callable[[Database], Awaitable[None]], ...]] = (_first,)
"""Each leads from one schema version to the next; each may run twice, also at the same time."""


async def _put(database: Database, document: Document) -> None:
    """Inserts a document unless it is there."""
    try:
        await database.meta.insert_one(document)
    except DuplicateKeyError:
        return


async def migrate(database: Database) -> None:
    """Brings the schema up to date, or refuses one that is newer. Raises Unavailable."""
    await _put(database, {"_id": "schema", "version": 0})
    found = await schema_version(database)
    for number in range(found, len(MIGRATIONS)):
        await MIGRATIONS[number](database)
        await database.meta.update_one(
            {"_id": "schema", "version": number}, {"$set": {"version": number + 1}}
        )
    content = shipped()
    dictionary = zstandard.ZstdCompressionDict(content).dict_id()
    await _put(database, {"_id": f"dictionary/{dictionary}", "value": content})
    await _build(database)


async def schema_version(database: Database) -> int:
    document = await database.meta.find_one({"_id": "schema"}) or {}
    found = int(document.get("version", 0))
    if found > len(MIGRATIONS):
        raise Unavailable(
            f"the database has schema version {found}, this program knows {len(MIGRATIONS)}: "
            "use the newer program"
        )
    return found


async def require_whole(database: Database) -> None:
    """Refuses a database into which a copy has not ended. Raises Unavailable."""
    if await database.meta.find_one(COPYING) is not None:
        raise Unavailable("a copy into this database has not ended: run vehr copy again")


async def _build(database: Database) -> None:
    """Creates the indexes that are missing. Raises Unavailable and names one that differs."""
    for collection, indexes in INDEXES.items():
        there = await database[collection].index_information()
        missing = [IndexModel(list(f), name=n) for n, f in indexes.items() if n not in there]
        try:
            if missing:
                await database[collection].create_indexes(missing)
        except OperationFailure as error:
            names = ", ".join(str(model.document["name"]) for model in missing)
            text = str((error.details or {}).get("errmsg", ""))
            raise Unavailable(NEEDED.format(names, collection, text)) from None
    for problem in await wrong_indexes(database):
        raise Unavailable(problem)


async def wrong_indexes(database: Database) -> list[str]:
    """What is missing or differs, a line for each; nothing where all is well."""
    wrong: list[str] = []
    for collection, indexes in INDEXES.items():
        found = await database[collection].index_information()
        for name, fields in indexes.items():
            there = found.get(name)
            if there is None:
                wrong.append(NEEDED.format(name, collection, "it is not there"))
            elif _fields(there["key"]) != fields or _partial(there):
                wrong.append(NEEDED.format(name, collection, "drop it and start again"))
    return wrong


def _fields(key: Iterable[tuple[str, Any]]) -> Columns:
    return tuple((name, int(way)) for name, way in key)


def _partial(index: dict[str, Any]) -> bool:
    return any(option in index for option in ("partialFilterExpression", "sparse", "collation"))


async def tables(database: Database, lines: Lines) -> Tables:
    """The collections with the secret and the dictionaries of this database."""
    rows = await database.meta.find(
        {"_id": {"$gte": "dictionary/", "$lt": "dictionary0"}}
    ).to_list()
    dictionaries = {int(row["_id"].partition("/")[2]): bytes(row["value"]) for row in rows}
    secret = await database.meta.find_one({"_id": "secret"})
    assert secret is not None
    return Tables(
        database.resource,
        database.version,
        database.meta,
        Keys(bytes(secret["value"])),
        Codec(dictionaries),
        Counts(),
        lines,
    )
