"""Opening a database: what is connected to, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient
from pymongo.errors import ConfigurationError, InvalidURI, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.uri_parser import parse_uri

from fhir_server.model.problem import Unavailable
from fhir_server.store.erase_log import Entry
from fhir_server.store.mongo.documents import Document
from fhir_server.store.mongo.failing import answering
from fhir_server.store.mongo.lines import Lines
from fhir_server.store.mongo.reapplying import reapply
from fhir_server.store.mongo.schema import Database, migrate, require_whole
from fhir_server.store.mongo.sharding import distribute
from fhir_server.store.mongo.store import MongoStore
from fhir_server.store.mongo.writer import DURABLE


def connect(url: str) -> AsyncMongoClient[Document]:
    """A client with limits on every wait, unless the URL sets them. Raises Unavailable."""
    try:
        options: dict[str, Any] = {"appname": "vehr", "retryWrites": True, "retryReads": True}
        return AsyncMongoClient(url, **options, **_limits(url))
    except (ConfigurationError, InvalidURI, PyMongoError) as error:
        raise Unavailable(f"the URL of the MongoDB store is not usable: {error}") from None


def _limits(url: str) -> dict[str, Any]:
    """Milliseconds; a URL may state its own."""
    own = {
        "serverSelectionTimeoutMS": 5000,
        "connectTimeoutMS": 5000,
        "socketTimeoutMS": 25_000,
        "maxPoolSize": 100,
    }
    given = url.lower()
    return {option: value for option, value in own.items() if f"{option.lower()}=" not in given}


def database_name(url: str) -> str:
    """The database that a URL names. Raises Unavailable without one."""
    name = url.partition("://")[2].partition("?")[0].partition("/")[2]
    if url.startswith("mongodb://"):
        name = parse_uri(url).get("database") or ""
    if not name:
        raise Unavailable("the URL of the MongoDB store names no database: mongodb://HOST/NAME")
    return name


def durable(client: AsyncMongoClient[Document], name: str) -> Database:
    """A database whose reads and writes outlive the failure of any one server, whatever the
    URL says: https://www.mongodb.com/docs/manual/reference/read-concern-majority/"""
    return client.get_database(
        name, CodecOptions(), ReadPreference.PRIMARY, DURABLE, ReadConcern("majority")
    )


async def require_transactions(client: AsyncMongoClient[Document]) -> bool:
    """Refuses a server that knows no transactions; whether it is the router of a cluster."""
    hello = await client.admin.command("hello")
    cluster: bool = hello.get("msg") == "isdbgrid"
    if "setName" not in hello and not cluster:
        raise Unavailable(
            "this MongoDB is a standalone server, which has no transactions: start it with "
            "--replSet NAME and run rs.initiate() once"
        )
    return cluster


async def open_store(url: str, now: Callable[[], float] = time.time) -> MongoStore:
    """Opens, and creates, the database that ``url`` names.

    Raises Unavailable: no answer, a standalone server, a schema newer than this program, an
    index that differs.
    """
    client = connect(url)
    try:
        with answering():
            cluster = await require_transactions(client)
            name = database_name(url)
            database = durable(client, name)
            await migrate(database)
            if cluster:
                await distribute(client, name)
            await require_whole(database)
            return await MongoStore.of(client, database, Lines.of(client, url, name), now)
    except BaseException:
        await client.close()
        raise


async def open_kept(url: str, log: Iterable[Entry]) -> MongoStore:
    """The same; what the erase log names and the database does not know to be erased, because it
    is an older copy of it, is erased first."""
    store = await open_store(url)
    try:
        await reapply(store, log)
    except BaseException:
        await store.close()
        raise
    return store
