"""The example Consents of IHE PCF, decided as their names and descriptions say.

https://profiles.ihe.net/ITI/PCF/: package ``ihe.iti.pcf``, all 23 of them. What is expected was
read from the description of each example, not from the code; where its meaning is open, ``OPEN``
says why this answer was taken. The domain permits nothing by itself, so that a permit is the
consent's.
"""

from __future__ import annotations

import json
import tarfile
from datetime import UTC
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fhir_server.access.consent.asking import Facts, Reader
from fhir_server.access.consent.compiled import Compiler
from fhir_server.access.consent.decision import Rules, decide
from fhir_server.access.consent.domain import Implicit
from fhir_server.access.consent.provisions import consent_of
from fhir_server.model.datatypes import parse_instant
from fhir_server.search.match import matches
from fhir_server.search.plan import EachPatient
from tests.access.consent.test_decision import EXTRACT, RELATING, facts_of

Json = dict[str, Any]
PACKAGE = "ig/ihe.iti.pcf-1.1.1-current.sushi-local.tgz"
IN_2022 = "2022-07-01T12:00:00Z"
LATER = "2024-06-01T12:00:00Z"

NAMES = {
    "practitioner": {"Practitioner/ex-practitioner", "Group/ex-privilegedUsers"},
    "clerk": {"Practitioner/ex-clerk"},
    "researcher": {"Practitioner/ex-r", "Organization/ex-org-researcher"},
}
LABELLED = {"psychiatry": ("PSY", "R"), "violence": ("SDV", "R"), "very": ("V",), "low": ("L",)}
"""Observations beside those of the package, by what they are labelled with."""

PERMIT, DENY = True, False


class Row(NamedTuple):
    """``what``: an id of the package, or one of the others that ``resource`` makes."""

    who: str
    purpose: str
    what: str
    expected: bool
    now: str = LATER
    implicit: Implicit = "deny"


TPO = [
    Row("clerk", purpose, "ex-weight", PERMIT)
    for purpose in ("TREAT", "ETREAT", "HPAYMT", "HOPERAT")
]
NOTHING_ELSE = [Row("clerk", p, "ex-weight", DENY) for p in ("HRESCH", "HMARKT", "PUBHLTH")]
BASIC = [*TPO, *NOTHING_ELSE, Row("clerk", "TREAT", "ex-alcoholUse", PERMIT)]
ONLY_NORMAL = [
    Row("clerk", "TREAT", "ex-weight", PERMIT),
    Row("clerk", "TREAT", "low", PERMIT),
    Row("clerk", "TREAT", "ex-alcoholUse", DENY),
    Row("clerk", "TREAT", "psychiatry", DENY),
    Row("clerk", "TREAT", "very", DENY),
    Row("clerk", "HRESCH", "ex-weight", DENY),
]

