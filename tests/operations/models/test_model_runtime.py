"""A graph that fails costs its own call one 503, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import odd_graphs as graphs
import pytest
from odd_graphs import Lone

from fhir_server.model.problem import Unavailable
from operations.models import worker
from operations.models.runtime import FAILURES, PERIOD, QUIET, RESTARTS, Limits, Runtime

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
        killed = runtime._idle._queue[0].process
        killed.kill()
        await asyncio.wait_for(killed.wait(), 60)
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


def test_a_graph_that_keeps_costing_workers_rests(tmp_path: Path) -> None:
    hanging = Lone.of(tmp_path, "hanging", graphs.hanging())
    same = Lone.of(tmp_path, "same", graphs.identity())
    now = [0.0]

    async def body(runtime: Runtime) -> None:
        for _ in range(FAILURES):
            runtime.limits = Limits(seconds=0.2)
            with pytest.raises(Unavailable, match="no answer"):
                await runtime.run(hanging, {"x": [1.0]})
        runtime.limits = Limits(seconds=30.0)
        with pytest.raises(Unavailable, match="rests") as refused:
            await runtime.run(hanging, {"x": [1.0]})
        assert refused.value.headers["Retry-After"] == str(int(QUIET))
        assert (await runtime.run(same, {"x": [2.0]}))["y"] == [2.0]
        now[0] = QUIET + 1
        runtime.limits = Limits(seconds=0.2)
        with pytest.raises(Unavailable, match="no answer"):
            await runtime.run(hanging, {"x": [1.0]})

    _with_runtime(body, clock=lambda: now[0])


def test_who_can_be_answered_is_answered_however_often_others_cannot(tmp_path: Path) -> None:
    """A value for which the graph gives no number costs its own call, each time."""
    log = Lone.of(tmp_path, "log", graphs.log())

    async def body(runtime: Runtime) -> None:
        for _ in range(2 * FAILURES):
            with pytest.raises(Unavailable, match="not a finite number"):
                await runtime.run(log, {"x": [-1.0]})
        assert (await runtime.run(log, {"x": [1.0]}))["y"] == [0.0]
        assert runtime.starts == 1

    _with_runtime(body)


def test_a_worker_that_is_lost_now_and_then_keeps_no_package_out(tmp_path: Path) -> None:
    same = Lone.of(tmp_path, "same", graphs.identity())

    async def body(runtime: Runtime) -> None:
        for _ in range(2 * FAILURES):
            runtime._failures[same.sha256].append(0.0)
            assert (await runtime.run(same, {"x": [2.0]}))["y"] == [2.0]

    _with_runtime(body, clock=lambda: 0.0)


def test_close_ends_the_worker(tmp_path: Path) -> None:
    same = Lone.of(tmp_path, "same", graphs.identity())
    seen: list[int] = []

    async def body(runtime: Runtime) -> None:
        await runtime.run(same, {"x": [1.0]})
        seen.append(_pid(runtime))

    _with_runtime(body)
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)


def test_an_output_beyond_its_rows_is_503(tmp_path: Path) -> None:
    growing = Lone.of(tmp_path, "growing", graphs.growing())
    same = Lone.of(tmp_path, "same", graphs.identity())

    async def body(runtime: Runtime) -> None:
        with pytest.raises(Unavailable, match="the graph failed"):
            await runtime.run(growing, {"x": [1.0]})
        assert (await runtime.run(same, {"x": [2.0]}))["y"] == [2.0]
        assert runtime.starts == 1

    _with_runtime(body)


def test_calls_that_meet_are_run_together(tmp_path: Path) -> None:
    log = Lone.of(tmp_path, "log", graphs.log())

    async def body(runtime: Runtime) -> None:
        calls = [runtime.run(log, {"x": [1.0] * rows}) for rows in range(1, 20)]
        answers = await asyncio.gather(*calls)
        assert [len(a["y"]) for a in answers] == list(range(1, 20))
        assert runtime.batching.together == 1

    _with_runtime(body)


def test_none_pays_for_another_it_was_run_with(tmp_path: Path) -> None:
    log = Lone.of(tmp_path, "log", graphs.log())

    async def body(runtime: Runtime) -> None:
        values = [1.0, 1.0, -1.0, 1.0]
        calls = [runtime.run(log, {"x": [value]}) for value in values]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(a, Unavailable) for a in answers] == [v < 0 for v in values]
        assert runtime.batching.together == 0

    _with_runtime(body)


def test_a_caller_that_leaves_the_queue_holds_nobody_up(tmp_path: Path) -> None:
    same = Lone.of(tmp_path, "same", graphs.identity())

    async def body(runtime: Runtime) -> None:
        calls = [asyncio.ensure_future(runtime.run(same, {"x": [float(i)]})) for i in range(6)]
        await asyncio.sleep(0)
        for gone in (0, 2, 5):
            calls[gone].cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [a["y"] for a in answers if isinstance(a, dict)] == [[1.0], [3.0], [4.0]]
        assert (await runtime.run(same, {"x": [9.0]}))["y"] == [9.0]

    _with_runtime(body)


def test_workers_are_started_within_a_budget(tmp_path: Path) -> None:
    same = Lone.of(tmp_path, "same", graphs.identity())
    now = [0.0]

    async def body(runtime: Runtime) -> None:
        runtime._started.extend([0.0] * RESTARTS)
        with pytest.raises(Unavailable, match="too often") as refused:
            await runtime.run(same, {"x": [1.0]})
        assert refused.value.headers["Retry-After"] == "60"
        now[0] = PERIOD + 1
        assert (await runtime.run(same, {"x": [1.0]}))["y"] == [1.0]

    _with_runtime(body, clock=lambda: now[0])


def test_a_provider_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    same = Lone.of(tmp_path, "same", graphs.identity())

    async def main() -> None:
        runtime = Runtime(Limits(providers=("CUDAExecutionProvider", "NoneSuch")))
        try:
            assert (await runtime.run(same, {"x": [1.0]}))["y"] == [1.0]
        finally:
            await runtime.close()

    asyncio.run(main())


class Native:
    """Stands for onnxruntime with a graphics card that cannot take the graph."""

    class SessionOptions:
        pass

    class RuntimeException(Exception):
        pass

    def __init__(self) -> None:
        self.tried: list[list[str]] = []

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", worker.PROCESSOR]

    def InferenceSession(self, data: bytes, options: Any, providers: list[str]) -> str:
        self.tried.append(providers)
        if len(providers) > 1:
            raise RuntimeError("no kernel image")
        return "on the processor"


def test_a_graph_that_a_provider_cannot_take_goes_to_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = Native()
    monkeypatch.setitem(sys.modules, "onnxruntime", native)
    monkeypatch.setattr(worker, "graph_errors", lambda: (RuntimeError,))
    same = Lone.of(tmp_path, "same", graphs.identity())
    found = worker.Graphs(("cuda",)).session(str(same.graph), same.sha256)
    assert found == "on the processor"
    assert native.tried == [["CUDAExecutionProvider", worker.PROCESSOR], [worker.PROCESSOR]]
