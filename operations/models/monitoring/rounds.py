"""The rounds of a server: counts are written, and now and then each version is looked at."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from fhir_server.access.session import Session
from fhir_server.model.problem import Problem, Unavailable

from ..registry import Registry
from .monitor import Monitor
from .outcomes import Index, Outcomes
from .raising import tell
from .report import Report, report

log = structlog.get_logger("vehr")
FLUSH: Final = 10.0
"""Seconds."""
LEASE: Final = "model-round"


@dataclass(frozen=True, slots=True)
class Rounds:
    """``own``: the session of the server, in whose name it reads outcomes and writes Flags.
    ``every``: seconds between two looks; 0: nobody looks by himself."""

    registry: Registry
    monitor: Monitor
    own: Session
    index: Index
    every: int

    async def report(self, name: str, version: str) -> Report:
        """Raises NotFound, Unavailable."""
        known = self.registry.versions.get(f"{name}-{version}")
        package = known.package if known else await self.registry.verified(name, version)
        outcomes = Outcomes(self.own, self.index, self.monitor.now())
        return await report(self.monitor, package, outcomes)

    async def look(self) -> list[Report]:
        """Every champion and challenger in use; what is beyond its thresholds is told."""
        await self.registry.refresh()
        reports = []
        served = {*self.registry.champions.items(), *self.registry.challengers.items()}
        for name, version in sorted(served):
            if not await self._used(f"{name}-{version}"):
                continue
            try:
                found = await self.report(name, version)
            except Problem:
                continue
            await tell(found, self.own, self.monitor.now())
            reports.append(found)
        return reports

    async def _used(self, id_: str) -> bool:
        """Is there anything to tell of a version?"""
        known = self.registry.versions.get(id_)
        if known is None:
            return False
        tally = await self.monitor.tally(id_, known.package.card.monitoring.days)
        return tally.calls > 0 or bool(known.package.card.outcome)

    @asynccontextmanager
    async def going(self) -> AsyncIterator[None]:
        """Meanwhile they are made; of several processes one looks at a time."""
        task = asyncio.create_task(self._go(), name="models")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _go(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self.every
        while True:
            await asyncio.sleep(min(FLUSH, self.every) if self.every else FLUSH)
            try:
                await self.monitor.flush()
                if self.every and loop.time() >= due:
                    due = loop.time() + self.every
                    if await self._first():
                        await self.look()
            except (Unavailable, OSError) as error:
                log.warning("models are not watched", error=str(error))

    async def _first(self) -> bool:
        """Has no other process looked in this period?"""
        at = self.monitor.now() / 1e6
        period = int(at // self.every)
        until = at + 2 * self.every
        return await self.monitor.ledger.insert_unique(LEASE, str(period), {}, until)
