"""Observation/$lastn: the newest Observations of each code.

https://hl7.org/fhir/R4/observation-operation-lastn.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json, Response
from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Stored
from fhir_server.search.link import query_string
from fhir_server.search.results import RESULTS

from .observed import codings, effective
from .parameters import Arguments, Parameter
from .registry import Invocation, Operation
from .searchset import Searchsets, every

Label = tuple[str, ...]
"""One name of a group: (system, code), or (text,) where there is no coding."""

SUBJECTS: Final = ("patient", "subject")
CHOOSING: Final = ("category", "code", "combo-code", "component-code")
"""One of these, or a composite with a code (``code-value-quantity``), is required."""


def lastn(sets: Searchsets) -> Operation:
    """The row."""

    async def handle(arguments: Arguments, session: Session, call: Invocation) -> Response:
        _check(arguments.criteria)
        most = arguments.one("max", 1)
        parsed = await sets.parse("Observation", arguments.criteria)
        (scan,) = parsed.search.scans
        found = newest(await every(session, scan), most)
        base = call.base.encode()
        entries = [sets.entry(base, stored, b"match") for stored in found]
        asked = [("max", str(value)) for value in arguments.all("max")]
        criteria = [pair for pair in parsed.applied if pair[0] not in RESULTS]
        applied = query_string([*asked, *criteria])
        links = [("self", f"{call.base}/Observation/$lastn?{applied}")]
        return Response(200, sets.bundle("searchset", entries, total=len(found), links=links))

    return Operation(
        code="lastn",
        levels=frozenset(("type",)),
        types=("Observation",),
        affects_state=False,
        inputs=(Parameter("max", "positiveInt", "Observations of each code; default 1"),),
        outputs=(Parameter("return", "Bundle", "A searchset, newest first", min=1),),
        scope="patient/Observation.s",
        description="The newest Observations of each code, of those that a search finds.",
        example="GET /Observation/$lastn?patient=Patient/example&category=laboratory",
        handler=handle,
        searches=True,
    )


def _check(criteria: Iterable[tuple[str, str]]) -> None:
    """What the specification requires, and what has no place here. Raises BadRequest."""
    heads = [name.partition(".")[0].partition(":") for name, _ in criteria]
    for code, _, _ in heads:
        if code in RESULTS:
            raise BadRequest(f"{code}: is not supported by $lastn", code="not-supported")
    if not any(code in SUBJECTS and mode not in ("missing", "not") for code, _, mode in heads):
        raise BadRequest("patient or subject is required", code="required")
    if not any(code in CHOOSING or "code-value" in code for code, _, _ in heads):
        raise BadRequest("category or a parameter with a code is required", code="required")


def newest(observations: Sequence[Stored], most: int) -> list[Stored]:
    """The ``most`` newest of each subject and code, newest first; ties are all kept."""
    rows = [(stored, loads(stored.body)) for stored in observations]
    group_of = grouped([labels(resource.get("code", {})) for _, resource in rows])
    dated = [(effective(resource), stored) for stored, resource in rows]
    groups: dict[tuple[str, int], list[int]] = {}
    for number in sorted(range(len(rows)), key=lambda n: -dated[n][0]):
        subject = rows[number][1].get("subject", {}).get("reference", "")
        groups.setdefault((subject, group_of[number]), []).append(number)
    kept: list[int] = []
    for numbers in groups.values():
        last = dated[numbers[min(most, len(numbers)) - 1]][0]
        kept += [n for n in numbers if dated[n][0] >= last]
    return [dated[n][1] for n in sorted(kept, key=lambda n: (-dated[n][0], n))]


def labels(concept: Json) -> list[Label]:
    """The names of a CodeableConcept."""
    found: list[Label] = [*codings(concept)]
    if not found and "text" in concept:
        found.append((concept["text"],))
    return found


def grouped(named: Sequence[Sequence[Label]]) -> list[int]:
    """The group of each: what shares a label is one group, and transitively so."""
    parent = list(range(len(named)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    first: dict[Label, int] = {}
    for number, names in enumerate(named):
        for name in names:
            parent[root(number)] = root(first.setdefault(name, number))
    return [root(number) for number in range(len(named))]
