"""Patient/$match: who is this, among the patients that the caller may see?

https://hl7.org/fhir/R4/patient-operation-match.html

Candidates come from searches by blocking keys (``matching/person.py``), narrow ones first, so
that the type is never scanned; each is weighed against the Patient given
(``matching/weights.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final, NamedTuple

from fhir_server.access.session import Session
from fhir_server.formats.json import dumps, loads
from fhir_server.model.exchange import Json, Response
from fhir_server.model.problem import BadRequest, Issue, outcome
from fhir_server.model.resource import Stored
from fhir_server.search.plan import FALSE, Any, Predicate, Scan, Search, TokenIs

from .matching.person import (
    INDEX,
    Person,
    born_keys,
    pair_keys,
    person,
    skeletons,
    strong_keys,
)
from .matching.spelling import CONSONANTS
from .matching.weights import Comparison, compare
from .parameters import Arguments, Parameter
from .registry import Invocation, Operation
from .searchset import Searchsets

GRADE: Final = "http://hl7.org/fhir/StructureDefinition/match-grade"
BLOCK: Final = 300
"""Candidates that one search brings; of more the newest."""
MOST_KEYS: Final = 500
MOST: Final = 50
"""Matches in an answer without ``count``."""


class Match(NamedTuple):
    stored: Stored
    found: Comparison


async def candidates(session: Session, one: Person) -> tuple[list[Stored], bool]:
    """Those worth weighing, and whether some were left out."""
    found: dict[str, Stored] = {}
    cut = False
    for where in blocks(one):
        page = await session.search(Search((Scan("Patient", where),), count=BLOCK, total="none"))
        found.update((stored.key.id, stored) for stored in page.matches)
        cut = cut or page.next is not None
    return list(found.values()), cut


def blocks(one: Person) -> Iterator[Predicate]:
    """Identifiers and contacts; name and birth date; name; name with a slip."""
    bones = skeletons(one)
    found = (strong_keys(one), born_keys(one), pair_keys(bones), _slips(bones))
    for keys in found:
        where = Any(tuple(TokenIs(INDEX, "", key) for key in dict.fromkeys(keys)))
        if where != FALSE:
            yield where


def _slips(bones: list[str]) -> Iterator[str]:
    """Two words of the name, one of them with a wrong consonant."""
    for one, other in ((a, b) for a in bones[:2] for b in bones[:2] if a != b):
        for wrong in variants(one):
            yield from pair_keys((wrong, other))


def variants(bones: str) -> Iterator[str]:
    """Skeletons one slip away: a letter left out, added, replaced or exchanged."""
    for at in range(len(bones) + 1):
        head, tail = bones[:at], bones[at:]
        if tail and len(bones) > 1:
            yield head + tail[1:]
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]
        for letter in CONSONANTS:
            yield (head + letter + tail)[:8]
            if tail:
                yield head + letter + tail[1:]
        if not at:
            yield "A" + bones


def ranked(one: Person, stored: Iterable[Stored]) -> list[Match]:
    """The matches, likeliest first."""
    found = [Match(row, compare(one, person(loads(row.body)))) for row in stored]
    matches = [match for match in found if match.found.grade]
    return sorted(matches, key=lambda m: (-m.found.weight, m.stored.key.id))


def match(sets: Searchsets) -> Operation:
    """The row."""

    async def handle(arguments: Arguments, session: Session, call: Invocation) -> Response:
        one = person(_patient(arguments.one("resource")))
        if not one.telling:
            raise BadRequest(
                "there is nothing to match by: give a name, an identifier or a contact",
                code="required",
            )
        if len(one.identifiers) + len(one.contacts) > MOST_KEYS:
            raise BadRequest(f"more than {MOST_KEYS} identifiers and contacts", code="too-costly")
        session.allow("s", "Patient")
        stored, cut = await candidates(session, one)
        matches = ranked(one, stored)
        issues = [Issue("too-costly", _MANY, severity="warning")] if cut else []
        if arguments.one("onlyCertainMatches", False):
            certain = [m for m in matches if m.found.grade == "certain"]
            if len(certain) > 1:
                issues.append(Issue("multiple-matches", _SEVERAL, severity="information"))
            matches = certain if len(certain) == 1 else []
        shown = matches[: arguments.one("count", MOST)]
        entries = [_entry(call.base, m) for m in shown]
        if issues:
            entries.append(dumps({"resource": outcome(issues), "search": {"mode": "outcome"}}))
        links = [("self", f"{call.base}/Patient/$match")]
        body = sets.bundle("searchset", entries, total=len(shown), links=links)
        return Response(200, body)

    return Operation(
        code="match",
        levels=frozenset(("type",)),
        types=("Patient",),
        affects_state=False,
        inputs=_INPUTS,
        outputs=(Parameter("return", "Bundle", "Matches, likeliest first, with scores", min=1),),
        scope="user/Patient.s",
        description="Finds the records of a person by name, birth date, identifiers and more, "
        "across scripts, transliterations and slips.",
        example="POST /Patient/$match",
        handler=handle,
        body="resource",
    )


_INPUTS: Final = (
    Parameter("resource", "Resource", "The Patient to find; it need not be complete", min=1),
    Parameter("onlyCertainMatches", "boolean", "Only a single, certain match; default false"),
    Parameter("count", "positiveInt", "At most so many matches"),
)
_MANY: Final = "more patients bear this name than are compared: give a birth date or an identifier"
_SEVERAL: Final = "several records are certain matches, so none is returned"


def _patient(resource: Json) -> Json:
    if resource.get("resourceType") != "Patient":
        raise BadRequest("resource is not a Patient", code="value", expression="resource")
    return resource


def _entry(base: str, match: Match) -> bytes:
    """Spliced from the stored bytes."""
    full_url = dumps(f"{base}/{match.stored.key}")
    search = {
        "extension": [{"url": GRADE, "valueCode": match.found.grade}],
        "mode": "match",
        "score": Decimal(str(match.found.score)),
    }
    pieces = (b'{"fullUrl":', full_url, b',"resource":', match.stored.body, b',"search":')
    return b"".join((*pieces, dumps(search), b"}"))
