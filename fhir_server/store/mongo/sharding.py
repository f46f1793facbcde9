"""A cluster: what is spread over its shards, and by what.

https://www.mongodb.com/docs/manual/reference/command/shardCollection/
"""

from __future__ import annotations

from typing import Final

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from fhir_server.model.problem import Unavailable
from fhir_server.store.mongo.documents import Document

SPREAD: Final[dict[str, Document]] = {
    "resource": {"_id": "hashed"},
    "version": {"_id": "hashed"},
}
"""Collection -> shard key. The rest is small, and the counter is where all writes meet."""


async def distribute(client: AsyncMongoClient[Document], database: str) -> None:
    """Shards what grows; nothing changes where that is done. Raises Unavailable."""
    for collection, key in SPREAD.items():
        try:
            index = {"key": key, "name": "_id_hashed"}
            await client[database].command("createIndexes", collection, indexes=[index])
            await client.admin.command("shardCollection", f"{database}.{collection}", key=key)
        except OperationFailure as error:
            text = f"{collection} cannot be sharded by hashed _id: {error.details or error}"
            raise Unavailable(text.replace("\n", " ")) from None
