"""Searches of the trail by one principal go one after the other; too many are refused."""

from __future__ import annotations

import asyncio

import pytest

from fhir_server.access.audit.turns import MOST_WAITING, Turns
from fhir_server.model.problem import TooManyRequests
from fhir_server.store.asking import asking


async def test_one_after_the_other_for_each_who_asks() -> None:
    turns, going, most = Turns(), {"a": 0, "b": 0}, {"a": 0, "b": 0}
    both, open_ = asyncio.Event(), asyncio.Event()

    async def ask(name: str) -> str:
        asking.set(name)
        async with turns.turn():
            going[name] += 1
            most[name] = max(most[name], going[name])
            if all(most.values()):
                both.set()
            await open_.wait()
            going[name] -= 1
        return name

    asked = [asyncio.create_task(ask("a")) for _ in range(MOST_WAITING + 1)]
    await asyncio.sleep(0)
    refused = asyncio.create_task(ask("a"))
    other = asyncio.create_task(ask("b"))
    with pytest.raises(TooManyRequests) as error:
        await refused
    assert error.value.headers["Retry-After"]
    await both.wait()
    gone = asked.pop()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    open_.set()
    assert await asyncio.gather(*asked, other) == ["a"] * MOST_WAITING + ["b"]
    assert most == {"a": 1, "b": 1} and not turns._asked
