"""The collections of a database, and what every view of it shares."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from pymongo.asynchronous.collection import AsyncCollection

from fhir_server.model.problem import BadRequest
from fhir_server.store.codec import Codec
from fhir_server.store.mongo.documents import Document, Row
from fhir_server.store.mongo.keys import Keys
from fhir_server.store.mongo.lines import Lines
from fhir_server.store.mongo.roads import Counts, Order
from fhir_server.store.mongo.sessions import Session, one_found

Collection: TypeAlias = AsyncCollection[Document]


class Tables(NamedTuple):
    """The collections of a database, what opens their documents, and the connections."""

    resource: Collection
    version: Collection
    meta: Collection
    keys: Keys
    codec: Codec
    counts: Counts
    lines: Lines


def too_costly() -> BadRequest:
    return BadRequest(
        "this search would look at too many resources: "
        "add a patient, a code or another selective parameter",
        code="too-costly",
    )


def place(order: Order, row: Row) -> tuple[int, int]:
    """Where a row stands in an order."""
    return (row.date if order.by == "date" else row.updated), row.rid


async def live(session: Session) -> dict[str, int]:
    """Current resources per type."""
    command = {"find": "meta", "filter": {"_id": "counter"}, "projection": {"live": 1}}
    found = await one_found(session, command)
    return dict((found or {}).get("live", {}))
