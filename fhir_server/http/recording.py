"""What of a request goes into the audit trail, before it is answered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec

from fhir_server.access.audit.entry import (
    FAILED,
    Decision,
    Entry,
    Recording,
    asked_about,
    clean,
    named_by,
    named_in,
    ordered,
    purpose_of_use,
)
from fhir_server.access.audit.log import AuditLog
from fhir_server.access.consent.policy import ConsentPolicy
from fhir_server.access.policy import Policy
from fhir_server.access.principal import Principal
from fhir_server.access.session import Session
from fhir_server.http.middleware import HEADERS, REQUEST_ID
from fhir_server.http.respond import Scope, rendered
from fhir_server.http.routes import Route
from fhir_server.interactions.ports import Handler
from fhir_server.jobs.context import Body, JobContext
from fhir_server.model.exchange import Request, Response
from fhir_server.model.fresh import micros
from fhir_server.model.problem import Forbidden, Problem, ServerError, Unauthorized, Unavailable

UNANSWERED: Final = Response(503)
"""What is recorded of a request whose client, or server, went away."""
NOBODY: Final = Principal("")
OVERLAP: Final = 512
"""Bytes of a stream that are looked at with what follows: longer than any reference."""
TAIL: Final = 32
"""Characters of the hash of a token that are recorded."""
LONGEST: Final = 2048
"""Bytes of a URL or form that are recorded."""


@dataclass(slots=True)
class Seen:
    """What is known of a request so far. ``said``: its answer in JSON, whatever is sent."""

    recording: Recording
    principal: Principal = NOBODY
    policy: Policy | None = None
    request: Request | None = None
    answer: Response | None = None
    said: bytes = b""
    problem: Problem | None = None

    def answered(self, answer: Response) -> None:
        """Before it is put into another form."""
        self.answer = answer
        self.said = answer.body if isinstance(answer.body, bytes) else b""

    def by(self, session: Session) -> Session:
        """The Session with which it goes on."""
        self.principal, self.policy = session.principal, session.policy
        return session.recorded(self.recording)


class Recorder:
    """Of one FHIR base. ``audit`` None: it is open to everybody, and nothing is recorded."""

    def __init__(self, audit: AuditLog | None) -> None:
        self._audit = audit

    def begin(self, scope: Scope) -> Seen | None:
        """Unavailable if the request could not be recorded."""
        return Seen(self._audit.begin(scope[REQUEST_ID])) if self._audit is not None else None

    def line(self, seen: Seen, route: Route | None, scope: Scope, status: int) -> Entry:
        """What is recorded of a request that has got this answer."""
        peer, url = scope.get("client"), scope["raw_path"]
        if scope["query_string"]:
            url += b"?" + scope["query_string"]
        return entry(
            seen,
            route.interaction if route is not None else "unknown",
            status,
            method=scope["method"],
            url=clean(url)[:LONGEST],
            peer=peer[0] if peer else "",
            purpose=purpose_of_use(scope[HEADERS].get("x-purpose-of-use")),
        )

    def end(
        self, seen: Seen | None, route: Route | None, scope: Scope, answer: Response
    ) -> Response:
        """The answer, once it is recorded; if it cannot be, the problem in its place."""
        if seen is None or self._audit is None:
            return answer
        line = self.line(seen, route, scope, answer.status)
        try:
            self._audit.write(line, seen.recording.later)
        except Unavailable as problem:
            return rendered(problem)
        if not isinstance(answer.body, bytes):
            answer.body = _followed(answer.body, seen.recording, line, self._audit)
        return answer


async def _followed(
    stream: AsyncIterator[bytes], recording: Recording, line: Entry, audit: AuditLog
) -> AsyncIterator[bytes]:
    """A stream, and a further line for the patients of what came after the first one."""
    try:
        async for chunk in stream:
            yield chunk
    finally:
        more = recording.patients.difference(line.patients)
        if more:
            later = {"patients": ordered(more), "writes": (), "decisions": (), "at": micros()}
            audit.write(msgspec.structs.replace(line, **later), [])


def entry(seen: Seen, interaction: str, status: int, **about: Any) -> Entry:
    """The line of a request, as far as it has come. ``about``: what else ``Entry`` holds."""
    recording, principal, request = seen.recording, seen.principal, seen.request
    patients, what, form = recording.patients, "", b""
    if request is None:
        patients |= named_by(about.get("url", b""))
    else:
        patients |= asked_about(request)
        what = _what(request, interaction, seen.answer)
        if interaction.startswith("search") and request.method == "POST":
            form = clean(urlencode(request.query).encode())[:LONGEST]
    patients |= named_in(seen.said)
    if len(recording.what) == 1:
        what = recording.what[0]
    standing = principal.standing
    return Entry(
        at=micros(),
        request=recording.request,
        interaction=interaction,
        status=status,
        form=form,
        client=principal.client,
        user=principal.user,
        role=standing.role if standing is not None else "",
        grant=principal.grant[-TAIL:],
        what=what,
        patients=ordered(patients),
        writes=tuple(recording.writes),
        why=_why(seen.problem) if seen.problem is not None else "",
        person=standing.fhir_user if standing is not None else "",
        decisions=_decisions(seen, interaction, status),
        **about,
    )


def _decisions(seen: Seen, interaction: str, status: int) -> tuple[Decision, ...]:
    """Those that were noted, and how consents took part in the answer, per patient of the line."""
    policy, recording = seen.policy, seen.recording
    if status >= FAILED or not isinstance(policy, ConsentPolicy):
        return tuple(recording.decisions)
    letter, patients = _LETTERS.get(interaction, "r"), ordered(recording.patients)
    return (*recording.decisions, *policy.decisions(letter, patients))


_LETTERS: Final = {
    **dict.fromkeys(("update", "conditional-update", "patch", "conditional-patch"), "u"),
    **dict.fromkeys(("delete", "conditional-delete"), "d"),
}


def _what(request: Request, interaction: str, answer: Response | None) -> str:
    """The one resource that a request is about, as far as its URL and answer tell."""
    path = request.path
    if len(path) < 2 or interaction.startswith("search"):
        return ""
    if interaction in _VERSIONED and len(path) == 3:
        return f"{path[0]}/{path[1]}/_history/{path[2]}"
    etag = answer.headers.get("ETag", "") if answer is not None else ""
    version = etag[3:-1] if etag.startswith('W/"') else ""
    place = f"{path[0]}/{path[1]}"
    return f"{place}/_history/{version}" if version and interaction in _WITH_ETAG else place


_VERSIONED: Final = frozenset({"vread", "vread-binary"})
_WITH_ETAG: Final = frozenset({"read", "read-binary"})


def _why(problem: Problem) -> str:
    """The code of a failure; the text of a refusal, which is made of metadata alone."""
    code = problem.issues[0].code
    refused = isinstance(problem, Forbidden | Unauthorized)
    return f"{code}: {problem}" if refused else code


def replayed(
    handler_of: Callable[[str], Handler], audit: AuditLog | None
) -> Callable[[str], Handler]:
    """Handlers for jobs: what they answer is recorded before the job has ended."""
    if audit is None:
        return handler_of

    def recorded(interaction: str) -> Handler:
        handler = handler_of(interaction)

        async def handle(request: Request, session: Session) -> Response:
            seen = Seen(audit.begin(request.request_id), request=request)
            session = seen.by(session)

            def write(status: int) -> None:
                about = {"method": request.method, "url": _again(request), "job": True}
                audit.write(entry(seen, interaction, status, **about), seen.recording.later)

            try:
                answer = await handler(request, session)
            except Problem as problem:
                seen.problem = problem
                write(problem.status)
                raise
            except BaseException:
                seen.problem = ServerError()
                write(500)
                raise
            seen.answered(answer)
            if isinstance(answer.body, bytes):
                write(answer.status)
            else:
                answer.body = _watched(answer.body, seen.recording, lambda: write(answer.status))
            return answer

        return handle

    return recorded


def _again(request: Request) -> bytes:
    """The URL of a request that is replayed, as far as it is kept: captured path and query."""
    path = "/".join(["/fhir", *request.path])
    query = urlencode(request.query)
    return clean(f"{path}?{query}".encode())[:LONGEST] if query else path.encode()


async def _watched(
    stream: AsyncIterator[bytes], recording: Recording, ended: Callable[[], None]
) -> AsyncIterator[bytes]:
    """A stream whose patients are noted; ``ended`` before its end is told."""
    before = b""
    try:
        async for chunk in stream:
            both = before + chunk
            recording.patients |= named_in(both)
            before = both[-OVERLAP:]
            yield chunk
    finally:
        ended()


def recorded_work(work: Mapping[str, Body], audit: AuditLog | None) -> Mapping[str, Body]:
    """Bodies of jobs, by kind: whom they concern, and what they write, is recorded."""
    if audit is None:
        return work
    return {kind: _recorded(body, audit) for kind, body in work.items()}


def _recorded(body: Body, audit: AuditLog) -> Body:
    async def run(job: JobContext) -> None:
        told = _Told(job, audit)
        job.recording, job.tell = told.seen.recording, told.so_far
        status = 200
        try:
            await body(job)
        except Problem as problem:
            told.seen.problem, status = problem, problem.status
            raise
        except BaseException:
            told.seen.problem, status = ServerError(), 500
            raise
        finally:
            told.ended(status)

    return run


class _Told:
    """What of a job is in the trail: each patient in one of its lines."""

    def __init__(self, job: JobContext, audit: AuditLog) -> None:
        self.seen = Seen(audit.begin(job.job.id), job.session.principal, job.session.policy)
        self._job, self._audit = job, audit
        self._patients: set[str] = set()
        self._lines = 0

    def so_far(self) -> None:
        """A line of those who are in none yet, and of what was written since, if there are any."""
        recording = self.seen.recording
        recording.patients -= self._patients
        if recording.patients or recording.writes:
            self._line(200)

    def ended(self, status: int) -> None:
        """The rest, and how it ended."""
        recording = self.seen.recording
        recording.patients -= self._patients
        if recording.patients or recording.writes or status != 200 or not self._lines:
            self._line(status)

    def _line(self, status: int) -> None:
        job, recording = self._job, self.seen.recording
        self.seen.policy = job.session.policy
        about = {"method": "POST", "url": _kicked_off(job), "purpose": job.job.purpose}
        line = entry(self.seen, "operation", status, job=True, **about)
        self._audit.write(msgspec.structs.replace(line, form=clean(job.asked)[:LONGEST]))
        self._lines += 1
        self._patients |= recording.patients
        recording.patients.clear()
        recording.writes.clear()
        recording.what.clear()
        recording.decisions.clear()


def _kicked_off(job: JobContext) -> bytes:
    """Path and query of the request that began it."""
    url = urlsplit(job.request.get("url", ""))
    return clean(f"{url.path}?{url.query}".encode() if url.query else url.path.encode())[:LONGEST]
