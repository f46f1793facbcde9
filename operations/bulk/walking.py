"""The job of an export: files of NDJSON out of pages of searches, as of one point.

Every file is a step: after a kill the job goes on behind the last whole one. What is held in
memory is one page.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from fhir_server.access.session import Session
from fhir_server.formats.json import dumps
from fhir_server.jobs.context import Body, JobContext
from fhir_server.model.datatypes import parse_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Conflict, Issue, outcome
from fhir_server.model.resource import Stored
from fhir_server.search.plan import Any as AnyOf
from fhir_server.search.plan import Cursor, Predicate, Scan, Search
from operations.deid.cohort.census import Parents
from operations.deid.cohort.judging import no_parents

from .anonymised import REPORT, Anonymised, aside, drawn
from .wanted import Cut, Exports, Wanted, members_of

EXPORT: Final = "bulk-export"
PAGE: Final = 1000
LINES: Final = 50_000
"""Most resources of one file."""
MIXED: Final = 10_000
"""Resources that are put out of order together."""
TURN: Final = 50
"""Resources that are cut down before others get a turn on the loop."""
SETTLE: Final = 0.25
"""Seconds in which what was being written at the kick-off becomes durable."""
DELETED: Final = "deleted.ndjson"
ERRORS: Final = "errors.ndjson"


@dataclass(frozen=True, slots=True)
class State:
    """``scan``: the search that is walked, ``after``: behind which of its resources. ``files``:
    (type, name, lines) so far. ``moment``: the transactionTime, microseconds. ``secret``,
    ``tally``: of an export that is de-identified, what its codes are made of, what was counted;
    ``counted``: a digest of what its people may show as a set.
    """

    moment: int
    scan: int = 0
    after: tuple[Any, ...] | None = None
    files: tuple[tuple[str, str, int], ...] = field(default=())
    done: int = 0
    secret: str = ""
    tally: tuple[Any, ...] = ()
    counted: str = ""

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> State:
        after = stored["after"]
        return cls(
            stored["moment"],
            stored["scan"],
            None if after is None else tuple(after),
            tuple((type_, name, lines) for type_, name, lines in stored["files"]),
            stored["done"],
            stored["secret"],
            tuple(stored["tally"]),
            stored["counted"],
        )

    def name(self, type_: str) -> str:
        number = 1 + sum(of == type_ for of, _, _ in self.files)
        return f"{type_}.{number}.ndjson"


def export_body(exports: Exports, lines: int = LINES) -> Body:
    """The job. ``lines``: most resources of one file."""

    async def run(job: JobContext) -> None:
        wanted = Wanted.of(job.request)
        state = State.of(job.state) if job.state else await _begun(job, wanted)
        job.asked = wanted.asked()
        group = await cohort(wanted, job.session)
        scans = await exports.scans(wanted, group)
        cut = cut_of(exports, wanted)
        rewrite = Anonymised.of(exports.deid, wanted, job.job.base, state.secret)
        if rewrite is not None:
            rewrite.tally.add(state.tally)
            kinds = no_parents if exports.parents is None else exports.parents(job.session)
            state = await _counted(job, state, cut, rewrite, scans, kinds)
        try:
            while state.scan < len(scans):
                file = _File(job, wanted, state, cut, lines, rewrite)
                state = await file.written(scans[state.scan])
        finally:
            if rewrite is not None:
                rewrite.close()
        deleted, errors = 0, 0
        if wanted.since:
            gone = deleted_lines(exports, wanted, group, job.session, rewrite)
            deleted = await _written(job, DELETED, gone)
        if rewrite is not None:
            await job.write(REPORT, rewrite.report(sum(lines for _, _, lines in state.files)))
        if wanted.ignored:
            errors = await _written(job, ERRORS, _issues(wanted.ignored))
        answer = {"moment": state.moment, "files": state.files, "counts": [deleted, errors]}
        as_set = None if rewrite is None else rewrite.as_set()
        job.answer(answer if as_set is None else answer | {"cohort": as_set})

    return run


async def _begun(job: JobContext, wanted: Wanted) -> State:
    """The transactionTime: what was written at or before it is in, whoever wrote it."""
    await asyncio.sleep(SETTLE)
    straggler = await job.session.exporting().straggler(wanted.as_of, wanted.moment)
    moment = wanted.moment if straggler is None else straggler
    secret = drawn() if wanted.anonymize else ""
    state = State(moment // 1000 * 1000 - 1000, secret=secret)
    await job.checkpoint(state.to_json())
    return state


async def _counted(
    job: JobContext,
    state: State,
    cut: Cut | None,
    rewrite: Anonymised,
    scans: Sequence[Scan],
    parents: Parents,
) -> State:
    """Where a profile asks something of the whole set: all of it is looked at before anything is
    written, and again after a restart. Conflict: then somebody was hidden or shown meanwhile, so
    what is written and what would be written do not belong together."""
    if not rewrite.gather():
        return state
    wanted, done = Wanted.of(job.request), 0
    for scan in scans:
        after: Cursor | None = None
        while True:
            found, after = await page_of(job.session, scan, after, wanted.as_of)
            await rewrite.count(found if cut is None else [cut(one) for one in found])
            done += len(found)
            await job.progress(0, None, f"{done} resources counted, now {scan.type}")
            if after is None:
                break
    counted = await rewrite.counted(parents)
    if state.counted not in ("", counted):
        rewrite.close()
        text = "what may be exported has changed while it was being written: ask again"
        raise Conflict(text)
    if not state.counted:
        state = replace(state, counted=counted)
        await job.checkpoint(state.to_json())
    return state


async def page_of(
    session: Session, scan: Scan, after: Cursor | None, as_of: int
) -> tuple[Sequence[Stored], Cursor | None]:
    """Of a walk, as of one point; and behind what the next one begins."""
    search = Search((scan,), count=PAGE, after=after, total="none", as_of=as_of)
    page = await session.search(search)
    return page.matches, page.next


async def cohort(wanted: Wanted, session: Session) -> tuple[str, ...] | None:
    """The patients of an export; None: everybody."""
    if wanted.level == "Group" and wanted.patients is None:
        return members_of(await session.exporting().group(wanted.group, wanted.version))
    return wanted.patients


def cut_of(exports: Exports, wanted: Wanted) -> Cut | None:
    return exports.part(wanted.types, wanted.elements) if wanted.elements else None


@dataclass(slots=True)
class _File:
    """The next file of a walk."""

    job: JobContext
    wanted: Wanted
    state: State
    cut: Cut | None
    lines: int
    rewrite: Anonymised | None = None

    async def written(self, scan: Scan) -> State:
        """The state behind it. Nothing is written where nothing is found."""
        first = await self._page(scan, self.state.after)
        if not first[0]:
            return replace(self.state, scan=self.state.scan + 1, after=None)
        name, before = self.state.name(scan.type), self.state.done
        await self.job.write(name, self._bytes(scan, first))
        lines = self.state.done - before
        if self.rewrite is not None:
            lines = len(self.rewrite.ids)
            beside = self.rewrite.beside()
            if not self.job.session.policy.whole:
                await self.job.write(aside(name), beside)
            self.state = replace(self.state, tally=tuple(self.rewrite.tally.to_json()))
        files = (*self.state.files, *([(scan.type, name, lines)] if lines else ()))
        step = self.state.scan + (self.state.after is None)
        self.state = replace(self.state, files=files, scan=step)
        await self.job.checkpoint(self.state.to_json())
        return self.state

    async def _bytes(
        self, scan: Scan, page: tuple[Sequence[Stored], Cursor | None]
    ) -> AsyncIterator[bytes]:
        left = self.lines
        while True:
            matches, after = await self._mixed(scan, page, left)
            for some in slices(matches, self.cut):
                yield await self._lines(some)
            left -= len(matches)
            done = self.state.done + len(matches)
            self.state = replace(self.state, after=after, done=done)
            await self.job.progress(done, None, f"resources, now {scan.type}")
            if after is None or left <= 0:
                return
            page = await self._page(scan, after)

    async def _mixed(
        self, scan: Scan, page: tuple[Sequence[Stored], Cursor | None], left: int
    ) -> tuple[Sequence[Stored], Cursor | None]:
        """Pages come in order of dates, which would tell the dates that a profile hides: there
        several are taken together and mixed."""
        if self.rewrite is None or self.rewrite.cohort is None:
            return page
        found, after = list(page[0]), page[1]
        while after is not None and len(found) < min(left, MIXED):
            more, after = await self._page(scan, after)
            found += more
        return self.rewrite.mixed(found), after

    async def _lines(self, some: Sequence[Stored]) -> bytes:
        if self.rewrite is None:
            return ndjson(some, self.cut, self.job.job.base)
        left = some if self.cut is None else [self.cut(one) for one in some]
        return await self.rewrite.lines(left, self.job.session)

    async def _page(
        self, scan: Scan, after: Cursor | None
    ) -> tuple[Sequence[Stored], Cursor | None]:
        """Whom it is about is in the audit trail before it is in a file."""
        page = await page_of(self.job.session, scan, after, self.wanted.as_of)
        self.job.recorded.note(page[0])
        self.job.tell()
        return page


def slices(found: Sequence[Stored], cut: Cut | None) -> Iterator[Sequence[Stored]]:
    """What is made into lines at once."""
    size = PAGE if cut is None else TURN
    return (found[start : start + size] for start in range(0, len(found), size))


def ndjson(found: Sequence[Stored], cut: Cut | None, base: str) -> bytes:
    """Stored bytes, one resource a line; attachments of this server by their whole URL."""
    if cut is not None:
        found = [cut(one) for one in found]
    text = b"\n".join([one.body for one in found])
    if b'"url":"Binary/' in text:
        text = text.replace(b'"url":"Binary/', b'"url":"%s/Binary/' % base.encode())
    return text + b"\n" if text else b""


async def deleted_lines(
    exports: Exports,
    wanted: Wanted,
    group: Sequence[str] | None,
    session: Session,
    rewrite: Anonymised | None = None,
) -> AsyncIterator[bytes]:
    """A transaction of one DELETE for each resource that is gone since ``_since``; of what is
    de-identified only where earlier exports called it the same."""
    of_type: dict[str, Predicate] = {}
    for type_ in wanted.types:
        members = exports.members(wanted.level, type_, group)
        of_type[type_] = members[0] if len(members) == 1 else AnyOf(tuple(members))
    since = parse_instant(wanted.since) + 1000
    async for key in session.exporting().deletions(of_type, since, wanted.as_of):
        url = str(key) if rewrite is None else rewrite.named(key)
        if url is None:
            return
        entry = {"request": {"method": "DELETE", "url": url}}
        yield dumps({"resourceType": "Bundle", "type": "transaction", "entry": [entry]}) + b"\n"


async def _issues(texts: Sequence[str]) -> AsyncIterator[bytes]:
    for text in texts:
        yield dumps(outcome([Issue("not-supported", text, severity="warning")])) + b"\n"


async def _written(job: JobContext, name: str, lines: AsyncIterator[bytes]) -> int:
    """How many lines; no file without any."""
    first = await anext(lines, None)
    if first is None:
        return 0
    count = 1

    async def counted() -> AsyncIterator[bytes]:
        nonlocal count
        yield first
        async for line in lines:
            count += 1
            yield line

    await job.write(name, counted())
    return count