EXPECTED: dict[str, list[Row]] = {
    "ex-consent-basic-treat": BASIC,
    "ex-consent-basic-ink": BASIC,
    "ex-consent-basic-treat-infant": BASIC,
    "ex-consent-basic-reject": [row._replace(expected=DENY) for row in BASIC]
    + [Row("clerk", "TREAT", "ex-weight", DENY, implicit="basic-normal")],
    "ex-consent-basic-research": [
        Row("researcher", "HRESCH", "ex-weight", PERMIT),
        Row("clerk", "CLINTRCH", "ex-weight", PERMIT),
        Row("clerk", "TREAT", "ex-weight", DENY),
        Row("clerk", "HMARKT", "ex-weight", DENY),
    ],
    "ex-consent-expired-treat": [
        Row("clerk", "TREAT", "ex-weight", PERMIT, IN_2022),
        Row("clerk", "TREAT", "ex-weight", PERMIT, "2022-12-31T23:59:59Z"),
        Row("clerk", "TREAT", "ex-weight", DENY, "2023-01-01T00:00:00Z"),
        Row("clerk", "TREAT", "ex-weight", DENY),
        Row("clerk", "TREAT", "ex-weight", PERMIT, implicit="basic-normal"),
        Row("clerk", "TREAT", "ex-alcoholUse", DENY, implicit="basic-normal"),
    ],
    "ex-consent-intermediate-authoredby": [
        Row("clerk", "TREAT", "by the practitioner", PERMIT),
        Row("clerk", "TREAT", "ex-weight", DENY),
        Row("clerk", "HRESCH", "by the practitioner", DENY),
    ],
    "ex-consent-intermediate-not-authoredby": [
        Row("clerk", "TREAT", "by the practitioner", DENY),
        Row("clerk", "TREAT", "ex-weight", PERMIT),
    ],
    "ex-consent-intermediate-data": [
        *(
            Row("clerk", "TREAT", name, PERMIT)
            for name in (
                "ex-alcoholUse",
                "ex-bloodSugar",
                "ex-bloodPressure",
                "ex-weight",
                "ex-weight-2",
                "ex-encounter",
            )
        ),
        Row("clerk", "TREAT", "by the practitioner", DENY),
        Row("clerk", "HRESCH", "ex-weight", DENY),
    ],
    "ex-consent-intermediate-not-data": [
        Row("clerk", "TREAT", "ex-alcoholUse", DENY),
        Row("clerk", "TREAT", "ex-weight", PERMIT),
    ],
    "ex-consent-intermediate-encounter": [
        Row("clerk", "TREAT", "ex-weight", PERMIT),
        Row("clerk", "TREAT", "ex-encounter", PERMIT),
        Row("clerk", "TREAT", "by the practitioner", DENY),
    ],
    "ex-consent-intermediate-not-encounter": [
        Row("clerk", "TREAT", "ex-weight", DENY),
        Row("clerk", "TREAT", "ex-encounter", DENY),
        Row("clerk", "TREAT", "by the practitioner", PERMIT),
    ],
    "ex-consent-intermediate-timeframe": [
        Row("clerk", "TREAT", "ex-alcoholUse", PERMIT),
        Row("clerk", "TREAT", "last of 2022", PERMIT),
        Row("clerk", "TREAT", "ex-weight-2", DENY),
        Row("clerk", "TREAT", "ex-bloodPressure", DENY),
        Row("clerk", "HRESCH", "ex-alcoholUse", DENY),
    ],
    "ex-consent-intermediate-not-timeframe": [
        Row("clerk", "TREAT", "ex-alcoholUse", DENY),
        Row("clerk", "TREAT", "last of 2022", DENY),
        Row("clerk", "TREAT", "ex-weight-2", PERMIT),
        Row("clerk", "TREAT", "ex-bloodPressure", PERMIT),
    ],
    "ex-consent-intermediate-purpose": [
        Row("researcher", "HRESCH", "ex-weight", DENY),
        Row("clerk", "HRESCH", "ex-weight", DENY),
        Row("clerk", "TREAT", "ex-weight", PERMIT),
        Row("clerk", "TREAT", "ex-alcoholUse", DENY),
    ],
    "ex-dissent-intermediate-break-glass": [
        Row("practitioner", "BTG", "ex-weight", PERMIT),
        Row("practitioner", "BTG", "ex-alcoholUse", PERMIT),
        Row("practitioner", "TREAT", "ex-weight", DENY),
        Row("clerk", "BTG", "ex-weight", DENY),
        Row("clerk", "TREAT", "ex-weight", DENY, implicit="basic-normal"),
    ],
    "ex-consent-advanced-normal": [
        *ONLY_NORMAL,
        Row("practitioner", "TREAT", "ex-alcoholUse", DENY),
    ],
    "ex-consent-advanced-normal-not-restricted": [
        *ONLY_NORMAL,
        Row("practitioner", "TREAT", "ex-alcoholUse", DENY),
    ],
    "ex-consent-advanced-normal-restricted": [
        Row("clerk", "TREAT", "ex-weight", PERMIT),
        Row("clerk", "TREAT", "ex-alcoholUse", PERMIT),
        Row("clerk", "TREAT", "psychiatry", PERMIT),
        Row("clerk", "TREAT", "very", DENY),
        Row("clerk", "HRESCH", "ex-weight", DENY),
    ],
    "ex-consent-advanced-normal-focused-restricted": [
        *ONLY_NORMAL,
        Row("practitioner", "TREAT", "ex-alcoholUse", PERMIT),
        Row("practitioner", "TREAT", "psychiatry", PERMIT),
        Row("practitioner", "TREAT", "very", DENY),
        Row("practitioner", "TREAT", "ex-weight", PERMIT),
    ],
    "ex-consent-advanced-normal-focused-psy": [
        *ONLY_NORMAL,
        Row("practitioner", "TREAT", "psychiatry", PERMIT),
        Row("practitioner", "TREAT", "violence", DENY),
        Row("practitioner", "TREAT", "ex-alcoholUse", DENY),
        Row("practitioner", "TREAT", "ex-weight", PERMIT),
    ],
    "ex-consent-advanced-normal-focused-psy-or-sdv": [
        *ONLY_NORMAL,
        Row("clerk", "TREAT", "violence", DENY),
        Row("practitioner", "TREAT", "psychiatry", PERMIT),
        Row("practitioner", "TREAT", "violence", PERMIT),
        Row("practitioner", "TREAT", "ex-alcoholUse", DENY),
    ],
    "ex-consent-advanced-normal-break-glass-restricted": [
        *ONLY_NORMAL,
        Row("practitioner", "TREAT", "ex-alcoholUse", DENY),
        Row("practitioner", "BTG", "ex-alcoholUse", PERMIT),
        Row("practitioner", "BTG", "very", DENY),
        Row("clerk", "BTG", "ex-alcoholUse", DENY),
        Row("clerk", "BTG", "ex-weight", PERMIT),
    ],
}

