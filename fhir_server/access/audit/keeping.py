"""The audit trail of a server, from its start to its end: written, and read as AuditEvents."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from socket import gethostname
from typing import Final

from fhir_server.access.audit.entry import Entry
from fhir_server.access.audit.log import AuditLog, Heads
from fhir_server.access.audit.trail import Trail
from fhir_server.access.commit import committing
from fhir_server.access.engine import Engine
from fhir_server.model.problem import Unavailable

SERVER: Final = "vehr"
"""Who acts when it is the server itself."""


@asynccontextmanager
async def recording(
    data: Path, engine: Engine, base: str, *, open_: bool, days: int = 0
) -> AsyncIterator[tuple[AuditLog | None, Engine]]:
    """The audit trail of this process, while it serves, and the engine that reads it; an open
    server has none. ``base``: the URL of the FHIR base. ``days``: how long chains are kept.
    """
    if open_:
        yield None, engine
        return
    store = engine.store
    log = AuditLog(data, Heads(store.ledger, committing(store), engine.now, days))
    trail = Trail(data, base, engine.extract)
    await log.start()
    _told(log, engine, "server-start")
    task = asyncio.create_task(log.run())
    try:
        yield log, replace(engine, trail=trail)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        _told(log, engine, "server-stop")
        await log.close()
        trail.close()


def by_itself(log: AuditLog, engine: Engine, command: str, target: str) -> Callable[[bool], None]:
    """Called when the server has done by itself, by the clock, what there is a command for; with
    whether it went well."""

    def ended(well: bool) -> None:
        _told(log, engine, f"command-{command}", target, 200 if well else 500)

    return ended


def _told(log: AuditLog, engine: Engine, what: str, target: str = "", status: int = 200) -> None:
    """An act of this process, and who runs it; without a ``target`` that it begins or ends. What
    cannot be written now is the first line of the next chain."""
    who, about = f"os:{getpass.getuser()}", target or f"{gethostname()} {os.getpid()}"
    entry = Entry(engine.now(), "", what, "", status, client=SERVER, user=who, target=about)
    with contextlib.suppress(Unavailable):
        log.write(entry)
