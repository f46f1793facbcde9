"""A client that stops in the middle of its body is answered, not waited for."""

from __future__ import annotations

import asyncio

import pytest

from fhir_server.auth.routes import ENDPOINTS
from fhir_server.http import arriving, site
from fhir_server.http.deadlines import Deadlines, late
from fhir_server.http.middleware import HEADERS, REQUEST_ID
from fhir_server.model.problem import BadRequest, RequestTimeout, Unavailable


async def test_a_body_that_pauses_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "PAUSE_SECONDS", 0.05)
    messages = iter([{"type": "http.request", "body": b'{"resour', "more_body": True}])

    async def receive() -> dict[str, object]:
        for message in messages:
            return message
        await asyncio.sleep(60)
        raise AssertionError

    async def request() -> None:
        deadline = Deadlines(0.4).start()
        try:
            await arriving.read_body(receive, deadline)
        except asyncio.CancelledError:
            assert deadline.missed
            deadline.task.uncancel()
            assert isinstance(late(deadline), RequestTimeout)

    await asyncio.create_task(request())


async def test_pauses_are_shorter_than_requests() -> None:
    assert arriving.PAUSE_SECONDS < 10
    assert isinstance(late(Deadlines(10).start()), Unavailable)


async def test_a_body_comes_in_parts_or_breaks_off() -> None:
    parts = iter(
        [
            {"type": "http.request", "body": b"a", "more_body": True},
            {"type": "http.request", "body": b"b", "more_body": False},
        ]
    )

    async def receive() -> dict[str, object]:
        return next(parts, {"type": "http.disconnect"})

    deadline = Deadlines(10).start()
    until = deadline.when
    assert await arriving.read_body(receive, deadline) == b"ab"
    assert (deadline.when, deadline.reading) == (until, False)
    with pytest.raises(BadRequest):
        await arriving.read_body(receive, deadline)


async def test_a_form_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """T19: each part comes soon, the whole never does."""
    monkeypatch.setattr(site, "ARRIVING", 0.05)

    async def receive() -> dict[str, object]:
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b"a", "more_body": True}

    row = next(one for one in ENDPOINTS if one.path == "token")
    headers = {"content-type": "application/x-www-form-urlencoded"}
    with pytest.raises(RequestTimeout):
        await site._asked(row, {HEADERS: headers, REQUEST_ID: "r"}, receive)
    assert site.ARRIVING < site.SECONDS
