"""Many clients, one resource: conditional create and lost updates (R06, R07)."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from bench.client import Connection
from tests.faults.load import SYSTEM, patient


async def conditional_creates(base: str, clients: int, rounds: int) -> Counter[int]:
    """Each round all clients send one and the same conditional create; statuses."""
    connections = [Connection(base, None) for _ in range(clients)]
    statuses: Counter[int] = Counter()
    for number in range(rounds):
        tag = f"once-{number}"
        body = json.dumps(patient(tag)).encode()
        header = f"If-None-Exist: identifier={SYSTEM}|{tag}\r\n"
        answers = await asyncio.gather(
            *(c.request("POST", "/Patient", body, header) for c in connections)
        )
        found = Counter(answer.status for answer in answers)
        assert found == {201: 1, 200: clients - 1}, (tag, found)
        total = await connections[0].request("GET", f"/Patient?identifier={SYSTEM}|{tag}")
        assert total.json()["total"] == 1
        statuses += found
    await asyncio.gather(*(connection.close() for connection in connections))
    return statuses


async def increments(base: str, clients: int, each: int) -> Counter[int]:
    """Clients read, add one, and PUT with If-Match; statuses of the PUTs."""
    first = Connection(base, None)
    counter = {"resourceType": "Basic", "id": "n", "code": {"text": "0"}}
    await first.request("PUT", "/Basic/n", json.dumps(counter).encode())
    statuses: Counter[int] = Counter()

    async def client() -> None:
        connection = Connection(base, None)
        done = 0
        while done < each:
            seen = (await connection.request("GET", "/Basic/n")).json()
            version = seen["meta"]["versionId"]
            body = counter | {"code": {"text": str(int(seen["code"]["text"]) + 1)}}
            header = f'If-Match: W/"{version}"\r\n'
            answer = await connection.request("PUT", "/Basic/n", json.dumps(body).encode(), header)
            assert answer.status in (200, 412), answer
            statuses[answer.status] += 1
            done += answer.status == 200
        await connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    last = (await first.request("GET", "/Basic/n")).json()
    assert int(last["code"]["text"]) == statuses[200] == clients * each
    assert int(last["meta"]["versionId"]) == statuses[200] + 1
    await first.close()
    return statuses
