"""A client that stops in the middle of its body is answered, not waited for."""

from __future__ import annotations

import asyncio

import pytest

from fhir_server.http import dispatch
from fhir_server.model.problem import BadRequest, RequestTimeout


async def test_a_body_that_pauses_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "PAUSE_SECONDS", 0.05)
    messages = iter([{"type": "http.request", "body": b'{"resour', "more_body": True}])

    async def receive() -> dict[str, object]:
        for message in messages:
            return message
        await asyncio.sleep(60)
        raise AssertionError

    with pytest.raises(RequestTimeout):
        await dispatch.read_body(receive)
    assert dispatch.PAUSE_SECONDS < 10


async def test_a_body_comes_in_parts_or_breaks_off() -> None:
    parts = iter(
        [
            {"type": "http.request", "body": b"a", "more_body": True},
            {"type": "http.request", "body": b"b", "more_body": False},
        ]
    )

    async def receive() -> dict[str, object]:
        return next(parts, {"type": "http.disconnect"})

    assert await dispatch.read_body(receive) == b"ab"
    with pytest.raises(BadRequest):
        await dispatch.read_body(receive)
