"""A graph that fails costs its own call one 503, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import odd_graphs as graphs
import pytest
from odd_graphs import Lone

from fhir_server.model.problem import Unavailable
from operations.models.runtime import FAILURES, QUIET, Limits, Runtime

pytestmark = pytest.mark.slow

Body = Callable[[Runtime], Coroutine[Any, Any, None]]


def _with_runtime(body: Body, **settings: Any) -> None:
    async def main() -> None:
        runtime = Runtime(limits=Limits(seconds=2.0), **settings)
        try:
            await body(runtime)
        finally:
            await runtime.close()

    asyncio.run(main())


def _pid(runtime: Runtime) -> int:
    worker = runtime._idle._queue[0]
    return worker.process.pid


def test_values_come_back_exactly_and_the_worker_is_reused(tmp_path: Path) -> None:
    same = Lone.of(tmp_path, "same", graphs.identity())

    async def body(runtime: Runtime) -> None:
        values = [0.1, 1e-300, 2.0**60 + 1, -0.0]
        assert (await runtime.run(same, {"x": values}))["y"] == values
        first = _pid(runtime)
        answers = await asyncio.gather(*(runtime.run(same, {"x": [float(i)]}) for i in range(20)))
        assert [a["y"] for a in answers] == [[float(i)] for i in range(20)]
        assert (_pid(runtime), runtime.starts) == (first, 1)

    _with_runtime(body)


@pytest.mark.parametrize("value", [-1.0, 0.0], ids=["nan", "inf"])
def test_a_result_that_is_not_a_number_is_503(tmp_path: Path, value: float) -> None:
    log = Lone.of(tmp_path, "log", graphs.log())

    async def body(runtime: Runtime) -> None:
        assert (await runtime.run(log, {"x": [1.0]}))["y"] == [0.0]
        with pytest.raises(Unavailable, match="not a finite number"):
            await runtime.run(log, {"x": [1.0, value]})
        assert (await runtime.run(log, {"x": [1.0]}))["y"] == [0.0]
        assert runtime.starts == 1

    _with_runtime(body)


def test_wrong_shape_unknown_input_and_a_changed_file_are_503(tmp_path: Path) -> None:
    shrinking = Lone.of(tmp_path, "shrinking", graphs.shrinking())
    changed = Lone.of(tmp_path, "changed", graphs.identity())
    changed.graph.write_bytes(graphs.log().SerializeToString())

    async def body(runtime: Runtime) -> None:
        with pytest.raises(Unavailable, match="wrong shape"):
            await runtime.run(shrinking, {"x": [1.0, 2.0]})
        with pytest.raises(Unavailable, match="the graph failed"):
            await runtime.run(shrinking, {"z": [1.0]})
        with pytest.raises(Unavailable, match="the graph failed"):
            await runtime.run(changed, {"x": [1.0]})

    _with_runtime(body)


def test_a_graph_reads_no_other_file(tmp_path: Path) -> None:
    outside = Lone.of(tmp_path, "outside", graphs.outside())
    for folder in (tmp_path, Path.cwd()):
        assert not (folder / "weights.bin").exists()
    (tmp_path / "weights.bin").write_bytes(bytes(8))

    async def body(runtime: Runtime) -> None:
        with pytest.raises(Unavailable, match="the graph failed"):
            await runtime.run(outside, {"x": [1.0]})

    _with_runtime(body)


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    same = Lone.of(tmp_path, "same", graphs.identity())

    async def body(runtime: Runtime) -> None:
        await runtime.run(same, {"x": [1.0]})
        os.kill(_pid(runtime), signal.SIGKILL)
        await asyncio.sleep(0.1)
        assert (await runtime.run(same, {"x": [2.0]}))["y"] == [2.0]
        assert runtime.starts == 2

    _with_runtime(body)


def test_a_worker_killed_in_a_call_costs_that_call(tmp_path: Path) -> None:
    hanging = Lone.of(tmp_path, "hanging", graphs.hanging())
    same = Lone.of(tmp_path, "same", graphs.identity())

    async def body(runtime: Runtime) -> None:
        await runtime.run(same, {"x": [1.0]})
        pid = _pid(runtime)
        stuck = asyncio.ensure_future(runtime.run(hanging, {"x": [1.0]}))
        waiting = asyncio.ensure_future(runtime.run(same, {"x": [4.0]}))
        await asyncio.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="the worker process ended"):
            await stuck
        assert (await waiting)["y"] == [4.0]

    _with_runtime(body)


def test_a_hanging_graph_is_ended_and_the_loop_goes_on(tmp_path: Path) -> None:
    hanging = Lone.of(tmp_path, "hanging", graphs.hanging())
    same = Lone.of(tmp_path, "same", graphs.identity())

    async def body(runtime: Runtime) -> None:
        await runtime.run(same, {"x": [1.0]})
        stuck = asyncio.ensure_future(runtime.run(hanging, {"x": [1.0]}))
        ticks = 0
        while not stuck.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert ticks > 20
        with pytest.raises(Unavailable, match="no answer within"):
            stuck.result()
        assert (await runtime.run(same, {"x": [3.0]}))["y"] == [3.0]

    _with_runtime(body)


def test_a_caller_that_goes_away_leaves_the_pipe_whole(tmp_path: Path) -> None:
    same = Lone.of(tmp_path, "same", graphs.identity())

    async def body(runtime: Runtime) -> None:
        gone = asyncio.ensure_future(runtime.run(same, {"x": [1.0]}))
        await asyncio.sleep(0.01)
        gone.cancel()
        assert (await runtime.run(same, {"x": [2.0]}))["y"] == [2.0]
        assert runtime.starts == 1

    _with_runtime(body)


def test_memory_is_limited(tmp_path: Path) -> None:
    hungry = Lone.of(tmp_path, "hungry", graphs.hungry())
    same = Lone.of(tmp_path, "same", graphs.identity())

    async def body(runtime: Runtime) -> None:
        with pytest.raises(Unavailable):
            await runtime.run(hungry, {"x": [1.0]})
        assert (await runtime.run(same, {"x": [2.0]}))["y"] == [2.0]

    _with_runtime(body)


def test_a_graph_that_keeps_failing_rests(tmp_path: Path) -> None:
    log = Lone.of(tmp_path, "log", graphs.log())
    same = Lone.of(tmp_path, "same", graphs.identity())
    now = [0.0]

    async def body(runtime: Runtime) -> None:
        for _ in range(FAILURES):
            with pytest.raises(Unavailable, match="not a finite number"):
                await runtime.run(log, {"x": [-1.0]})
        with pytest.raises(Unavailable, match="rests"):
            await runtime.run(log, {"x": [1.0]})
        assert (await runtime.run(same, {"x": [2.0]}))["y"] == [2.0]
        now[0] = QUIET + 1
        assert (await runtime.run(log, {"x": [1.0]}))["y"] == [0.0]

    _with_runtime(body, clock=lambda: now[0])


def test_close_ends_the_worker(tmp_path: Path) -> None:
    same = Lone.of(tmp_path, "same", graphs.identity())
    seen: list[int] = []

    async def body(runtime: Runtime) -> None:
        await runtime.run(same, {"x": [1.0]})
        seen.append(_pid(runtime))

    _with_runtime(body)
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)
