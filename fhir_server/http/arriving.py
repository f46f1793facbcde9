"""A body as it arrives: within its time, inflated, and a large one parsed beside the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from fhir_server.http.compression import encoding, inflated
from fhir_server.http.deadlines import Deadline
from fhir_server.http.respond import Receive
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest

LARGE: Final = 64_000
"""Bytes of a body that take long to parse: about 3 ms."""

PAUSE_SECONDS: Final = 8
"""A client that sends nothing of its body for so long is given up."""


@dataclass(slots=True)
class Arriving:
    """A body that arrives. ``hold``: told of bytes that are kept beside those that came."""

    receive: Receive
    headers: Mapping[str, str]
    deadline: Deadline
    hold: Callable[[int], None]

    async def whole(self, limit: int) -> bytes:
        """All of it, inflated; its limit as it comes is that of the edge."""
        name = encoding(self.headers)
        data = await read_body(self.receive, self.deadline)
        if not name:
            return data
        content = await asyncio.to_thread(inflated, name, data, limit)
        self.hold(len(content))
        return content


def unheld(_: int) -> None:
    """Nobody counts."""


async def parsed(
    parse: Callable[[str | None, bytes], Json], media: str | None, data: bytes
) -> Json:
    """A body by ``parse``; a large one beside the loop, so that small requests go on."""
    if len(data) < LARGE:
        return parse(media, data)
    return await asyncio.to_thread(parse, media, data)


async def read_body(receive: Receive, deadline: Deadline) -> bytes:
    """The whole body; its size is limited by the edge, its pauses by the deadline."""
    time_of, last, deadline.reading = deadline.task.get_loop().time, deadline.when, True
    parts, more = [], True
    while more:
        deadline.when = min(last, time_of() + PAUSE_SECONDS)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the body is not complete")
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    deadline.when, deadline.reading = last, False
    return parts[0] if len(parts) == 1 else b"".join(parts)
