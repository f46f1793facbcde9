"""An export that is de-identified: what its pages become, and what is counted.

Nothing is written that was not rewritten by the profile; a rule, key, vault or model that fails
ends the job, and no file of it is ever shown. Codes that are not pseudonyms are made of a secret
that is drawn for the export and is gone when it ends.

Who is not shown the whole domain is given each line only if its resource may still be seen at the
time of fetching. Which resource that is stands in a file beside, that is not served and goes with
the job.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from fhir_server.access.session import Session
from fhir_server.formats.json import dumps, loads
from fhir_server.jobs.model import ASIDE
from fhir_server.model.exchange import Json
from fhir_server.model.resource import Key, Stored
from operations.deid.assembly import Deidentification, Work
from operations.deid.cohort.census import Parents
from operations.deid.cohort.judging import Cohort, no_parents
from operations.deid.cohort.telling import extension, told
from operations.deid.people import people_of
from operations.deid.report import report
from operations.deid.run import DrawnCodes, Run, Tally

from .wanted import Wanted

REPORT: Final = "report.ndjson"
SLICE: Final = 10
"""Resources that are rewritten before others get a turn on the loop."""
SECRET: Final = 32


def drawn() -> str:
    """The secret of one export."""
    return secrets.token_hex(SECRET)


def aside(name: str) -> str:
    """The file beside one of lines."""
    return name + ASIDE


@dataclass(slots=True)
class Anonymised:
    """Of one job. ``ids``: of the resources in the lines since they were last taken."""

    work: Work
    secret: str
    cohort: Cohort | None = None
    tally: Tally = field(default_factory=Tally)
    ids: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, deid: Deidentification | None, wanted: Wanted, base: str, secret: str
    ) -> Anonymised | None:
        """None: this export is not to be de-identified."""
        if not wanted.anonymize:
            return None
        assert deid is not None
        work = deid.begin(wanted.anonymize, wanted.project, wanted.moment, base)
        return cls(work, secret)

    def gather(self) -> bool:
        """Has everything to be counted before the first line is written?"""
        self.cohort = self.work.cohort()
        return self.cohort is not None

    async def count(self, found: Sequence[Stored]) -> None:
        """Some of it."""
        assert self.cohort is not None
        run = self._run()
        resources = [loads(stored.body) for stored in found]
        for start in range(0, len(resources), SLICE):
            for one in resources[start : start + SLICE]:
                self.cohort.note(one, self.work.profile.resource(one, run), run)
            await asyncio.sleep(0)

    async def counted(self, parents: Parents = no_parents) -> str:
        """After all of it. What follows from it, as a digest. ``parents``: of codes."""
        assert self.cohort is not None
        await self.cohort.settle(parents)
        return self.cohort.digest()

    def close(self) -> None:
        if self.cohort is not None:
            self.cohort.close()

    def mixed(self, found: Sequence[Stored]) -> list[Stored]:
        """In an order that tells nothing, the same after a restart."""
        secret = bytes.fromhex(self.secret)
        return sorted(found, key=lambda one: hmac.digest(secret, str(one.key).encode(), "sha256"))

    def as_set(self) -> Json | None:
        """For the manifest: what was asked of the whole set, without counts."""
        return None if self.cohort is None else extension(self.cohort)

    def _run(self) -> Run:
        return self.work.run(DrawnCodes(bytes.fromhex(self.secret)), relative=True)

    async def lines(self, found: Sequence[Stored], session: Session) -> bytes:
        """One de-identified resource a line."""
        run = self._run()
        resources = [loads(stored.body) for stored in found]
        if self.work.cleans:
            people = await people_of(resources, session, run)
            await self.work.prepare([*people, *resources], run)
        made: list[bytes] = []
        for start in range(0, len(resources), SLICE):
            some = resources[start : start + SLICE]
            for one in some:
                shown = self._made(one, run)
                if shown is not None:
                    made.append(dumps(shown))
                    self.ids.append(one["id"])
            await asyncio.sleep(0)
        await self.work.settle(run)
        self.tally.absorb(run.tally)
        return b"\n".join(made) + b"\n" if made else b""

    def _made(self, resource: Json, run: Run) -> Json | None:
        """None: it is not shown."""
        made = self.work.profile.resource(resource, run)
        return made if self.cohort is None else self.cohort.show(resource, made, run)

    def beside(self) -> bytes:
        """The ids of the lines so far, which are forgotten."""
        text = "".join(f"{id_}\n" for id_ in self.ids)
        self.ids.clear()
        return text.encode()

    def report(self, resources: int) -> bytes:
        made = report(self.work.profile.profile, self.tally, resources, review=False)
        if self.cohort is not None:
            made["parameter"].append(told(self.cohort))
        return dumps(made) + b"\n"

    def named(self, key: Key) -> str | None:
        """What a deleted resource was called in earlier exports; None: other ones in each."""
        if not self.work.profile.keyed:
            return None
        return f"{key.type}/{self.work.run().code(str(key), keyed=True)}"


def without_counts(reported: bytes) -> bytes:
    """The report for who is not to know how many there were."""
    return dumps(_uncounted(loads(reported))) + b"\n"


def _uncounted(resource: Json) -> Json:
    return resource | {"parameter": _kept(resource["parameter"])}


def _kept(parts: Iterable[Json]) -> list[Json]:
    return [
        part | {"part": _kept(part["part"])} if "part" in part else part
        for part in parts
        if part["name"] not in ("count", "resources")
    ]
