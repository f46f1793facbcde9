"""Heavy computation in a process of its own, so that the event loop never waits for it.

A thread would share the interpreter's lock with the loop. The process starts clean (spawn),
runs one function and is gone; cancelling the await kills it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final, ParamSpec, TypeVar

from fhir_server.model.problem import Problem, ServerError

P = ParamSpec("P")
T = TypeVar("T")

_SPAWN: Final = multiprocessing.get_context("spawn")


async def compute(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a module-level function of picklable arguments.

    Its Problem is raised here; any other error, or the death of the process, is a
    ServerError.
    """
    ours, theirs = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_child, args=(theirs, function, args, kwargs), daemon=True)
    started = asyncio.create_task(asyncio.to_thread(process.start))
    try:
        await asyncio.shield(started)
        theirs.close()
        kind, value = await asyncio.to_thread(_received, ours)
    finally:
        await asyncio.wait({started})
        if process.pid is not None:
            process.kill()
            await asyncio.to_thread(process.join)
        theirs.close()
        ours.close()
    if kind == "result":
        result: T = value
        return result
    if isinstance(value, Problem):
        raise value
    raise ServerError(f"the computation failed: {value}")


def _received(connection: Connection) -> tuple[str, Any]:
    try:
        message: tuple[str, Any] = connection.recv()
    except EOFError:
        return "error", "its process died"
    return message


def _child(
    connection: Connection,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    try:
        connection.send(("result", function(*args, **kwargs)))
    except Problem as problem:
        connection.send(("error", problem))
    except Exception as error:
        connection.send(("error", type(error).__name__))
        raise
