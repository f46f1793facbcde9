"""Observation/$stats: figures over the measurements of one subject.

https://hl7.org/fhir/R4/observation-operation-stats.html. All values of a code are converted to
the unit that most of them have. Percentiles are interpolated linearly between the two nearest
values; standard deviation, variance, skew and kurtosis are those of a sample.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, NamedTuple

from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model import ucum
from fhir_server.model.datatypes import SECOND, format_instant, parse_period
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Unprocessable
from fhir_server.model.resource import ID_PATTERN
from fhir_server.search.plan import (
    All,
    Any,
    DateIs,
    IdIn,
    Predicate,
    ReferenceIs,
    Scan,
    TokenIs,
)

from .observed import codings, effective
from .parameters import Arguments, Parameter
from .registry import Invocation, Operation
from .searchset import Searchsets, every
from .statistics import ALIASES, STATISTICS, SYSTEM

UCUM: Final = "http://unitsofmeasure.org"
ABSENT: Final = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
INVALID: Final = frozenset({"entered-in-error", "cancelled"})
MOST_SOURCES: Final = 1000
"""Source Observations in an answer without ``limit``."""

Code = tuple[str | None, str]
"""(system, code); system None: any."""


class Measured(NamedTuple):
    value: Decimal
    unit: str


@dataclass(slots=True)
class Group:
    """The measurements of one code. ``left_out``: those without a usable value."""

    concept: Json
    found: list[Measured] = field(default_factory=list)
    left_out: int = 0
    sources: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """``span``: (lo, hi) in microseconds, None for all time; ``period``: the same in words."""

    subject: tuple[str, str]
    codes: tuple[Code, ...]
    span: tuple[int, int] | None
    period: Json | None
    statistics: tuple[str, ...]


def stats(sets: Searchsets, base: str) -> Operation:
    """The row; ``base``: the own base URL."""

    async def handle(arguments: Arguments, session: Session, call: Invocation) -> Json:
        asked = _asked(arguments, base, call.now)
        groups = await _collect(sets, session, asked)
        parameters = [
            {"name": "statistics", "resource": _observation(group, asked)} for group in groups
        ]
        if arguments.one("include", False):
            sources = {key: row for group in groups for key, row in group.sources.items()}
            shown = list(sources.values())[: arguments.one("limit", MOST_SOURCES)]
            parameters += [{"name": "source", "resource": row} for row in shown]
        return {"resourceType": "Parameters", "parameter": parameters}

    return Operation(
        code="stats",
        levels=frozenset(("type",)),
        types=("Observation",),
        affects_state=False,
        inputs=_INPUTS,
        outputs=_OUTPUTS,
        scope="patient/Observation.s",
        description="Statistics over the numeric Observations of a subject.",
        example="GET /Observation/$stats?subject=Patient/example&system=http://loinc.org"
        "&code=8867-4&statistic=average",
        handler=handle,
    )


_INPUTS: Final = (
    Parameter("subject", "uri", "The subject of the Observations: Patient/123", min=1),
    Parameter("code", "string", "Codes of the measurements, with system", max=None),
    Parameter("system", "uri", "The system of code"),
    Parameter("coding", "Coding", "Codes of the measurements", max=None),
    Parameter("duration", "decimal", "Hours before now"),
    Parameter("period", "Period", "The time to look at, if there is no duration"),
    Parameter("statistic", "code", ", ".join(STATISTICS), min=1, max=None),
    Parameter("include", "boolean", "Also return the source Observations; default false"),
    Parameter("limit", "positiveInt", "At most so many source Observations"),
)
_OUTPUTS: Final = (
    Parameter("statistics", "Observation", "One for each code", min=1, max=None),
    Parameter("source", "Observation", "What the statistics are based on", max=None),
)


def _asked(arguments: Arguments, base: str, now: int) -> Asked:
    """Raises BadRequest for what is not understood or not supported."""
    subject = arguments.one("subject").removeprefix(f"{base}/")
    type_, _, id_ = subject.partition("/")
    if not re.fullmatch(r"[A-Z][A-Za-z]+", type_) or not ID_PATTERN.fullmatch(id_):
        raise BadRequest("subject is not a reference to a resource here", code="value")
    codes = [(arguments.one("system"), code) for code in arguments.all("code")]
    codes += [(c.get("system", ""), c.get("code", "")) for c in arguments.all("coding")]
    if not codes or not all(isinstance(code, str) and code for _, code in codes):
        raise BadRequest("code or coding is required", code="required")
    names = [name for value in arguments.all("statistic") for name in value.split(",")]
    wanted = tuple(dict.fromkeys(ALIASES.get(name, name) for name in names))
    for name in wanted:
        if name not in STATISTICS:
            known = ", ".join(STATISTICS)
            raise BadRequest(
                f"statistic {name[:64]!r} is not supported; known: {known}", code="not-supported"
            )
    period, span = _period(arguments, now)
    return Asked((type_, id_), tuple(dict.fromkeys(codes)), span, period, wanted)


def _period(arguments: Arguments, now: int) -> tuple[Json | None, tuple[int, int] | None]:
    hours, period = arguments.one("duration"), arguments.one("period")
    if hours is not None and period is not None:
        raise BadRequest("give duration or period, not both", code="invalid")
    if hours is not None:
        if not 0 < hours <= 10_000_000:
            raise BadRequest("duration is not a number of hours above 0", code="value")
        lo = now - int(hours * 3600 * SECOND)
        return {"start": format_instant(lo), "end": format_instant(now)}, (lo, now + 1)
    if period is None:
        return None, None
    try:
        span = parse_period(period.get("start"), period.get("end"))
    except (TypeError, ValueError) as error:
        raise Unprocessable(f"period: {error}", code="value") from error
    return period, span


async def _collect(sets: Searchsets, session: Session, asked: Asked) -> list[Group]:
    """One group for each code; for the code of a panel, one for each code in it."""
    rows = sets.schema.of("Observation").parameters
    names = [(index, code) for index in rows["combo-code"].indexes for code in asked.codes]
    about: list[Predicate] = [ReferenceIs(rows["subject"].index, *asked.subject)]
    if asked.span is not None:
        lo, hi = asked.span
        index = rows["date"].index
        about.append(All((DateIs(index, "ge", lo, lo), DateIs(index, "lt", hi, hi))))
    coded = Any(tuple(TokenIs(index, system, code) for index, (system, code) in names))
    found = [
        loads(stored.body)
        for stored in await every(session, Scan("Observation", All((*about, coded))))
    ]
    ids = {id_ for row in found if _is(row.get("code"), asked.codes) for id_ in _members(row)}
    ids -= {row["id"] for row in found}
    members: list[Json] = []
    if ids:
        scan = Scan("Observation", All((IdIn(tuple(sorted(ids))), *about)))
        members = [loads(stored.body) for stored in await every(session, scan)]
    return _grouped(asked.codes, found, members)


def _members(panel: Json) -> list[str]:
    found = (member.get("reference", "") for member in panel.get("hasMember", ()))
    return [text.removeprefix("Observation/") for text in found if text.startswith("Observation/")]


def _grouped(codes: Sequence[Code], found: Iterable[Json], members: Iterable[Json]) -> list[Group]:
    groups: dict[Code, Group] = {}
    panels = 0

    def add(key: Code, concept: Json, part: Json, row: Json) -> None:
        group = groups.setdefault(key, Group(concept))
        measured = _measured(part, row)
        if measured is None:
            group.left_out += 1
        else:
            group.found.append(measured)
            group.sources[row["id"]] = row

    for row in sorted(found, key=effective, reverse=True):
        if row.get("status") in INVALID:
            continue
        whole = _is(row.get("code"), codes)
        parts = row.get("component", [])
        if whole is not None and ("valueQuantity" in row or not (parts or row.get("hasMember"))):
            add(whole, _concept(whole, row["code"]), row, row)
        elif whole is not None:
            panels += 1
        for part in parts:
            key = _is(part.get("code"), codes) or (whole and _first(part.get("code")))
            if key:
                add(key, _concept(key, part["code"]), part, row)
    for row in members:
        key = _first(row.get("code"))
        if key and row.get("status") not in INVALID:
            add(key, _concept(key, row["code"]), row, row)
    for code in codes if not panels else ():
        groups.setdefault(code, Group(_concept(code, {})))
    return list(groups.values())


def _is(concept: Json | None, codes: Sequence[Code]) -> Code | None:
    """Which of ``codes`` this is."""
    own = codings(concept)
    return next((c for c in codes for o in own if c[1] == o[1] and c[0] in (None, o[0])), None)


def _first(concept: Json | None) -> Code | None:
    return next(iter(codings(concept)), None)


def _concept(code: Code, concept: Json) -> Json:
    """The coding that was meant, as the Observations have it."""
    for coding in concept.get("coding", ()):
        if coding.get("code") == code[1] and code[0] in (None, coding.get("system", "")):
            return {"coding": [coding]}
    return {"coding": [{**({"system": code[0]} if code[0] else {}), "code": code[1]}]}


def _measured(part: Json, row: Json) -> Measured | None:
    """A plain number with a UCUM unit."""
    quantity = part.get("valueQuantity", {})
    value, unit = quantity.get("value"), quantity.get("code", "1")
    if row.get("modifierExtension") or part.get("modifierExtension"):
        return None
    if not isinstance(value, int | Decimal) or quantity.get("comparator"):
        return None
    if quantity.get("system", UCUM) != UCUM or not ucum.is_valid(unit):
        return None
    if "unit" in quantity and "code" not in quantity:
        return None
    return Measured(Decimal(value), unit)


def _same_unit(found: Sequence[Measured]) -> tuple[list[Decimal], str]:
    """All that can be converted to the unit that most have."""
    if not found:
        return [], "1"
    unit = Counter(m.unit for m in found).most_common(1)[0][0]
    values = []
    for measured in found:
        try:
            values.append(ucum.convert(measured.value, measured.unit, unit))
        except ucum.UcumError:
            continue
    return values, unit


def _observation(group: Group, asked: Asked) -> Json:
    values, unit = _same_unit(group.found)
    total = len(group.found) + group.left_out
    resource: Json = {
        "resourceType": "Observation",
        "status": "final",
        "code": group.concept,
        "subject": {"reference": "/".join(asked.subject)},
    }
    if asked.period:
        resource["effectivePeriod"] = asked.period
    if len(values) < total:
        text = f"{total - len(values)} of {total} measurements have no value in a unit like {unit}"
        resource["note"] = [{"text": text}]
    resource["component"] = [_component(name, values, unit, total) for name in asked.statistics]
    return resource


def _component(name: str, values: list[Decimal], unit: str, total: int) -> Json:
    row = STATISTICS[name]
    made: Json = {"code": {"coding": [{"system": SYSTEM, "code": name, "display": row.display}]}}
    value = Decimal(total) if name == "total-count" else row.of(sorted(values))
    if value is None:
        missing = {"system": ABSENT, "code": "not-applicable"}
        return made | {"dataAbsentReason": {"coding": [missing]}}
    own = {"unit": unit, "plain": "1", "square": f"({unit})2"}[row.unit]
    quantity: Json = {"value": value, "unit": own}
    if ucum.is_valid(own):
        quantity |= {"system": UCUM, "code": own}
    return made | {"valueQuantity": quantity}
