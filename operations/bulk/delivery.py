"""What the owner of an export is shown: the manifest and the files, judged again at every look.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html#response---complete-status. To whom nothing is
hidden the files are served as they were written. To others each resource is looked for again,
as it was at that point, but by what is permitted now: a patient who refuses meanwhile is not in
what is fetched from then on, and the manifest has no counts that would tell. A download that is
under way is judged again with each page, and whenever a moment has passed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.access.lasting import FRESH
from fhir_server.access.session import Session
from fhir_server.jobs.files import JobFiles
from fhir_server.jobs.model import Job, JobFile
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.resource import Stored
from fhir_server.search.plan import IdIn, Scan, Search

from .anonymised import REPORT, Anonymised, aside, without_counts
from .walking import DELETED, ERRORS, PAGE, TURN, cohort, cut_of, deleted_lines, ndjson
from .wanted import Exports, Wanted

_ID: Final = b'"id":"'
PIECE: Final = 1 << 18
"""Bytes of resources after which a piece is full."""
Judge = Callable[[str, str], Awaitable[Session]]
"""(grant, purpose of use) -> the Session, judged anew."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """``tokens``: are they needed for the files?"""

    exports: Exports
    files: JobFiles
    judge: Judge
    tokens: bool

    async def manifest(self, job: Job, session: Session) -> Json:
        wanted, result = Wanted.of(job.request), job.result or {}
        judged = await self._judged(job, session)
        whole = judged.policy.whole
        output = [
            _item(job, type_, name, lines if whole else None)
            for type_, name, lines in result["files"]
            if whole or await self._any(job, name, session)
        ]
        if wanted.anonymize:
            output.append(_item(job, "Parameters", REPORT, 1))
        deleted, errors = result["counts"]
        gone = _item(job, "Bundle", DELETED, deleted if whole else None)
        told = _item(job, "OperationOutcome", ERRORS, errors)
        return {
            "transactionTime": format_instant(result["moment"]),
            "request": wanted.url,
            "requiresAccessToken": self.tokens,
            "output": output,
            "deleted": [gone]
            if deleted and (whole or await self._any(job, DELETED, session))
            else [],
            "error": [told] if errors else [],
            **({"extension": {"cohort": result["cohort"]}} if "cohort" in result else {}),
        }

    async def content(self, job: Job, file: JobFile, session: Session) -> AsyncIterator[bytes]:
        judged = await self._judged(job, session)
        if judged.policy.whole or file.name == ERRORS:
            return self.files.read(job.id, file)
        if file.name == REPORT:
            return self._uncounted(job, file)
        return self._again(job, file.name, session)

    async def _judged(self, job: Job, session: Session) -> Session:
        """Whoever asks, for the purpose for which the export was started."""
        return await self.judge(session.principal.grant, job.purpose)

    async def _any(self, job: Job, name: str, session: Session) -> bool:
        async for _ in self._again(job, name, session):
            return True
        return False

    async def _again(self, job: Job, name: str, session: Session) -> AsyncIterator[bytes]:
        """What may still be seen of a file."""
        wanted = Wanted.of(job.request)
        if name == DELETED:
            judged = await self._judged(job, session)
            group = await cohort(wanted, judged)
            deid = Anonymised.of(self.exports.deid, wanted, job.base, "")
            async for line in deleted_lines(self.exports, wanted, group, judged, deid):
                yield line
            return
        file = job.file(name)
        assert file is not None
        if wanted.anonymize:
            async for lines in self._lines(job, file, session, wanted.as_of):
                yield lines
            return
        type_, cut = name.partition(".")[0], cut_of(self.exports, wanted)
        async for ids in self._ids(job, file):
            left = ids
            while left:
                judged, began = await self._judged(job, session), time.monotonic()
                found = await permitted(judged, type_, left, wanted.as_of)
                left = ()
                given = 0
                for some in pieces(found):
                    if given and time.monotonic() - began > FRESH:
                        left = tuple(one.key.id for one in found[given:])
                        break
                    yield ndjson(some, cut, job.base)
                    given += len(some)
                    await asyncio.sleep(0)

    async def _lines(
        self, job: Job, file: JobFile, session: Session, as_of: int
    ) -> AsyncIterator[bytes]:
        """The de-identified lines whose resources may still be seen."""
        beside = job.file(aside(file.name))
        if beside is None:
            return
        type_ = file.name.partition(".")[0]
        ids = (await self.files.content(job.id, beside)).decode().split("\n")
        rest, start = b"", 0
        async for chunk in self.files.read(job.id, file):
            *lines, rest = (rest + chunk).split(b"\n")
            for at in range(0, len(lines), PAGE):
                some = lines[at : at + PAGE]
                named = ids[start : start + len(some)]
                start += len(some)
                judged = await self._judged(job, session)
                found = await permitted(judged, type_, tuple(named), as_of)
                seen = {stored.key.id for stored in found}
                kept = [line for id_, line in zip(named, some, strict=True) if id_ in seen]
                if kept:
                    yield b"\n".join(kept) + b"\n"

    async def _uncounted(self, job: Job, file: JobFile) -> AsyncIterator[bytes]:
        yield without_counts(await self.files.content(job.id, file))

    async def _ids(self, job: Job, file: JobFile) -> AsyncIterator[tuple[str, ...]]:
        """Of the resources in a file, some at a time."""
        rest, ids = b"", []
        async for chunk in self.files.read(job.id, file):
            *lines, rest = (rest + chunk).split(b"\n")
            ids += [id_of(line) for line in lines]
            while len(ids) >= PAGE:
                yield tuple(ids[:PAGE])
                del ids[:PAGE]
        if ids:
            yield tuple(ids)


async def permitted(session: Session, type_: str, ids: tuple[str, ...], as_of: int) -> list[Stored]:
    """Those that may be seen, as they were and as they are now, as they were; in the given
    order."""
    search = Search((Scan(type_, IdIn(ids)),), count=len(ids), total="none")
    now = {stored.key for stored in (await session.search(search)).matches}
    then = await session.search(Search(search.scans, count=len(ids), total="none", as_of=as_of))
    found = {stored.key.id: stored for stored in then.matches if stored.key in now}
    return [found[id_] for id_ in ids if id_ in found]


def pieces(found: Sequence[Stored]) -> Iterator[Sequence[Stored]]:
    """What leaves at once: what has been given out cannot be called back."""
    start, size = 0, 0
    for place, one in enumerate(found):
        size += len(one.body)
        if size > PIECE or place - start >= TURN:
            yield found[start : place + 1]
            start, size = place + 1, 0
    if start < len(found):
        yield found[start:]


def id_of(line: bytes) -> str:
    """The id, which stands before all else that could be called so."""
    start = line.index(_ID) + len(_ID)
    return line[start : line.index(b'"', start)].decode()


def _item(job: Job, type_: str, name: str, lines: int | None) -> dict[str, Any]:
    count = {} if lines is None else {"count": lines}
    return {"type": type_, "url": f"{job.url}/{name}", **count}
