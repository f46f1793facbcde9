"""Two servers: one holds everything, its twin never held what the patient hides.

P1 permits D all but HIV, substance use and psychiatry; D treats P1 and P2. Hidden: the HIV
Observation h1, the Condition h2, the DocumentReference h3 with its Binary b3, the Encounter h4.
The twin holds the rest, with what is said of the hidden left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.consent.bricks import (
    LOINC,
    NARRATIVE,
    REASONS,
    SENSITIVITY,
    SNOMED,
    Json,
    coded,
    consent,
    observation,
    to,
)
from tests.consent.plain import Plain
from tests.consent.richer import late_hidden, more_hidden, more_visible
from tests.serving import Server, served

__all__ = [
    "LOINC",
    "NARRATIVE",
    "REASONS",
    "SENSITIVITY",
    "SNOMED",
    "Json",
    "Twin",
    "coded",
    "comparable",
    "consent",
    "observation",
    "to",
    "twins",
]

LONG = 600
"""Minutes: a long run on a busy machine is no proof once its tokens have expired."""
BEFORE = 4
"""So many of the visible resources are there before the hidden ones."""


def visible(*, masked: bool) -> Iterable[Json]:
    """What D sees; ``masked``: without what it says of the hidden."""

    def only_if_whole(**members: Any) -> Json:
        return {} if masked else members

    for number in (1, 2):
        yield {
            "resourceType": "Patient",
            "id": f"p{number}",
            "name": [{"family": f"Family{number}"}],
            "birthDate": f"198{number}-01-02",
        }
    yield {"resourceType": "Practitioner", "id": "d", "name": [{"family": "Doc"}]}
    yield {"resourceType": "Organization", "id": "z", "name": "Clinic"}
    yield {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": to("Patient/p1"),
    }
    yield observation("v2", "2093-3", 6, "02", encounter=to("Encounter/e1"))
    yield observation("v3", "718-7", 9, "03", **only_if_whole(hasMember=[to("Observation/h1")]))
    yield observation(
        "v4",
        "2160-0",
        1,
        "04",
        **only_if_whole(
            contained=[{**observation("c", "25836-8", 5, "05"), "subject": to("Patient/p1")}],
            derivedFrom=[to("#c")],
        ),
    )
    results = [to("Observation/v2")]
    if not masked:
        results.insert(0, {**to("Observation/h1"), "display": "HIV RNA"})
    yield {
        "resourceType": "DiagnosticReport",
        "id": "v1",
        **only_if_whole(text=NARRATIVE),
        "status": "final",
        "code": coded(LOINC, "24331-1"),
        "subject": to("Patient/p1"),
        "result": results,
    }
    yield {
        "resourceType": "DiagnosticReport",
        "id": "v5",
        "status": "final",
        "code": coded(LOINC, "24331-1"),
        "subject": to("Patient/p1"),
        **only_if_whole(result=[to("Observation/h1")], text=NARRATIVE),
    }
    entries = [{"item": to("Observation/v2")}]
    if not masked:
        entries.append({"item": to("Condition/h2")})
    yield {
        "resourceType": "List",
        "id": "l",
        "status": "current",
        "mode": "working",
        "subject": to("Patient/p1"),
        "entry": entries,
    }
    yield {
        "resourceType": "Observation",
        "id": "o2",
        "status": "final",
        "code": coded(LOINC, "2093-3"),
        "subject": to("Patient/p2"),
        "effectiveDateTime": "2024-03-01",
        **only_if_whole(focus=[to("Condition/h2")]),
    }


def hidden() -> Iterable[Json]:
    """What nobody but P1 and the hospital sees."""
    yield {
        "resourceType": "Encounter",
        "id": "h4",
        "meta": {"security": [{"system": SENSITIVITY, "code": "PSY"}]},
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": to("Patient/p1"),
        "serviceProvider": to("Organization/z"),
    }
    yield observation("h1", "25836-8", 5, "06")
    yield {
        "resourceType": "Condition",
        "id": "h2",
        "code": coded(SNOMED, "7200002"),
        "subject": to("Patient/p1"),
        "encounter": to("Encounter/h4"),
    }
    yield {
        "resourceType": "DocumentReference",
        "id": "h3",
        "status": "current",
        "type": coded(LOINC, "34788-0"),
        "subject": to("Patient/p1"),
        "description": "zolpitest",
        "content": [{"attachment": {"url": "Binary/b3", "contentType": "text/plain"}}],
    }
    yield {
        "resourceType": "Binary",
        "id": "b3",
        "contentType": "text/plain",
        "securityContext": to("DocumentReference/h3"),
        "data": "em9scGl0ZXN0",
    }
    yield {
        "resourceType": "Provenance",
        "id": "hp",
        "target": [to("Observation/h1")],
        "recorded": "2024-03-06T00:00:00Z",
        "agent": [{"who": to("Practitioner/d")}],
    }


@contextmanager
def twins(backend: str, folder: Path) -> Iterator[tuple[Twin, Twin]]:
    """The server with everything, and the one that never held the hidden."""
    with (
        served(backend, folder / "a", open_=False) as whole,
        served(backend, folder / "b", open_=False) as without,
    ):
        yield Twin(whole, full=True), Twin(without, full=False)


class Twin:
    """One of the two, as D sees it."""

    def __init__(self, server: Server, *, full: bool) -> None:
        self.server = server
        self.full = full
        self.system = server.bearer("system/*.cruds", minutes=LONG)
        seen = [*visible(masked=not full), *more_visible(masked=not full)]
        for resource in seen[:BEFORE]:
            self.put(resource)
        for resource in (*more_hidden(), *hidden(), *late_hidden()) if full else ():
            self.put(resource)
        for resource in seen[BEFORE:]:
            self.put(resource)
        self.put(consent())
        server.user("d", "family-doctor", "Practitioner/d")
        server.user("p", "patient", "Patient/p1")
        for patient in ("p1", "p2"):
            server.relation("d", patient, 60.0 * LONG)
        self.doctor = server.bearer("user/*.cruds", user="d", minutes=LONG)
        self.patient = server.bearer("user/*.cruds", user="p", minutes=LONG)

    def put(self, resource: Json) -> None:
        url = f"{resource['resourceType']}/{resource['id']}"
        answer = self.server.put(url, resource, headers=self.system)
        assert answer.status_code in (200, 201), answer.text

    def ask(self, method: str, url: str, body: Json | None = None, **headers: str) -> Answer:
        """What D is answered, as far as it may be compared."""
        options: Json = {"headers": {**self.doctor, **headers}}
        if body is not None:
            options["json"] = body
        return comparable(self.server.send(method, url, **options))


Answer = tuple[int, dict[str, str], str]

_TIMES = re.compile(r"[12]\d\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:Z|[+-]\d\d:\d\d)")
_RANDOM = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CURSORS = re.compile(r"_cursor=[A-Za-z0-9_\-%]+")
_PASSED_OVER = frozenset({"date", "x-request-id", "last-modified", "content-length"})


def comparable(answer: httpx.Response | Plain) -> Answer:
    """Status, headers and body without what differs between any two servers: clocks, random ids,
    sealed cursors, of which the length is left."""
    headers = {n: v for n, v in answer.headers.items() if n.lower() not in _PASSED_OVER}
    text = _CURSORS.sub(lambda found: "*" * len(found[0]), _TIMES.sub("*", answer.text))
    ids: dict[str, str] = {}
    text = _RANDOM.sub(lambda found: ids.setdefault(found[0], f"random-{len(ids)}"), text)
    return answer.status_code, headers, text
