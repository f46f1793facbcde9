"""Automatic predictions: what changes in a record brings the patient's risks up to date, as drafts.

A follower of the change feed (``access/feed``), in the name of the server. The changes of a patient
are taken together once nothing of them is younger than ``quiet`` seconds, or waits ten times as
long. A round that dies is done again: a draft is only written where its inputs are new
(``keeping``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from fhir_server.access.feed import Feed
from fhir_server.access.session import Session
from fhir_server.model.datatypes import format_instant
from fhir_server.model.problem import Gone, NotFound, Problem, Unavailable
from fhir_server.model.resource import Stored

from .alerts.lapsing import lapse
from .alerts.raising import RISK, Alerting, decided
from .asking import Asking
from .evidence import Moment
from .inference import needed
from .keeping import Keeping
from .package import ModelPackage
from .publishing import publish
from .registry import Registry
from .session_record import IndexNames, SessionRecord
from .triggers import Triggers, subject_of

log = structlog.get_logger("vehr.models")

NAME: Final = "automatic-predictions"
MOST: Final = 500
"""Changes that are looked at together."""
POLL: Final = 0.5
SECOND: Final = 1_000_000
LAPSE: Final = 600 * SECOND
"""Between two looks at the alerts that are active."""
TRIES: Final = 5
"""Rounds in which a runtime that cannot be reached is tried; then the patient is passed over."""


@dataclass(slots=True)
class _Waiting:
    """A patient, what is to be asked, and when it changed first and last (microseconds)."""

    first: int
    last: int
    packages: dict[str, ModelPackage] = field(default_factory=dict)
    decided: set[str] = field(default_factory=set)
    """Alerts that a person has decided about."""


@dataclass(slots=True)
class Automatic:
    """``session``: the server's, by which it reads and writes. ``quiet``: seconds."""

    models: Registry
    index: IndexNames
    session: Session
    feed: Feed
    quiet: float
    _tried: int = 0
    _lapsed: int = 0
    _triggers: dict[str, tuple[ModelPackage, Triggers]] = field(default_factory=dict)

    async def run(self) -> None:
        """For ever. What fails is logged and tried again."""
        try:
            while True:
                more = False
                try:
                    more = await self.round()
                except Problem as problem:
                    log.warning("automatic predictions wait", error=str(problem))
                await asyncio.sleep(0 if more else POLL)
        finally:
            await self.feed.release()

    async def round(self) -> bool:
        """One look at the feed; False if there was nothing to do, or it is not yet time."""
        place = await self.feed.claim()
        if place is None:
            return False
        await self._lapse()
        changes = await self.feed.read(place.seq, MOST)
        if not changes:
            return False
        waiting = await self._concerned(changes)
        if waiting and not self._due(waiting, full=len(changes) >= MOST):
            return False
        for patient, one in waiting.items():
            if not await self._predict(patient, one):
                return False
            if await self.feed.claim() is None:
                return False
        claimed = await self.feed.claim()
        if claimed is not None:
            await self.feed.advance(claimed, changes[-1].seq)
        return claimed is not None

    def _due(self, waiting: Mapping[str, _Waiting], *, full: bool) -> bool:
        now, quiet = self.feed.engine.now(), int(self.quiet * SECOND)
        last = max(one.last for one in waiting.values())
        first = min(one.first for one in waiting.values())
        return full or now - last >= quiet or now - first >= 10 * quiet

    async def _concerned(self, changes: Sequence[Stored]) -> dict[str, _Waiting]:
        """Patients, in the order in which they changed, with the models that read what did."""
        waiting: dict[str, _Waiting] = {}
        watched = await self._watched()
        for stored in changes:
            if not any(stored.key.type in _TYPES or stored.key.type in t.types for _, t in watched):
                continue
            for resource in await self.feed.contents(stored):
                patient = subject_of(resource)
                fed = [package for package, told in watched if told.fed_by(resource)]
                alert = decided(resource)
                if not patient or not (fed or alert):
                    continue
                one = waiting.setdefault(patient, _Waiting(stored.updated, stored.updated))
                one.last = max(one.last, stored.updated)
                one.packages.update((package.id, package) for package in fed)
                one.decided |= {alert} - {""}
        return waiting

    async def _watched(self) -> Sequence[tuple[ModelPackage, Triggers]]:
        """The champions of now, each with what feeds it."""
        asking = await Asking.of(self.models, ())
        if self._triggers.keys() != {package.id for package in asking.packages}:
            self._triggers = {
                package.id: (package, Triggers.of(await needed(self.models, [package])))
                for package in asking.packages
            }
            await publish(self.models, self.session)
        return list(self._triggers.values())

    async def _predict(self, patient: str, one: _Waiting) -> bool:
        """False: it is to be tried again. One patient's problem is not the others'."""
        try:
            await self._alerting(format_instant(self.feed.engine.now())).close(one.decided)
            if one.packages:
                await self._drafted(patient, list(one.packages.values()))
        except Unavailable as problem:
            self._tried += 1
            log.warning("automatic prediction failed", error=str(problem), tried=self._tried)
            if self._tried < TRIES:
                return False
        except (NotFound, Gone):
            pass  # erased, deleted, or never written
        except Problem as problem:
            log.warning("automatic prediction failed", error=type(problem).__name__)
        self._tried = 0
        return True

    async def _lapse(self) -> None:
        """Now and then, the alerts that nothing supports any more."""
        now = self.feed.engine.now()
        if now - self._lapsed < LAPSE:
            return
        self._lapsed = now
        try:
            await lapse(self.models, self.session, self.index, self._alerting(format_instant(now)))
        except Problem as problem:
            log.warning("alerts were not looked at", error=str(problem))

    async def _drafted(self, patient: str, packages: Sequence[ModelPackage]) -> None:
        now = format_instant(self.feed.engine.now())
        asking = Asking(self.models, packages, await needed(self.models, packages), asked=False)
        reader = SessionRecord(self.session, patient, self.index)
        found = await asking.about(reader, Moment.of(now))
        keeping = Keeping(self.session, self.index, now, {"display": self.session.principal.id})
        for inference in found.inferences:
            if inference.gaps:
                await keeping.withdraw(inference.package, patient)
            else:
                await keeping.keep(inference, now)
        alerting = self._alerting(now)
        for inference in found.inferences:
            await alerting.tell(inference)

    def _alerting(self, now: str) -> Alerting:
        return Alerting(self.session, self.index, now, {"display": self.session.principal.id})


_TYPES: Final = frozenset({"Observation", "Patient", RISK})
"""What every model may read, and what alerts are."""
