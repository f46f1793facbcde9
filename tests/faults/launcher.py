"""Starts the same server again and again, quickly: everything is loaded once, then forked.

usage: python -m tests.faults.launcher FOLDER PORT

Each line on stdin starts a server process; its pid is printed, then ``ready``. A line is
empty, or "POINT COUNT": the process kills itself when it comes to that instant (``points.py``)
for the COUNT-th time. When stdin ends, the launcher does; its servers end with it.
What they say goes to ``FOLDER.log``.
``LAUNCHER_PRAGMAS``: what every connection that writes is told on top, separated by ;
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path

from fhir_server.cli.serve import listening
from fhir_server.config import Settings
from fhir_server.definitions.registry import load
from fhir_server.store.sqlite import schema
from fhir_server.workers.process import Work, run
from tests.faults.points import kill_at


def serve(work: Work, parent: int, words: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if len(words) == 2:
        kill_at(words[0], int(words[1]))
    with open(f"{work.settings.data}.log", "a", buffering=1) as log:
        sys.stdout = log
        run(work, lambda: print("ready", file=sys.__stdout__, flush=True), parent)


def tell_connections(pragmas: str) -> None:
    real = schema.connect

    def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
        connection = real(path, readonly=readonly)
        if not readonly:
            connection.executescript(pragmas)
        return connection

    schema.connect = connect


def main(folder: str, port: str) -> None:
    load()
    tell_connections(os.environ.get("LAUNCHER_PRAGMAS", ""))
    settings = replace(Settings(), data=Path(folder), base_url=f"http://127.0.0.1:{port}")
    work = Work(settings, listening("127.0.0.1", int(port)), open_=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent, _mine = os.pipe()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.close(_mine)
            serve(work, parent, line.split())
            os._exit(0)
        print("pid", child, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
