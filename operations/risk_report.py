"""$risk-report: how easily the patients of a cohort can be found again.

Of those patients of a Group, or of all, who may be seen. With ``profile`` of what that profile
leaves of them. Only numbers leave: no quasi-identifier and no class is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from fhir_server.access.session import Session
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.evaluate import Expression
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest
from fhir_server.search.plan import TRUE, IdIn, Predicate, Scan, Search

from .bulk.wanted import TOGETHER, members_of
from .deid.assembly import Deidentification
from .deid.reach import HIERARCHIES, PLAIN, Level, Reached, reach
from .deid.risk import Risk, Row, risk
from .parameters import Arguments, Parameter
from .registry import Invocation, Operation

KNOWN: Final = {
    "birthDate": ("Patient.birthDate", "date"),
    "gender": ("Patient.gender", "category"),
    "postalCode": ("Patient.address.postalCode.first()", "postal-code"),
    "city": ("Patient.address.city.first()", "category"),
    "state": ("Patient.address.state.first()", "category"),
    "country": ("Patient.address.country.first()", "category"),
    "maritalStatus": ("Patient.maritalStatus.coding.code.first()", "category"),
    "deceased": ("Patient.deceased.exists()", "category"),
}
"""Quasi-identifiers by name: where they are, and how they are generalised."""
DEFAULT: Final = ("birthDate", "gender", "postalCode")
MOST: Final = 6
THRESHOLDS: Final = (3, 5, 11)

INPUTS: Final = (
    Parameter("quasi", "string", f"{', '.join(KNOWN)}, or FHIRPath of a Patient", max=None),
    Parameter("sensitive", "string", "FHIRPath of a Patient: the attribute of l and t"),
    Parameter("profile", "canonical", "Of what this profile leaves"),
    Parameter("project", "string", "With profile: the project whose key is used"),
    Parameter("k", "positiveInt", "What would have to be generalised or suppressed to reach it"),
    Parameter("suppress", "decimal", "The share of records that may be suppressed for that (0.05)"),
)
OUTPUTS: Final = (
    Parameter("records", "integer", "Patients", min=1),
    Parameter("classes", "integer", "Classes of patients who agree in all quasi-identifiers"),
    Parameter("k", "integer", "The size of the smallest class"),
    Parameter("unique", "integer", "Patients alone in theirs"),
    Parameter("prosecutor", "decimal", "The greatest risk of who knows that somebody is in it"),
    Parameter("average", "decimal", "The mean risk, which is the marketer's without a population"),
    Parameter("l", "integer", "The least number of sensitive values in a class"),
    Parameter("t", "decimal", "The greatest distance of a class from all in sensitive values"),
    Parameter(
        "below",
        "",
        "The share of patients in small classes",
        max=None,
        parts=(
            Parameter("size", "integer", "Classes under this size", min=1),
            Parameter("share", "decimal", "Of all patients", min=1),
        ),
    ),
    Parameter(
        "reached",
        "",
        "How k can be reached",
        parts=(
            Parameter("level", "string", "quasi-identifier: level", max=None),
            Parameter("suppressed", "integer", "Patients to leave out", min=1),
            Parameter("loss", "decimal", "From 0 (nothing) to 1 (everything)", min=1),
            Parameter("k", "integer", "The size of the smallest class then"),
            Parameter("average", "decimal", "The mean risk then"),
        ),
    ),
)


def risk_operation(deid: Deidentification) -> Operation:
    """The row."""

    async def handler(arguments: Arguments, session: Session, call: Invocation) -> Json:
        asked = _Asked(arguments)
        where = await _members(session, call.id) if call.id else [TRUE]
        work = None
        if arguments.one("profile"):
            project = arguments.one("project", "")
            work = deid.begin(arguments.one("profile"), project, call.now, call.base)
        run = work.run() if work is not None else None
        rows: list[Row] = []
        sensitive: list[Hashable] = []
        async for patient in patients_of(session, where):
            if work is not None and run is not None:
                patient = work.profile.resource(patient, run)
            rows.append(tuple(value_of(e, patient) for e in asked.expressions))
            if asked.sensitive is not None:
                sensitive.append(value_of(asked.sensitive, patient))
        if not rows:
            return {
                "resourceType": "Parameters",
                "parameter": [{"name": "records", "valueInteger": 0}],
            }
        found = risk(rows, sensitive or None, thresholds=THRESHOLDS)
        parameter = parts_of(found)
        if asked.k:
            args = (rows, asked.hierarchies, asked.k, asked.suppress)
            reached = await asyncio.to_thread(reach, *args)
            parameter += [_reached(asked.names, reached)] if reached is not None else []
        return {"resourceType": "Parameters", "parameter": parameter}

    return Operation(
        code="risk-report",
        levels=frozenset(("type", "instance")),
        types=("Group", "Patient"),
        affects_state=False,
        inputs=INPUTS,
        outputs=OUTPUTS,
        scope="system/Patient.rs",
        description="k, l, t and the risks of re-identification of a Group's patients, or of all",
        example="GET Group/example/$risk-report?k=5",
        handler=handler,
        needs=("Patient",),
    )


class _Asked:
    """What is to be computed. BadRequest for what is not understood."""

    def __init__(self, arguments: Arguments) -> None:
        self.names: Sequence[str] = arguments.all("quasi") or DEFAULT
        if len(self.names) > MOST:
            raise BadRequest(f"quasi: at most {MOST}", code="too-costly")
        known = [KNOWN.get(name, (name, "")) for name in self.names]
        self.expressions = [_expression("quasi", text) for text, _ in known]
        self.hierarchies: list[Sequence[Level]] = [HIERARCHIES.get(k, PLAIN) for _, k in known]
        text = arguments.one("sensitive")
        self.sensitive = None if text is None else _expression("sensitive", text)
        self.k: int = arguments.one("k", 0)
        self.suppress = Fraction(arguments.one("suppress", Decimal("0.05")))
        if not 0 <= self.suppress <= 1:
            raise BadRequest("suppress: a share, 0 to 1", code="value")


def _expression(name: str, text: str) -> Expression:
    try:
        return Expression(text)
    except (FhirPathError, ValueError):
        raise BadRequest(f"{name}: {text[:80]!r} is not FHIRPath", code="value") from None


def value_of(expression: Expression, patient: Json) -> Hashable:
    try:
        found = expression.evaluate(patient)
    except FhirPathError:
        raise BadRequest("quasi, sensitive: FHIRPath that fails on a Patient") from None
    if len(found) == 1 and isinstance(found[0], int | Decimal):
        return found[0]
    return "|".join(sorted(str(one) for one in found))


async def _members(session: Session, group: str) -> list[Predicate]:
    ids = members_of(await session.exporting().group(group))
    some = range(0, len(ids), TOGETHER)
    return [IdIn(tuple(ids[start : start + TOGETHER])) for start in some]


async def patients_of(session: Session, where: Sequence[Predicate]) -> AsyncIterator[Json]:
    session.allow("s", "Patient")
    for predicate in where:
        search: Search | None = Search((Scan("Patient", predicate),), count=TOGETHER, total="none")
        while search is not None:
            page = await session.search(search)
            for stored in page.matches:
                yield loads(stored.body)
            search = replace(search, after=page.next) if page.next is not None else None


def decimal(share: Fraction) -> Decimal:
    """To six places."""
    return (Decimal(share.numerator) / Decimal(share.denominator)).quantize(Decimal("0.000001"))


def parts_of(found: Risk) -> list[Json]:
    """As out parameters."""
    whole: list[tuple[str, Any]] = [
        ("records", found.records),
        ("classes", found.classes),
        ("k", found.k),
        ("unique", found.unique),
        ("prosecutor", found.prosecutor),
        ("average", found.average),
        ("l", found.diversity),
        ("t", found.closeness),
    ]
    below = [
        {"name": "below", "part": [_number("size", size), _number("share", share)]}
        for size, share in found.below.items()
    ]
    return [*(_number(name, value) for name, value in whole if value is not None), *below]


def _number(name: str, value: int | Fraction) -> Json:
    if isinstance(value, int):
        return {"name": name, "valueInteger": value}
    return {"name": name, "valueDecimal": decimal(value)}


def _reached(names: Sequence[str], reached: Reached) -> Json:
    left = [row for row in reached.rows if row is not None]
    part: list[Json] = [
        {"name": "level", "valueString": f"{name}: {level}"}
        for name, level in zip(names, reached.levels, strict=True)
    ]
    part += [_number("suppressed", reached.suppressed), _number("loss", reached.loss)]
    if left:
        after = risk(left)
        part += [_number("k", after.k), _number("average", after.average)]
    return {"name": "reached", "part": part}
