from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from fhir_server.jobs.compute import compute
from fhir_server.model.problem import ServerError, Unprocessable


def count(number: int) -> int:
    return sum(range(number))


def refuse(text: str) -> None:
    raise Unprocessable(text, code="required", expression="Patient.name")


def fail() -> None:
    raise KeyError("Ivan Petrenko")


def die() -> None:
    os._exit(1)


def slow(folder: Path) -> None:
    (folder / "started").touch()
    time.sleep(0.5)
    (folder / "ended").touch()


async def test_the_loop_is_not_stalled() -> None:
    stalls: list[float] = []
    done = asyncio.Event()

    async def tick() -> None:
        while not done.is_set():
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            stalls.append(time.perf_counter() - before)

    ticking = asyncio.create_task(tick())
    assert await compute(count, 10_000_000) == 49999995000000
    done.set()
    await ticking
    assert len(stalls) > 10
    assert sorted(stalls)[len(stalls) // 2] < 0.05


async def test_errors_come_back() -> None:
    with pytest.raises(Unprocessable) as refused:
        await compute(refuse, "no value")
    issue = refused.value.issues[0]
    assert (issue.code, issue.diagnostics, issue.expression) == (
        "required",
        "no value",
        "Patient.name",
    )
    with pytest.raises(ServerError) as failed:
        await compute(fail)
    assert "Ivan" not in str(failed.value.outcome())
    with pytest.raises(ServerError):
        await compute(die)


async def test_cancelling_kills_the_process(tmp_path: Path) -> None:
    task = asyncio.create_task(compute(slow, tmp_path))
    while not (tmp_path / "started").exists():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.6)
    assert not (tmp_path / "ended").exists()
