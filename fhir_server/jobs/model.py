"""A job: one piece of work that outlives its request, and everything that is known of it.

Jobs are values; every step of a job's life is a function from one to the next, and only
the compare-and-set of the ledger makes a step true (``queue.py``). Times are microseconds
since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import msgspec

from fhir_server.access.principal import Principal
from fhir_server.model.exchange import Json

State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED: Final = frozenset({"done", "failed", "cancelled"})

SECOND: Final = 1_000_000
REQUEST: Final = "request.json"
"""The file of ``Asked.body``, kept until the job has ended."""

RESPONSE: Final = "response"
"""The file of a recorded response; it is shown inside the status answer."""

ASIDE: Final = ".aside"
"""Ends the names of files that the job keeps for itself."""

PROGRESS_LENGTH: Final = 99
"""X-Progress has less than 100 characters
(https://hl7.org/fhir/uv/bulkdata/export.html#response---in-progress-status)."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who started a job, as far as it decides who sees it.

    ``patient``: the patient in context. ``scopes``: what the job could reach; a reader has
    the same or more.
    """

    id: str
    client: str = ""
    patient: str = ""
    scopes: tuple[str, ...] = ()

    @classmethod
    def of(cls, principal: Principal) -> Owner:
        scopes = [
            f"{s.context}/{s.type}.{s.letters}" + "".join(f"?{n}={v}" for n, v in s.filters)
            for s in principal.scopes
        ]
        patient = principal.patient or ""
        return cls(principal.id, principal.client, patient, tuple(sorted(scopes)))

    @property
    def place(self) -> tuple[str, str, str]:
        """What jobs are counted by."""
        return self.id, self.client, self.patient

    def may_see(self, other: Owner) -> bool:
        """Is a job of ``other`` one of this owner's?"""
        return self.place == other.place and set(other.scopes) <= set(self.scopes)


@dataclass(frozen=True, slots=True)
class Progress:
    """``done`` of ``total`` steps (total None: not known) and a text for people."""

    done: int = 0
    total: int | None = None
    text: str = ""

    @property
    def header(self) -> str:
        """One line of printable ASCII, below 100 characters."""
        count = str(self.done) if self.total is None else f"{self.done}/{self.total}"
        line = f"{count} {self.text}".rstrip() if self.done or self.total else self.text
        plain = "".join(c if " " <= c <= "~" else "?" for c in line)
        return plain[:PROGRESS_LENGTH].rstrip()

    @property
    def complete(self) -> bool:
        return self.total is None or self.done >= self.total


@dataclass(frozen=True, slots=True)
class Lease:
    """Whose job this is until when. ``holder`` is a new random name for every claim."""

    holder: str
    until: int


@dataclass(frozen=True, slots=True)
class JobFile:
    """A file of a job: ``name`` is what clients see, ``stored`` what the folder holds."""

    name: str
    stored: str
    size: int
    content_type: str = "application/fhir+ndjson"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed: an HTTP status and an OperationOutcome."""

    status: int
    outcome: Json


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants done. ``request``: what the body needs (small JSON without secrets
    and without decimals, which the ledger does not keep).

    ``base``: of the FHIR face. ``grant``: by which the Session is made again when the job
    runs; empty for the server's own work and for an open server. ``body``: a resource too
    large for the ledger; it becomes the file ``request.json``. ``purpose``: why the data is
    wanted (v3-ActReason), "" as the role has it.
    """

    kind: str
    owner: Owner
    base: str
    request: Json
    grant: str = ""
    body: bytes | None = None
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """``checkpoint``: where a new holder goes on. ``result``: what the body answered.

    ``attempts``: claims that did not end in an orderly hand-back. ``cancel``: somebody wants
    it stopped; ``removed``: its owner deleted it and nobody sees it any more. ``expires``:
    when an ended job is forgotten, its files with it.
    """

    id: str
    kind: str
    owner: Owner
    base: str
    request: Json
    created: int
    expires: int
    grant: str = ""
    state: State = "queued"
    progress: Progress = Progress()
    checkpoint: Json | None = None
    files: tuple[JobFile, ...] = ()
    result: Json | None = None
    failure: Failure | None = None
    started: int | None = None
    finished: int | None = None
    updated: int = 0
    lease: Lease | None = None
    attempts: int = 0
    cancel: bool = False
    removed: bool = False
    purpose: str = ""

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def url(self) -> str:
        """The status URL: https://hl7.org/fhir/R4/async.html#3.1.6.3"""
        return status_url(self.base, self.id)

    def file(self, name: str) -> JobFile | None:
        return next((file for file in self.files if file.name == name), None)

    @property
    def shown(self) -> tuple[JobFile, ...]:
        """The files that the owner may fetch."""
        hidden = (REQUEST, RESPONSE)
        return tuple(f for f in self.files if f.name not in hidden and not f.name.endswith(ASIDE))

    def held_by(self, holder: str) -> bool:
        return self.lease is not None and self.lease.holder == holder

    def free(self, now: int) -> bool:
        """May a runner take it?"""
        return not self.ended and (self.lease is None or self.lease.until <= now)

    def taken(self, holder: str, until: int, now: int) -> Job:
        return replace(
            self,
            state="running",
            lease=Lease(holder, until),
            started=self.started or now,
            attempts=self.attempts + 1,
            updated=now,
        )

    def handed_back(self, now: int) -> Job:
        """In the queue again, to go on from the checkpoint; the attempt does not count."""
        attempts = max(0, self.attempts - 1)
        return replace(self, state="queued", lease=None, attempts=attempts, updated=now)

    def end(self, state: State, now: int, expires: int, failure: Failure | None = None) -> Job:
        """The end of a job; once cancelling was asked for, it ends cancelled."""
        if self.cancel:
            state, failure = "cancelled", None
        keep = tuple(f for f in self.files if f.name != REQUEST) if state == "done" else ()
        return replace(
            self,
            state=state,
            failure=failure,
            result=self.result if state == "done" else None,
            files=keep,
            checkpoint=None,
            lease=None,
            finished=now,
            updated=now,
            expires=expires,
        )


def status_url(base: str, id_: str) -> str:
    return f"{base}/_async/{id_}"


def encode(job: Job) -> Json:
    """The job as the value of a ledger row."""
    value: Json = msgspec.to_builtins(job)
    return value


def decode(value: Mapping[str, Any]) -> Job:
    return msgspec.convert(value, Job, strict=False)


@dataclass(frozen=True, slots=True)
class JobRules:
    """How jobs are run. ``lease``, ``retention``, ``idle``: seconds.

    A holder that is silent for ``lease`` loses its job to another; ``attempts``: claims
    after which a job that never ends is failed; ``per_owner``: unfinished jobs of one owner;
    ``retention``: how long ended jobs stay; ``idle``: how long an unfinished job is kept
    while nobody works on it.
    """

    lease: float = 30
    attempts: int = 5
    per_owner: int = 5
    retention: float = 86_400
    idle: float = 7 * 86_400
    throttle: tuple[float, float] = field(default=(10, 1))
    """Polls of an unfinished job: at once, then per second."""
