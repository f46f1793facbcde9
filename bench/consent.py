"""``python -m bench.consent``: what a search costs with consents, and without.

    python -m bench.consent                          # 20,000 Observations, 100 Consents
    python -m bench.consent --size 1000000 --consents 1000 --keep DIR

The record of ``bench.growth``; a family doctor cares for as many patients as there are Consents,
each of whom has recorded one (deny by label, code, period or type, everything), and has results
that a label hides. The same searches by the parser, the session and the store, without HTTP:
*without* as scopes, role and relationship alone have it, *with* as the gate judges it, *whole* as
a system of the hospital that sees everything. CPU microseconds of a query, the best of several
rounds in which the three take turns; the ratio with/without is to stay at 1.5 or below.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.growth import CODES, DAY, PER_PATIENT, filled, record
from fhir_server.access.consent.asking import Reader
from fhir_server.access.consent.epoch import EPOCH, POLICY
from fhir_server.access.consent.policy import ConsentPolicy
from fhir_server.access.drafts import Draft
from fhir_server.access.policy import PermitAll, ScopePolicy
from fhir_server.access.principal import Principal
from fhir_server.access.roles import Standing
from fhir_server.access.scopes import parse_scopes
from fhir_server.access.session import Session
from fhir_server.app import Domain, opened
from fhir_server.config import Settings
from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Key
from fhir_server.workers.process import COLLECT

Json = dict[str, Any]
LOINC: Final = "http://loinc.org"
LABELS: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
SCOPE: Final = "http://terminology.hl7.org/CodeSystem/consentscope"
HIV_RNA: Final = "25836-8"
SENSITIVE: Final = 3
"""Results per patient of the doctor that a label hides."""
CHUNK: Final = 500
MOST: Final = 1.5
"""What a search may cost with consents, in searches without."""

OBSERVED: Final = "Observation"
QUERIES: Final[tuple[tuple[str, str, str], ...]] = (
    ("page of a patient", OBSERVED, "patient=Patient/{p}"),
    ("page of a patient, by date", OBSERVED, "patient=Patient/{p}&_sort=-date"),
    ("patient, code, by date", OBSERVED, "patient=Patient/{p}&code=c{c}&_sort=-date"),
    ("patient, year of dates", OBSERVED, "patient=Patient/{p}&date=2021"),
    ("patient, value range", OBSERVED, "patient=Patient/{p}&value-quantity=gt50"),
    ("patient, sort by value", OBSERVED, "patient=Patient/{p}&_sort=value-quantity"),
    ("count of a patient", OBSERVED, "patient=Patient/{p}&_summary=count"),
    ("patient, _include subject", OBSERVED, "patient=Patient/{p}&_include=Observation:subject"),
    ("patient, _revinclude", "Patient", "_id={p}&_revinclude=Observation:subject"),
    ("code, by date", OBSERVED, "code=c{c}&_sort=-date&_total=none"),
    ("code, by date, total", OBSERVED, "code=c{c}&_sort=-date"),
    ("code, month of dates", OBSERVED, "code=c{c}&date=2021-03&_total=none"),
    ("code and value range", OBSERVED, "code=c{c}&value-quantity=gt50&_total=none"),
    ("code, _include subject", OBSERVED, "code=c{c}&_include=Observation:subject&_total=none"),
    ("count of a code", OBSERVED, "code=c{c}&_summary=count"),
    ("chain on a name", OBSERVED, "patient.name=family{p}x&code=c{c}"),
    ("_has of a value", "Patient", "_has:Observation:patient:value-string=rare{p}x"),
    ("patients by name", "Patient", "name=family{p}x"),
)


def consent(place: int, patient: int) -> Json:
    """Of one patient; ``place`` in the doctor's list. The kinds take turns; codes and years vary,
    so that there are some forty different rules."""
    year = 2018 + place % 5
    period = {"start": f"{year}-01-01", "end": f"{year}-12-31"}
    labels = [{"system": LABELS, "code": code} for code in ("HIV", "SUD", "PSY")]
    code = {"coding": [{"system": LOINC, "code": CODES[place % 30]}]}
    type_ = {"system": "http://hl7.org/fhir/resource-types", "code": "DocumentReference"}
    actor = {"role": {"text": "x"}, "reference": {"reference": "Practitioner/other"}}
    kinds: tuple[Json, ...] = (
        {"type": "deny", "securityLabel": labels},
        {"type": "deny", "code": [code]},
        {"type": "deny", "securityLabel": labels[place % 3 :]},
        {"type": "deny", "dataPeriod": period},
        {"type": "deny", "class": [type_]},
        {"type": "deny", "actor": [actor]},
        {"type": "deny", "securityLabel": labels, "dataPeriod": period},
    )
    root: Json = {"type": "permit", "provision": [kinds[place % len(kinds)]]}
    if place % 50 == 49:
        root = {"type": "deny"}
    return {
        "resourceType": "Consent",
        "id": f"k{patient}",
        "status": "active",
        "scope": {"coding": [{"system": SCOPE, "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": LOINC, "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/p{patient}"},
        "policy": [{"uri": "urn:policy"}],
        "provision": root,
    }


def sensitive(patient: int, number: int) -> Json:
    moment = time.gmtime(1_500_000_000 + (patient * 7 + number * 300) % 2500 * DAY)
    return {
        "resourceType": OBSERVED,
        "id": f"s{patient}-{number}",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": HIV_RNA}]},
        "subject": {"reference": f"Patient/p{patient}"},
        "effectiveDateTime": time.strftime("%Y-%m-%d", moment),
        "valueInteger": number,
    }


def panel(size: int, consents: int) -> list[int]:
    """The doctor's patients, evenly out of all."""
    owners = size // PER_PATIENT
    return [place * owners // consents for place in range(consents)]


def drafts(size: int, consents: int) -> Iterator[Draft]:
    for place, patient in enumerate(panel(size, consents)):
        yield Draft("PUT", Key("Consent", f"k{patient}"), consent(place, patient))
        for number in range(SENSITIVE):
            made = sensitive(patient, number)
            yield Draft("PUT", Key(OBSERVED, made["id"]), made)


async def decided(domain: Domain, size: int, consents: int) -> None:
    """Sees to it that the Consents are there."""
    if (await domain.store.counts()).get("Consent", 0) >= consents:
        return
    session, waiting = domain.system_session("bench"), list[Draft]()
    for draft in drafts(size, consents):
        waiting.append(draft)
        if len(waiting) == CHUNK:
            await session.write(waiting)
            waiting = []
    await session.write(waiting)


async def sessions(domain: Domain, size: int, consents: int) -> dict[str, Session]:
    """The same doctor without and with what patients have decided; and who sees everything."""
    engine, decide = domain.engine, domain.patients
    patients = tuple(f"p{number}" for number in panel(size, consents))
    principal = Principal(
        id="doctor",
        scopes=parse_scopes("user/*.rs", engine.definitions.resource_types),
        user="doctor",
        standing=Standing("family-doctor", "Practitioner/d", patients),
        purpose="TREAT",
    )
    compartment = engine.definitions.compartment("Patient")
    inner = ScopePolicy(principal, compartment, decide.scopes)
    row = await domain.store.ledger.get(POLICY, EPOCH)
    rules = await decide.source.rules(0 if row is None else row.revision)
    reader = Reader(frozenset({"Practitioner/d"}), purpose="TREAT", now=engine.now())
    narrowed = ConsentPolicy(inner, reader, rules, decide.ties, patients)
    return {
        "without": Session(engine, principal, inner),
        "with": Session(engine, principal, narrowed),
        "whole": Session(engine, Principal(id="bench", system=True), PermitAll()),
    }


class Measured:
    """One query with its values. ``times``: so often in a round."""

    def __init__(self, domain: Domain, name: str, numbers: list[int], times: int) -> None:
        type_, query = next((t, q) for n, t, q in QUERIES if n == name)
        chance = random.Random(name)
        self._domain = domain
        self._type = type_
        self._asked = [
            tuple(
                (key, value.format(p=f"p{chance.choice(numbers)}", c=chance.randrange(len(CODES))))
                for key, _, value in (pair.partition("=") for pair in query.split("&"))
            )
            for _ in range(times)
        ]

    async def round(self, session: Session) -> tuple[float, int]:
        """CPU microseconds of a query, and how many resources came; nan where it is refused."""
        rows, began = 0, time.process_time()
        for pairs in self._asked:
            parsed = await self._domain.searching.parse((self._type,), pairs, None, strict=True)
            try:
                page = await session.search(parsed.search)
            except BadRequest:
                return float("nan"), 0
            rows += len(page.matches) + len(page.included)
        return (time.process_time() - began) / len(self._asked) * 1e6, rows


async def measured(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Per query: microseconds of each reader (the best round), and the median of the rounds'
    ratios."""
    found: dict[str, dict[str, float]] = {}
    size, consents = arguments.size, arguments.consents
    with record(arguments.keep, size) as folder:
        settings = replace(Settings(), store="sqlite:", data=folder)
        await filled(settings, size)
        async with opened(settings) as domain:
            await decided(domain, size, consents)
        async with opened(settings) as domain:
            readers = await sessions(domain, size, consents)
            gc.collect()
            gc.freeze()
            gc.set_threshold(*COLLECT)
            for name in (name for name, *_ in QUERIES if arguments.only in name):
                one = Measured(domain, name, panel(size, consents), arguments.times)
                found[name] = await compared(one, readers, arguments.rounds)
    return found


async def compared(one: Measured, readers: dict[str, Session], rounds: int) -> dict[str, float]:
    took: dict[str, list[float]] = {who: [] for who in readers}
    rows: dict[str, int] = {}
    for turn in range(rounds + 1):
        for who in sorted(readers, reverse=bool(turn % 2)):
            spent, rows[who] = await one.round(readers[who])
            if turn:
                took[who].append(spent)
    ratios = [a / b for a, b in zip(took["with"], took["without"], strict=True)]
    best = {who: min(times) for who, times in took.items()}
    return {**best, "ratio": median(ratios), **{f"{who} rows": n for who, n in rows.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.consent", description=__doc__)
    parser.add_argument("--size", type=int, default=20_000, help="Observations in the record")
    parser.add_argument("--consents", type=int, default=100, help="patients of the doctor")
    parser.add_argument("--times", type=int, default=30, help="queries in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="queries whose name contains this")
    parser.add_argument("--json", type=Path, help="write the figures as JSON too")
    parser.add_argument("--keep", type=Path, help="a folder for the records, one per size")
    arguments = parser.parse_args()
    figures = asyncio.run(measured(arguments))
    print("CPU us".ljust(28), *(f"{who:>9}" for who in ("without", "with", "whole", "ratio")))
    for name, row in figures.items():
        cells = [f"{row[who]:>9,.0f}" for who in ("without", "with", "whole")]
        mark = "" if row["ratio"] <= MOST else "  above"
        print(name.ljust(28), *cells, f"{row['ratio']:>9.2f}{mark}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
