"""A writer that has just gone is told as such, never as an unexpected error."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from fhir_server.model.problem import Unavailable
from fhir_server.store.sqlite.prepared import PreparedSet
from fhir_server.store.sqlite.remote import RemoteWriter


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "w"


async def connected(place: Path) -> tuple[asyncio.Server, RemoteWriter]:
    """To a writer that never answers."""

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    server = await asyncio.start_unix_server(silent, place)
    return server, await RemoteWriter.connect(place)


async def test_r02_a_stream_that_closes_before_the_listener_has_heard(place: Path) -> None:
    server, writer = await connected(place)
    waiting = asyncio.create_task(writer.write(PreparedSet(())))
    await asyncio.sleep(0)
    writer._stream.transport.abort()
    assert not writer.lost
    with pytest.raises(Unavailable, match="is gone"):
        await writer.write(PreparedSet(()))
    assert writer.lost
    with pytest.raises(Unavailable, match="not known"):
        await waiting
    await writer.close()
    server.close()


async def test_r02_a_stream_that_refuses_what_is_written(place: Path) -> None:
    """As uvloop does."""
    server, writer = await connected(place)
    closed: dict[str, Any] = {"side_effect": RuntimeError("the handler is closed")}
    with (
        mock.patch.object(writer._stream, "write", **closed),
        pytest.raises(Unavailable, match="is gone"),
    ):
        await writer.write(PreparedSet(()))
    assert writer.lost and not writer._waiting
    await writer.close()
    server.close()
