"""The process that runs graphs: ``python -m operations.models.worker``.

It reads frames from standard input and answers on standard output; a frame is a length (four
bytes, big-endian) and that many bytes of JSON. A request is ``{"graph", "sha256", "inputs",
"seconds"}``; the answer ``{"outputs"}`` or ``{"error"}``; without inputs it only warms up.
It holds no credentials, opens no network and ends when its input ends. A call that outlives
its time is ended by the kernel (SIGALRM), whatever native code it is in.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

NATIVE_ERRORS = (
    "EPFail",
    "EngineError",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "NoModel",
    "NoSuchFile",
    "NotImplemented",
    "RuntimeException",
)
PROCESSOR = "CPUExecutionProvider"
SPARE_SECONDS = 2.0
"""The parent ends a late call first; the alarm is for a worker whose parent is gone."""


def main() -> None:
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever native code prints must not enter the protocol
    limit(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    graphs = Graphs(tuple(sys.argv[2:]))
    while (frame := read_frame(source)) is not None:
        answer = serve(graphs, json.loads(frame))
        body = json.dumps(answer).encode()
        sink.write(struct.pack(">I", len(body)) + body)
        sink.flush()


def read_frame(source: BinaryIO) -> bytes | None:
    head = source.read(4)
    if len(head) < 4:
        return None
    return source.read(struct.unpack(">I", head)[0])


def limit(megabytes: int) -> None:
    """Address space of this process, no files and no core; unlimited where the platform cannot."""
    if not megabytes:
        return
    try:
        import resource
    except ImportError:
        return
    size = megabytes * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(kind, (0, 0))


def serve(graphs: Graphs, request: dict[str, Any]) -> dict[str, Any]:
    """One call. What a graph can do wrong becomes ``{"error"}``; a crash ends the process."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, request["seconds"] + SPARE_SECONDS)
    try:
        return {"outputs": run(graphs, request)}
    except graph_errors() as error:
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


def graph_errors() -> tuple[type[Exception], ...]:
    """What a graph or its inputs raise; anything else ends the process and is seen so."""
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    kinds = [getattr(native, name) for name in NATIVE_ERRORS]
    return (ValueError, TypeError, OSError, MemoryError, RuntimeError, *kinds)


def run(graphs: Graphs, request: dict[str, Any]) -> dict[str, list[float]]:
    """Inputs and outputs are double vectors ``[N]`` by name."""
    import numpy as np
    import onnxruntime  # noqa: F401 - loaded before the first call is timed

    if request["inputs"] is None:
        return {}
    session = graphs.session(request["graph"], request["sha256"])
    inputs = {k: np.asarray(v, dtype=np.float64) for k, v in request["inputs"].items()}
    rows = max((len(values) for values in inputs.values()), default=0)
    names = [output.name for output in session.get_outputs()]
    results = dict(zip(names, session.run(names, inputs), strict=True))
    for name, array in results.items():
        if np.asarray(array).size > rows:
            raise ValueError(f"output {name} is longer than the inputs")
    return {name: array.tolist() for name, array in results.items()}


class Graphs:
    """Sessions by the SHA-256 of their files. ``providers``: by preference; those that are not
    there, or cannot take a graph, are left out, and the processor is the last."""

    def __init__(self, providers: tuple[str, ...] = ()) -> None:
        self._providers = providers
        self._sessions: dict[str, Any] = {}

    def session(self, path: str, sha256: str) -> Any:
        """Raises ValueError when the file is not the one that was registered."""
        known = self._sessions.get(sha256)
        if known is None:
            data = Path(path).read_bytes()
            if hashlib.sha256(data).hexdigest() != sha256:
                raise ValueError("model.onnx has changed since it was registered")
            known = self._sessions[sha256] = self._opened(data)
        return known

    def _opened(self, data: bytes) -> Any:
        import onnxruntime

        there = onnxruntime.get_available_providers()
        wanted = [
            provider
            for name in self._providers
            for provider in there
            if _short(provider) == _short(name)
        ]
        wanted = [provider for provider in wanted if provider != PROCESSOR]
        try:
            return onnxruntime.InferenceSession(data, _options(), providers=[*wanted, PROCESSOR])
        except graph_errors():
            if not wanted:
                raise
            return onnxruntime.InferenceSession(data, _options(), providers=[PROCESSOR])


def _short(name: str) -> str:
    """``CUDAExecutionProvider`` is ``cuda``."""
    return name.lower().removesuffix("executionprovider")


def _options() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    return options


if __name__ == "__main__":
    main()