OPEN = {
    "ex-consent-basic-treat": "An emergency (ETREAT) and broken glass (BTG) are taken as treatment,"
    " as v3-ActReason has them below TREAT. No label is named: the restricted is permitted too.",
    "ex-consent-basic-research": "Its scope is patient-privacy, so it is the patient's decision"
    " about every use; one that speaks of research alone is taken to permit no treatment. With the"
    " scope research, the policy of the domain would go on to hold for treatment.",
    "ex-consent-expired-treat": "What has expired says nothing: the policy of the domain holds"
    " again; in one that permits nothing, nothing.",
    "ex-consent-intermediate-purpose": "A purpose of a code system of its own cannot be stated to"
    " this server and is covered by no other: its permit matches nobody. The policy that it names"
    " (Policy-basic-normal) holds beside.",
    "ex-consent-intermediate-timeframe": "Authored is taken as the main clinical date, that of the"
    " version if there is none. An end without a time is the end of that day.",
    "ex-consent-advanced-normal-not-restricted": "Its own description holds its denial unneeded.",
    "ex-consent-advanced-normal-focused-psy": "The permit of the nested rule states no purpose and"
    " is taken to hold for any, as that of the break-glass example must.",
    "ex-dissent-intermediate-break-glass": "That the glass was broken in due form is the gate's to"
    " know; here the purpose alone decides. All is denied, so the restricted is opened too.",
}


@cache
def examples(package: Path) -> dict[str, Json]:
    found = {}
    with tarfile.open(package) as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member) if "/example/" in member.name else None
            if content is not None and member.name.endswith(".json"):
                resource = json.load(content)
                found[resource["id"]] = resource
    return found


def resource(found: dict[str, Json], what: str) -> Json:
    weight = found["ex-weight"]
    apart = {name: value for name, value in weight.items() if name != "encounter"}
    match what:
        case "by the practitioner":
            return apart | {"id": "o", "performer": [{"reference": "Practitioner/ex-practitioner"}]}
        case "last of 2022":
            return weight | {"id": "o", "effectiveDateTime": "2022-12-31T23:30:00Z"}
        case _ if what in LABELLED:
            return apart | {"id": "o", "meta": {"security": [*map(label, LABELLED[what])]}}
    return found[what]


def label(code: str) -> Json:
    system = "Confidentiality" if len(code) == 1 else "ActCode"
    return {"system": f"http://terminology.hl7.org/CodeSystem/v3-{system}", "code": code}


def facts(body: Json) -> Facts:
    return facts_of({**body, "meta": {"profile": [], **body.get("meta", {})}})


def verdicts(found: dict[str, Json], consent: str, row: Row) -> tuple[bool, bool]:
    """By ``decide``, and by the predicate."""
    rule = consent_of(found[consent], 1, UTC)
    assert rule is not None
    rules = Rules({"ex-patient": (rule,)}, RELATING, row.implicit)
    names = frozenset(NAMES[row.who])
    reader = Reader(names=names, purpose=row.purpose, now=parse_instant(row.now))
    body = resource(found, row.what)
    compiler = Compiler(body["resourceType"], "r", reader, rules)
    each = EachPatient({"ex-patient": compiler.of_patient("ex-patient")}, compiler.unrecorded(), ())
    said = matches(each, body["id"], EXTRACT(body), reader.now, lambda node: False)
    return decide(facts(body), "r", reader, rules).permitted, said


def disagreeing(found: dict[str, Json], consent: str, *, flipped: bool = False) -> list[Row]:
    return [
        row
        for row in EXPECTED[consent]
        if verdicts(found, consent, row) != (row.expected is not flipped,) * 2
    ]


@pytest.mark.parametrize("consent", EXPECTED)
def test_an_example_is_decided_as_it_says(shared: Path, consent: str) -> None:
    assert disagreeing(examples(shared / PACKAGE), consent) == []


def test_all_23_are_here(shared: Path) -> None:
    found = examples(shared / PACKAGE)
    consents = {r["id"] for r in found.values() if r["resourceType"] == "Consent"}
    assert consents == EXPECTED.keys() and len(consents) == 23
    assert consents >= OPEN.keys()


def test_it_goes_red_when_the_expectations_are_flipped(shared: Path) -> None:
    found = examples(shared / PACKAGE)
    assert all(
        disagreeing(found, consent, flipped=True) == EXPECTED[consent] for consent in EXPECTED
    )
