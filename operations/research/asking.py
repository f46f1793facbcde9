"""Operations of the bank: cohort counts, lineage, data quality."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from fhir_server.access.ports import Ledger
from fhir_server.access.session import Session
from fhir_server.model.exchange import Json
from fhir_server.search.plan import Scan, Search
from operations.parameters import Arguments, Parameter
from operations.registry import Invocation, Operation
from operations.risk_report import DEFAULT

from .cleaning import REASONS
from .counting import Blur
from .exposure import SMALL, linkage
from .sync import LINEAGE

Read = Callable[[str, Sequence[tuple[str, str]]], Awaitable[Scan]]
"""(type, search parameters) -> the Scan."""
Refuse = Callable[[Sequence[tuple[str, str]]], None]
"""Forbidden for search parameters that single people out."""

UNMEASURED: Final[Mapping[str, Any]] = {"set": "none: this version was not measured", "rates": {}}
RUNS: Final = 20
"""Runs that are told, the latest first."""

COMPLETE: Final[Mapping[str, tuple[str, ...]]] = {
    "Patient": ("gender", "birthdate"),
    "Observation": ("code", "date"),
    "Condition": ("code", "onset-date"),
    "Encounter": ("date", "type"),
    "MedicationRequest": ("code", "authoredon"),
    "Procedure": ("code", "date"),
    "Immunization": ("vaccine-code", "date"),
    "AllergyIntolerance": ("code", "date"),
    "DiagnosticReport": ("code", "date"),
}
"""Search parameters whose presence is counted."""
RUN: Final = (
    Parameter("number", "integer", "Of the run", min=1),
    Parameter("source", "instant", "As of when the record was read", min=1),
    Parameter("ended", "instant", "When it ended", min=1),
    Parameter("profile", "canonical", "By which it was de-identified", min=1),
    Parameter("key", "integer", "Version of the key of the pseudonyms", min=1),
    *(
        Parameter(name, "integer", f"Patients {name}, blurred; withheld if too few", min=1)
        for name in ("added", "renewed", "removed", "held")
    ),
)
LEFT: Final = (
    Parameter("reason", "string", "Why", min=1),
    Parameter("type", "code", "Of the resources", min=1),
    Parameter("count", "integer", "How many, blurred; withheld if too few", min=1),
)
HELD: Final = (
    Parameter("code", "value", "The resource type; again: how many have a code", min=1, max=2),
    Parameter("resources", "integer", "How many, blurred; withheld if too few", min=1),
    *(
        Parameter(name, "integer", f"How many have what {name} searches")
        for name in sorted({one for names in COMPLETE.values() for one in names} - {"code"})
    ),
)
FOUND: Final = (
    Parameter("profile", "canonical", "By which the bank is de-identified", min=1),
    Parameter("measured", "string", "Of what set the claims of this profile are known", min=1),
    Parameter(
        "claim",
        "",
        "Who knows one thing of a person and claims the only record that fits",
        max=None,
        parts=(
            Parameter("known", "string", "What is known, to the day", min=1),
            Parameter("rate", "decimal", "The share of people of whom that is right", min=1),
        ),
    ),
    Parameter("quasi", "string", "Among what people of this bank are compared", max=None),
    Parameter("average", "decimal", "The mean of 1 / (how many are alike in that)"),
    Parameter("below", "decimal", f"The share of people with fewer than {SMALL} alike"),
)
"""Parts of the answers. Of a type with a search parameter ``code`` that one comes again."""


def cohort_count(read: Read, refuse: Refuse, blur: Blur) -> Operation:
    """``Patient/$cohort-count?gender=female&_has:Condition:patient:code=…``"""

    async def count(arguments: Arguments, session: Session, call: Invocation) -> Json:
        session.allow("s", "Patient")
        refuse(arguments.criteria)
        asked = arguments.criteria
        scan = await read("Patient", asked) if asked else Scan("Patient")
        page = await session.search(Search((scan,), count=0, total="exact"))
        shown = blur.shown("count", "valueInteger", page.total or 0, question_of(scan))
        least = {"name": "least", "valueInteger": blur.least}
        return {"resourceType": "Parameters", "parameter": [shown, least]}

    return Operation(
        code="cohort-count",
        levels=frozenset(("type",)),
        types=("Patient",),
        affects_state=False,
        inputs=(),
        outputs=(
            Parameter("count", "integer", "How many patients, blurred; withheld if too few", min=1),
            Parameter("least", "integer", "The smallest count that is told", min=1),
        ),
        scope="user/Patient.rs",
        description="How many patients fit a search, with small counts withheld",
        example="GET Patient/$cohort-count?gender=female",
        handler=count,
        searches=True,
    )


def question_of(scan: Scan) -> str:
    """What a scan asks, the same in any order of its criteria."""
    parts = getattr(scan.where, "parts", (scan.where,))
    return f"{scan.type} {type(scan.where).__name__} {sorted(map(repr, parts))}"


def lineage(ledger: Ledger, blur: Blur) -> Operation:
    """Which runs filled the bank, from what, by what; without a word of whom."""

    async def tell(arguments: Arguments, session: Session, call: Invocation) -> Json:
        rows = (await ledger.scan(LINEAGE))[-RUNS:]
        return {
            "resourceType": "Parameters",
            "parameter": [_run(row.value, blur) for row in reversed(rows)],
        }

    return Operation(
        code="lineage",
        levels=frozenset(("system",)),
        types=(),
        affects_state=False,
        inputs=(),
        outputs=(
            Parameter("run", "", "A run of the pipeline, the latest first", max=None, parts=RUN),
        ),
        scope="user/Patient.rs",
        description="The runs that filled the bank: source time, profile, version of the key",
        example="GET $lineage",
        handler=tell,
        needs=("Patient",),
    )


def _run(told: Json, blur: Blur) -> Json:
    parts: list[Json] = [
        {"name": "number", "valueInteger": told["number"]},
        {"name": "source", "valueInstant": told["source"]},
        {"name": "ended", "valueInstant": told["ended"]},
        {"name": "profile", "valueCanonical": told["profile"]},
        {"name": "key", "valueInteger": told["key"]},
    ]
    for name, count in told["patients"].items():
        question = f"lineage {told['number']} {name}"
        parts.append(blur.shown(name, "valueInteger", count, question))
    return {"name": "run", "part": parts}


def data_quality(ledger: Ledger, read: Read, blur: Blur) -> Operation:
    """What the last run left out and why; how complete the bank is; who could be found again."""

    async def tell(arguments: Arguments, session: Session, call: Invocation) -> Json:
        parameters = [
            part for row in (await ledger.scan(LINEAGE))[-1:] for part in _left(row.value, blur)
        ]
        held = sorted(COMPLETE.keys() & await session.populated())
        readable = [type_ for type_ in held if session.policy.allows("s", type_)]
        parameters += [await _complete(type_, read, session, blur) for type_ in readable]
        parameters += await _found_again(ledger)
        return {"resourceType": "Parameters", "parameter": parameters}

    return Operation(
        code="data-quality",
        levels=frozenset(("system",)),
        types=(),
        affects_state=False,
        inputs=(),
        outputs=(
            Parameter("left-out", "", "What the last run left out", max=None, parts=LEFT),
            Parameter("type", "", "How complete a type is", max=None, parts=HELD),
            Parameter("found-again", "", "How easily somebody is found again", parts=FOUND),
        ),
        scope="user/*.rs",
        description="What was left out by the last run, how complete the bank is, and how easily"
        " somebody in it could be found again",
        example="GET $data-quality",
        handler=tell,
        needs=("Patient",),
    )


async def _found_again(ledger: Ledger) -> list[Json]:
    """By the profile of the last run, and in the bank as that has left it."""
    rows = (await ledger.scan(LINEAGE))[-1:]
    if not rows:
        return []
    profile, alike = rows[0].value["profile"], rows[0].value.get("exposure")
    measured = linkage().get(profile, UNMEASURED)
    parts: list[Json] = [
        {"name": "profile", "valueCanonical": profile},
        {"name": "measured", "valueString": measured["set"]},
    ]
    for known, rate in measured["rates"].items():
        claim = [{"name": "known", "valueString": known}, {"name": "rate", "valueDecimal": rate}]
        parts.append({"name": "claim", "part": claim})
    if alike:
        parts += [{"name": "quasi", "valueString": name} for name in DEFAULT]
        parts += [{"name": name, "valueDecimal": Decimal(one)} for name, one in alike.items()]
    return [{"name": "found-again", "part": parts}]


def _left(told: Json, blur: Blur) -> list[Json]:
    found: list[Json] = []
    for reason, counts in told["quality"]["left"].items():
        for type_, count in counts.items():
            question = f"left {told['number']} {reason} {type_}"
            parts: list[Any] = [
                {"name": "reason", "valueString": REASONS[reason]},
                {"name": "type", "valueCode": type_},
                blur.shown("count", "valueInteger", count, question),
            ]
            found.append({"name": "left-out", "part": parts})
    return found


async def _complete(type_: str, read: Read, session: Session, blur: Blur) -> Json:
    parts: list[Json] = [{"name": "code", "valueCode": type_}]
    asked = [("resources", ()), *((p, ((f"{p}:missing", "false"),)) for p in COMPLETE[type_])]
    for name, criteria in asked:
        scan = await read(type_, criteria) if criteria else Scan(type_)
        page = await session.search(Search((scan,), count=0, total="exact"))
        question = f"quality {question_of(scan)}"
        parts.append(blur.shown(name, "valueInteger", page.total or 0, question))
    return {"name": "type", "part": parts}
