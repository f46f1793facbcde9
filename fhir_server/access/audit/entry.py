"""What is recorded of a request: ids and codes, the request as it was asked, never an answer.

The elements are those of IHE BALP (https://profiles.ihe.net/ITI/BALP/); ``events.py`` makes
AuditEvents of them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from fhir_server.model.exchange import Request

_REFERENCES: Final = re.compile(
    rb'"(?:reference|fullUrl|location)":"(?:[^"]*/)?Patient/([A-Za-z0-9\-.]{1,64})'
)
_SECRET: Final = re.compile(rb"((?:token|secret|assertion|password)=)[^&]*", re.IGNORECASE)
_REFERENCE: Final = re.compile(r"(?:.*/)?Patient/([A-Za-z0-9\-.]{1,64})")
_URL: Final = re.compile(
    rb"/Patient/([A-Za-z0-9\-.]{1,64})"
    rb"|[?&](?:patient|subject)(?::Patient)?=(?:Patient(?:/|%2F))?([A-Za-z0-9\-.]{1,64})",
    re.IGNORECASE,
)
FAILED: Final = 400
"""From this status on a request has failed."""
_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_PURPOSE: Final = re.compile(
    r"(?:http://terminology\.hl7\.org/CodeSystem/v3-ActReason\|)?([A-Z]{1,20})"
)


class Decision(msgspec.Struct, frozen=True, omit_defaults=True, array_like=True):
    """A decision on consent, taken for a request. ``consents``: id and version of those that
    were looked at. ``rule``: which part of them decided. ``outcome``: permit or deny.
    ``token``: the id of the token that asked (``jti``). ``private``: for who audits alone, because
    what it is about may be kept from the patients themselves or those who act for them.
    """

    patient: str
    outcome: str
    rule: str
    reason: str = ""
    purpose: str = ""
    token: str = ""
    consents: tuple[tuple[str, int], ...] = ()
    private: bool = False


Later = Callable[[], Awaitable[list[Decision]]]
"""Why something was not found: the decisions against it; none if it was never there."""
DECIDED: Final = "consent-decision"
"""The interaction of a line that holds nothing but decisions."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request, or one event of the server. ``at``: microseconds since the epoch, when it was
    answered.

    ``url``: path and query below the base as they came, ``form``: the parameters of a search by
    form; both without secrets, base64 in JSON. ``grant``: the end of the hash of the token.
    ``what``: ``Type/id`` or ``Type/id/_history/version`` of the one resource that it is about.
    ``patients``: ids of those whose data it named or was answered with. ``writes``: rows of
    the ledger (kind ``audit``) that committed with its writes, each with its SHA-256. ``why``: a
    failure, by its issue code; of a refusal also the reason. ``job``: it ran as one, later.
    ``person``: the user's own resource (``Type/id``). ``target``: what an act of administration
    was about (``user/anna``). ``decisions``: on consent, taken for it.
    """

    at: int
    request: str
    interaction: str
    method: str
    status: int
    url: bytes = b""
    form: bytes = b""
    client: str = ""
    user: str = ""
    role: str = ""
    grant: str = ""
    purpose: str = ""
    peer: str = ""
    what: str = ""
    patients: tuple[str, ...] = ()
    writes: tuple[tuple[str, str], ...] = ()
    why: str = ""
    job: bool = False
    person: str = ""
    target: str = ""
    decisions: tuple[Decision, ...] = ()

    @property
    def refused(self) -> bool:
        return self.status >= FAILED


@dataclass(slots=True)
class Recording:
    """What gathers while a request is served. ``name``: the beginning of the keys of its rows in
    the ledger, which nothing else has; ``rows``: how many there are. ``later``: what is only
    worked out after the answer.
    """

    name: str
    request: str
    rows: int = 0
    patients: set[str] = field(default_factory=set)
    what: list[str] = field(default_factory=list)
    writes: list[tuple[str, str]] = field(default_factory=list)
    decisions: dict[Decision, None] = field(default_factory=dict)
    later: list[Later] = field(default_factory=list)


def decided(entry: Entry, decisions: tuple[Decision, ...]) -> Entry:
    """The line of decisions that were taken for the request of another line."""
    return msgspec.structs.replace(
        entry, interaction=DECIDED, patients=(), writes=(), why="", decisions=decisions
    )


def named_in(body: bytes) -> set[str]:
    """Ids of the patients that stored or answered JSON names."""
    if b"Patient/" not in body:
        return set()
    return {id_.decode() for id_ in _REFERENCES.findall(body)}


def asked_about(request: Request) -> set[str]:
    """Ids of the patients that a request names: in its path, or in its query."""
    path = request.path
    found = {path[1]} if len(path) > 1 and path[0] == "Patient" else set()
    for name, value in request.query:
        if name == "patient" or (name == "_id" and path[:1] == ("Patient",)):
            found.update(filter(_ID.fullmatch, value.split(",")))
        if "Patient/" in value:
            matches = map(_REFERENCE.fullmatch, value.split(","))
            found.update(match[1] for match in matches if match)
    return found


def named_by(url: bytes) -> set[str]:
    """Ids of the patients that a URL names, of a request that was not read further."""
    return {(one or other).decode() for one, other in _URL.findall(url)}


def clean(query: bytes) -> bytes:
    """A query without the values of parameters that are secrets elsewhere."""
    return _SECRET.sub(rb"\1...", query) if b"=" in query else query


def purpose_of_use(header: str | None) -> str:
    """The code (v3-ActReason) of the X-Purpose-Of-Use header; empty if it is not one."""
    found = _PURPOSE.fullmatch(header.strip()) if header else None
    return found[1] if found else ""


def ordered(patients: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(patients))
