"""One run of the pipeline: record -> consent for research -> de-identified -> cleaned -> bank.

A run goes patient by patient, so that memory is bounded by one record and a run that is killed
goes on where it was. Who may be seen for research is asked anew in every run: who withdrew, was
deleted or erased is erased in the bank, with all versions; of whom the consents have changed the
record is erased and taken in anew, so that nothing of before stays in a history. All of that is
erased before anybody is taken in, whose record might be one that cannot be. Of all others only
those are taken in again whose record has changed since the last run.

The ledger of the record remembers whom the bank holds, by the id in the record and without the
pseudonym, which is computed from the project's key.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import structlog

from fhir_server.access.consent.policy import ConsentPolicy
from fhir_server.access.drafts import Draft
from fhir_server.access.erasing import Wanted
from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Conflict, NotFound, Problem, Unavailable
from fhir_server.model.resource import Key
from fhir_server.search.plan import Scan, Search
from operations.deid.assembly import Work
from operations.deid.subjects import subject_of

from .bank import HELD, STATE, Bank, Lease
from .cleaning import Quality, Sieve, valid
from .exposure import exposure

log = structlog.get_logger("vehr.research")

PROFILE: Final = "research"
PURPOSE: Final = "HRESCH"
LAST: Final = "last-run"
FIRST: Final = "first-run"
LINEAGE: Final = "lineage"
PAGE: Final = 1000
TOGETHER: Final = 100
"""Resources of one commit."""
LEFT_OUT: Final = frozenset({"AuditEvent", "Consent", "Provenance", "Person", "Group", "List"})
"""Types of the compartment that the bank does not take."""


@dataclass(slots=True)
class Outcome:
    """What a run did: patients taken in for the first time, again, and out; resources erased."""

    number: int = 0
    added: int = 0
    renewed: int = 0
    removed: int = 0
    held: int = 0
    erased: int = 0
    quality: Quality = field(default_factory=Quality)


Tell = Callable[[int, int], None]
"""(patients done, of how many)"""


async def sync(bank: Bank, *, full: bool = False, tell: Tell = lambda done, of: None) -> Outcome:
    """One run. ``full``: every patient is taken in anew. Unprocessable: there is no key, or a
    record cannot be de-identified; what was done before that stays. Unavailable: the keys are
    lost by which patients are found in the bank, or a model cannot be run."""
    await _require_key(bank)
    lease = Lease(bank.record)
    await lease.take()
    try:
        return await _Run(bank, await bank.reader(), lease, full=full).whole(tell)
    finally:
        await lease.leave()


async def _require_key(bank: Bank) -> None:
    """The first key of the bank's project is made by its first run. One of a bank that holds
    somebody is lost, and another would find nobody there who withdraws."""
    if any(known.project == bank.project for known in bank.deid.keys.known()):
        return
    if await bank.record.scan(HELD):
        raise Unavailable(f"the key of the data bank ({bank.project}) is lost: bring it back")
    bank.deid.keys.add(bank.project)


async def every(
    bank: Bank, seconds: float, ended: Callable[[bool], None] = lambda well: None
) -> None:
    """For ever: a pause, then a run. A run that fails is logged, and the next one comes. ``ended``:
    told of each, and whether it went well."""
    while True:
        await asyncio.sleep(seconds)
        try:
            outcome = await sync(bank)
        except Problem as problem:
            log.warning("the data bank was not filled", error=str(problem))
            ended(False)
        else:
            log.info("the data bank was filled", number=outcome.number, held=outcome.held)
            ended(True)


class _Run:
    """One run while it goes on."""

    def __init__(self, bank: Bank, reader: Session, lease: Lease, *, full: bool) -> None:
        self._bank = bank
        self._lease = lease
        self._reader = reader
        self._full = full
        self._work: Work = bank.deid.begin(PROFILE, bank.project, bank.now(), bank.base)
        self._outcome = Outcome()
        self._bank_id = ""

    async def whole(self, tell: Tell) -> Outcome:
        bank, started = self._bank, self._bank.now()
        until = await bank.feed.position()
        row = await bank.record.get(STATE, LAST)
        now = {"position": until, "at": format_instant(started)}
        last = await self._first(now) if row is None else row.value
        self._bank_id = await bank.identity()
        held = {one.key: one.value for one in await bank.record.scan(HELD)}
        if last.get("bank", self._bank_id) != self._bank_id:
            for id_ in held:
                await bank.note(id_, None)
            held, last = {}, now
        seen = await self._seen()
        gone = [id_ for id_ in held if id_ not in seen]
        changed = await self._changed(last["position"], until)
        await self._forget_erased(last["at"])
        todo = [id_ for id_ in seen if self._due(id_, seen, held, changed)]
        for done, id_ in enumerate(gone):
            tell(done, len(gone) + len(todo))
            await self._lease.renew()
            await self._out(id_, held[id_])
        for id_ in todo:
            if id_ in held and held[id_]["stamp"] != seen[id_]:
                await self._lease.renew()
                await self._erase(await self._keys(id_, held[id_]["key"]))
        for done, id_ in enumerate(todo, len(gone)):
            tell(done, len(gone) + len(todo))
            await self._lease.renew()
            await self._in(id_, seen[id_], held.get(id_))
        return await self._ended(row, last, started, until, len(seen))

    def _due(self, id_: str, seen: dict[str, str], held: dict[str, Any], changed: set[str]) -> bool:
        known = held.get(id_)
        return self._full or known is None or known["stamp"] != seen[id_] or id_ in changed

    async def _seen(self) -> dict[str, str]:
        """The patients whom research may see, each with what that was decided by."""
        found: dict[str, str] = {}
        search: Search | None = Search((Scan("Patient"),), count=PAGE, total="none")
        while search is not None:
            page = await self._reader.search(search)
            for stored in page.matches:
                found[stored.key.id] = self._stamp(stored.key.id)
            search = Search(search.scans, count=PAGE, total="none", after=page.next) \
                if page.next else None  # fmt: skip
        return found

    def _stamp(self, patient: str) -> str:
        """It changes with the patient's consents in force, the profile and the project's key."""
        policy, profile, now = self._reader.policy, self._work.profile.profile, self._bank.now()
        consents = (
            policy.rules.consents.get(patient, ()) if isinstance(policy, ConsentPolicy) else ()
        )
        held = sorted(
            (one.id, one.version, sum(moment <= now for moment in one.moments()))
            for one in consents
        )
        assert self._work.key is not None
        said = (held, profile.url, profile.version, self._work.key.version)
        return sha256(repr(said).encode()).hexdigest()

    async def _first(self, now: Json) -> Json:
        """Where the first run of all began, which may have been killed."""
        await self._bank.record.insert_unique(STATE, FIRST, now)
        row = await self._bank.record.get(STATE, FIRST)
        return now if row is None else row.value

    async def _changed(self, since: int, until: int) -> set[str]:
        """Whose records have changed."""
        found: set[str] = set()
        run = self._work.run()
        async for stored in self._bank.feed.changed(since, until):
            if stored.key.type == "Patient":
                found.add(stored.key.id)
            elif not stored.deleted:
                type_, _, id_ = subject_of(loads(stored.body), run).partition("/")
                if type_ == "Patient":
                    found.add(id_)
        return found

    async def _forget_erased(self, since: str) -> None:
        """What was erased in the record leaves no trace here either."""
        run = self._work.run()
        for key in await self._bank.feed.erased(since):
            await self._erase([Key(key.type, run.code(str(key), keyed=True))])

    async def _in(self, id_: str, stamp: str, held: Json | None) -> None:
        """One patient taken in, or again."""
        run = self._work.run(relative=True)
        resources = [one async for one in self._record(id_)]
        if not resources:
            return
        await self._work.prepare(resources, run)
        made: list[Json] = []
        for resource in resources:
            made.append(self._work.profile.resource(resource, run))
            await asyncio.sleep(0)
        await self._work.settle(run)
        kept = valid(made, self._bank.writer.validate, self._outcome.quality)
        assert self._work.key is not None
        version = self._work.key.version
        await self._bank.note(id_, {"stamp": "", "key": version})
        keys = {Key(one["resourceType"], one["id"]) for one in kept}
        await self._erase([key for key in await self._keys(id_, version) if key not in keys])
        await self._load(kept)
        await self._bank.note(id_, {"stamp": stamp, "key": version})
        self._outcome.added += held is None
        self._outcome.renewed += held is not None

    async def _record(self, id_: str) -> AsyncIterator[Json]:
        """What research may see of a patient and is about that patient alone."""
        run, quality, sieve = self._work.run(), self._outcome.quality, Sieve()
        try:
            async for stored in self._reader.everything(id_):
                if stored.key.type in LEFT_OUT:
                    continue
                resource = loads(stored.body)
                quality.read[stored.key.type] += 1
                fault = sieve.fault(resource)
                if subject_of(resource, run) != f"Patient/{id_}":
                    fault = "several-patients"
                if fault:
                    quality.leave(stored.key.type, fault)
                else:
                    yield resource
        except NotFound:
            return

    async def _load(self, resources: Sequence[Json]) -> None:
        for start in range(0, len(resources), TOGETHER):
            drafts = [
                Draft("PUT", Key(one["resourceType"], one["id"]), one)
                for one in resources[start : start + TOGETHER]
            ]
            await self._bank.writer.write(drafts)

    async def _out(self, id_: str, held: Json) -> None:
        """One patient taken out, with everything and its history."""
        await self._erase(await self._keys(id_, held["key"]))
        await self._bank.note(id_, None)
        self._outcome.removed += 1

    async def _keys(self, id_: str, version: int) -> list[Key]:
        """What the bank holds of a patient, by a version of the project's key."""
        assert self._work.key is not None
        run = self._work.run()
        if version != self._work.key.version:
            run.key = self._bank.deid.keys.version(self._bank.project, version)
        pseudonym = run.code(f"Patient/{id_}", keyed=True)
        return await self._bank.keys_of(pseudonym)

    async def _erase(self, keys: Sequence[Key]) -> None:
        erasing = self._bank.writer.erasing({key.type for key in keys})
        erasures = [
            erasure
            for key in keys
            for erasure in await erasing.of_resource(key, Wanted(everything=True))
        ]
        if erasures:
            await erasing.erase(erasures, PURPOSE)
            self._outcome.erased += len(erasures)

    async def _ended(self, row: Any, last: Json, started: int, until: int, held: int) -> Outcome:
        """What is known of the run: in the record where the next one begins, in the bank what
        was done."""
        bank, outcome = self._bank, self._outcome
        outcome.number, outcome.held = last.get("number", 0) + 1, held
        value = {"number": outcome.number, "position": until, "at": format_instant(started)}
        value["bank"] = self._bank_id
        if row is None:
            noted = await bank.record.insert_unique(STATE, LAST, value)
        else:
            noted = await bank.record.cas(STATE, LAST, value, row.revision)
        if not noted:
            raise Conflict("another run of the research pipeline has ended meanwhile")
        profile = self._work.profile.profile
        assert self._work.key is not None
        told = {
            "number": outcome.number,
            "source": format_instant(started),
            "ended": format_instant(bank.now()),
            "profile": f"{profile.url}|{profile.version}",
            "key": self._work.key.version,
            "full": self._full,
            "patients": {
                "added": outcome.added,
                "renewed": outcome.renewed,
                "removed": outcome.removed,
                "held": held,
            },
            "quality": outcome.quality.to_json(),
            "exposure": await exposure(bank.writer),
        }
        await bank.lineage.insert_unique(LINEAGE, f"{outcome.number:08d}", told)
        return outcome
