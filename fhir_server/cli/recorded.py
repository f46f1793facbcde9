"""What a command does to the data, in the audit trail beside that of the server."""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from fhir_server.access.audit.entry import Entry
from fhir_server.access.audit.log import AuditLog, Heads
from fhir_server.access.commit import committing
from fhir_server.app import Domain, opened
from fhir_server.auth.ports import COMMAND
from fhir_server.config import Settings, SettingsError
from fhir_server.model.fresh import micros
from fhir_server.model.problem import Unavailable

T = TypeVar("T")
LONGEST: Final = 500
"""Characters of a target that are recorded."""
DONE, FAILED = 200, 500


@asynccontextmanager
async def trail(domain: Domain) -> AsyncIterator[AuditLog]:
    """The trail of one command, a chain of its own. SettingsError if it cannot be written."""
    store = domain.store
    log = AuditLog(domain.settings.data, Heads(store.ledger, committing(store), micros))
    await log.start()
    if log.trouble is not None:
        raise SettingsError(log.trouble)
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def recorded(domain: Domain, command: str, **about: Any) -> AsyncIterator[None]:
    """A line for what is done inside, whether it succeeds or not. ``about``: members of ``Entry``,
    such as ``target``, ``what`` and ``patients``.
    """
    async with trail(domain) as log:
        try:
            yield
        except BaseException:
            _write(log, line(command, FAILED, about))
            raise
        _write(log, line(command, DONE, about))


async def noted(settings: Settings, command: str, target: str, work: Callable[[], T]) -> T:
    """The same for work that opens the data itself."""
    async with opened(settings) as domain, recorded(domain, command, target=target):
        return work()


def line(command: str, status: int, about: dict[str, Any]) -> Entry:
    """The line of a command: who is who runs it on this machine."""
    about["target"] = about.get("target", "")[:LONGEST]
    return Entry(
        at=micros(),
        request="",
        interaction=f"command-{command}",
        method="",
        status=status,
        client=COMMAND,
        user=f"os:{getpass.getuser()}",
        **about,
    )


def _write(log: AuditLog, entry: Entry) -> None:
    try:
        log.write(entry)
    except Unavailable as problem:
        raise SettingsError(str(problem)) from None
