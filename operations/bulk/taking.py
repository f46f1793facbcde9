"""The job of an import: lines of NDJSON through the one write path, some hundred to a commit.

Every commit is a step: after a kill the job goes on behind the last one. A resource is stored under
its own id, so what was written just before a kill is found unchanged and makes no new version.
What cannot be stored goes into the file of errors, with its place; all else goes on.
"""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from fhir_server.access.drafts import Draft
from fhir_server.access.session import Session
from fhir_server.formats.json import Limits, dumps, loads
from fhir_server.jobs.context import Body, JobContext
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Issue, NotFound, Problem, Unprocessable, outcome
from fhir_server.model.resource import ID_PATTERN, Key, Stored

IMPORT: Final = "bulk-import"
TOGETHER: Final = 200
"""Lines of one commit."""
MOST_ERRORS: Final = 1000
"""Lines that may fail; then the whole import does."""
ERRORS: Final = "errors.ndjson"
PIECE: Final = 192 * 1024
FILE: Final = "file:"
BINARY: Final = "Binary/"
_GZIP: Final = b"\x1f\x8b"


@dataclass(slots=True)
class State:
    """``input``: which of them, ``line``: how many of its lines are done. ``stored``: by input."""

    input: int = 0
    line: int = 0
    done: int = 0
    stored: list[int] = field(default_factory=list)
    errors: int = 0

    def to_json(self) -> Json:
        return asdict(self)


def import_body(folder: Path | None, limits: Limits) -> Body:
    """The job. ``folder``: where files may lie. ``limits``: of one line."""

    async def run(job: JobContext) -> None:
        state = State(**job.state) if job.state else State()
        inputs: list[list[str]] = job.request["inputs"]
        for number in range(state.input, len(inputs)):
            type_, url = inputs[number]
            await _Taking(job, state, type_, url, limits).whole(folder)
            state.input, state.line = number + 1, 0
            await job.checkpoint(state.to_json())
        job.answer(_manifest(job, state))

    return run


def _manifest(job: JobContext, state: State) -> Json:
    output = [
        {"type": type_, "inputUrl": url, "count": count}
        for (type_, url), count in zip(job.request["inputs"], state.stored, strict=True)
    ]
    told = {"type": "OperationOutcome", "url": job.url(ERRORS), "count": state.errors}
    return {
        "transactionTime": format_instant(job.now()),
        "request": job.request["url"],
        "requiresAccessToken": True,
        "output": output,
        "error": [told] if state.errors else [],
    }


class _Taking:
    """One input while it is taken in."""

    def __init__(self, job: JobContext, state: State, type_: str, url: str, limits: Limits) -> None:
        self._job, self._state = job, state
        self._type, self._url = type_, url
        self._limits = limits
        self._failed: list[bytes] = []

    async def whole(self, folder: Path | None) -> None:
        if len(self._state.stored) <= self._state.input:
            self._state.stored.append(0)
        waiting: list[tuple[int, bytes | None]] = []
        number = 0
        content = await opened(self._url, folder, self._job.session)
        async for line in lines(content, self._limits.body):
            number += 1
            if number <= self._state.line:
                continue
            waiting.append((number, line))
            if len(waiting) >= TOGETHER:
                await self._step(waiting)
                waiting = []
        if waiting:
            await self._step(waiting)

    async def _step(self, waiting: list[tuple[int, bytes | None]]) -> None:
        """One commit, and what is known of it."""
        drafts: list[tuple[int, Draft]] = []
        seen: set[Key] = set()
        for number, line in waiting:
            try:
                draft = self._draft(line, seen)
            except Problem as problem:
                self._fail(number, problem)
            else:
                if draft is not None:
                    drafts.append((number, draft))
        await self._store(drafts)
        self._job.tell()
        await self._tell()
        self._state.line = waiting[-1][0]
        self._state.done += len(waiting)
        await self._job.checkpoint(self._state.to_json())
        await self._job.progress(self._state.done, None, f"lines, now {self._type}")

    def _draft(self, line: bytes | None, seen: set[Key]) -> Draft | None:
        """None for an empty line. A Problem for what cannot be stored."""
        if line is None:
            raise Unprocessable(f"longer than {self._limits.body} bytes", code="too-long")
        if not line.strip():
            return None
        resource = loads(line, self._limits)
        if resource.get("resourceType") != self._type:
            raise Unprocessable(f"this is no {self._type}", code="structure")
        id_ = resource.get("id")
        if not isinstance(id_, str) or ID_PATTERN.fullmatch(id_) is None:
            raise Unprocessable("a resource that is imported has an id", code="required")
        key = Key(self._type, id_)
        if key in seen:
            raise Unprocessable(f"{key} is there twice", code="duplicate")
        seen.add(key)
        return Draft("PUT", key, resource)

    async def _store(self, drafts: list[tuple[int, Draft]]) -> None:
        """All in one commit; if that is refused, each alone."""
        if not drafts:
            return
        try:
            await self._job.recorded.write([draft for _, draft in drafts])
        except Problem as problem:
            if len(drafts) == 1 and problem.status < 500:
                self._fail(drafts[0][0], problem)
                return
            if problem.status >= 500:
                raise
            for one in drafts:
                await self._store([one])
        else:
            self._state.stored[self._state.input] += len(drafts)

    def _fail(self, number: int, problem: Problem) -> None:
        place = f"{self._url} line {number}"
        issues = [
            Issue(issue.code, f"{place}: {issue.diagnostics}", issue.expression)
            for issue in problem.issues
        ]
        self._failed.append(dumps(outcome(issues)) + b"\n")

    async def _tell(self) -> None:
        """The file of errors, with those of this step."""
        if not self._failed:
            return
        before = b""
        if self._state.errors:
            before = await self._job.read(ERRORS)
        self._state.errors += len(self._failed)
        await self._job.write(ERRORS, before + b"".join(self._failed))
        self._failed.clear()
        if self._state.errors > MOST_ERRORS:
            raise Unprocessable(
                f"more than {MOST_ERRORS} lines cannot be stored", code="too-costly"
            )


