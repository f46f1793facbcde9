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
SPARE_SECONDS = 2.0
"""The parent ends a late call first; the alarm is for a worker whose parent is gone."""


def main() -> None:
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever native code prints must not enter the protocol
    limit_memory(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    sessions: dict[str, Any] = {}
    while (frame := read_frame(source)) is not None:
        answer = serve(sessions, json.loads(frame))
        body = json.dumps(answer).encode()
        sink.write(struct.pack(">I", len(body)) + body)
        sink.flush()


def read_frame(source: BinaryIO) -> bytes | None:
    head = source.read(4)
    if len(head) < 4:
        return None
    return source.read(struct.unpack(">I", head)[0])


def limit_memory(megabytes: int) -> None:
    """Address space of this process; unlimited where the platform cannot."""
    if not megabytes:
        return
    try:
        import resource
    except ImportError:
        return
    size = megabytes * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def serve(sessions: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """One call. What a graph can do wrong becomes ``{"error"}``; a crash ends the process."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, request["seconds"] + SPARE_SECONDS)
    try:
        return {"outputs": run(sessions, request)}
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


def run(sessions: dict[str, Any], request: dict[str, Any]) -> dict[str, list[float]]:
    """Inputs and outputs are double vectors ``[N]`` by name."""
    import numpy as np
    import onnxruntime  # noqa: F401 - loaded before the first call is timed

    if request["inputs"] is None:
        return {}
    session = sessions.get(request["sha256"])
    if session is None:
        session = open_graph(request["graph"], request["sha256"])
        sessions[request["sha256"]] = session
    inputs = {k: np.asarray(v, dtype=np.float64) for k, v in request["inputs"].items()}
    names = [output.name for output in session.get_outputs()]
    results = zip(names, session.run(names, inputs), strict=True)
    return {name: array.tolist() for name, array in results}


def open_graph(path: str, sha256: str) -> Any:
    """Raises ValueError when the file is not the one that was registered."""
    import onnxruntime

    data = Path(path).read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError("model.onnx has changed since it was registered")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
