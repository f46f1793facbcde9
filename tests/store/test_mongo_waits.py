"""How long the connections of the MongoDB store wait, as its URL says it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from fhir_server.store.mongo.lines import Lines, Waits
from fhir_server.store.mongo.wire import EVER, PATIENCE, Line
from tests.mongodb import new_url

WAITS = {
    "": Waits(None, None),
    "?socketTimeoutMS=250": Waits(0.25, None),
    "?connectTimeoutMS=1500&sockettimeoutms=90000": Waits(90.0, 1.5),
    "?socketTimeoutMS=0&connectTimeoutMS=0": Waits(EVER, EVER),
}


@pytest.mark.parametrize("options", WAITS)
def test_waits_of_a_url(options: str) -> None:
    async def read() -> Waits:
        client: AsyncMongoClient[Any] = AsyncMongoClient(connect=False)
        url = f"mongodb://127.0.0.1:1/x{options}"
        waits = Lines.of(client, url, "x")._waits
        await client.close()
        return waits

    assert asyncio.run(read()) == WAITS[options]


@pytest.mark.parametrize(
    ("waits", "patience"), [(Waits(), PATIENCE), (Waits(0.25), 0.25), (Waits(EVER), EVER)]
)
def test_a_connection_is_as_patient(waits: Waits, patience: float) -> None:
    async def patience_of() -> float:
        client: AsyncMongoClient[Any] = AsyncMongoClient(new_url())
        await client.aconnect()
        lines = Lines(client, "x", waits=waits)

        async def found(line: Line) -> float:
            await line.send({"ping": 1, "$db": "admin"})
            assert (line._watch is None) == (patience == EVER)
            return line._patience

        made = await lines.use(found)
        await lines.close()
        await client.close()
        return made

    assert asyncio.run(patience_of()) == patience