async def located(url: str, folder: Path | None, session: Session) -> Stored | Path:
    """Where an input lies: a Binary that the caller may read, or a file of the folder.

    BadRequest for any other place; NotFound if there is none.
    """
    if url.startswith(BINARY) and ID_PATTERN.fullmatch(url.removeprefix(BINARY)):
        return await session.read(Key("Binary", url.removeprefix(BINARY)))
    if url.startswith(FILE):
        return await asyncio.to_thread(inside, folder, url.removeprefix(FILE))
    raise BadRequest("input.url: Binary/[id], or file:NAME in the folder of VEHR_IMPORT")


async def opened(url: str, folder: Path | None, session: Session) -> AsyncIterator[bytes]:
    """The content of an input."""
    place = await located(url, folder, session)
    return _pieces(place) if isinstance(place, Path) else await _binary(place, session)


def inside(folder: Path | None, name: str) -> Path:
    """A file of the folder; NotFound for what is not there, or lies elsewhere."""
    if folder is not None and "\0" not in name:
        root = folder.resolve()
        path = (root / name).resolve()
        if path.is_relative_to(root) and path.is_file():
            return path
    raise NotFound(f"input.url: there is no file {name[:100]!r} to import")


async def _binary(stored: Stored, session: Session) -> AsyncIterator[bytes]:
    content = await session.content(stored)
    if content is not None:
        return await content.read()
    data = loads(stored.body).get("data", "")
    return _one(base64.b64decode(data))


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
    finally:
        file.close()


async def lines(content: AsyncIterator[bytes], longest: int) -> AsyncIterator[bytes | None]:
    """Lines of NDJSON, also of one that is gzipped; None for one that is longer than ``longest``.
    Unprocessable: the content is broken."""
    rest, skipped = b"", False
    async for piece in _unzipped(content):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield None if skipped or len(line) > longest else line
            skipped = False
        if len(rest) > longest:
            rest, skipped = b"", True
    if rest or skipped:
        yield None if skipped else rest


async def _unzipped(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What begins as gzip is unpacked, all its members, as whoever appends leaves them, and
    without zeros that fill a block."""
    stream: Any = None
    first = True
    async for piece in content:
        if first and piece[:2] == _GZIP:
            stream = _gunzip()
        first = False
        if stream is None:
            yield piece
            continue
        while piece := piece.lstrip(b"\0") if stream.eof else piece:
            if stream.eof:
                stream = _gunzip()
            try:
                yield stream.decompress(piece, PIECE)
            except zlib.error:
                raise Unprocessable("the content is not gzip") from None
            piece = stream.unused_data if stream.eof else stream.unconsumed_tail
    if stream is not None and not stream.eof:
        raise Unprocessable("the content ends too early")


def _gunzip() -> Any:
    return zlib.decompressobj(zlib.MAX_WBITS | 16)
