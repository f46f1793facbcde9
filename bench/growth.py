"""``python -m bench.growth``: what a query costs as the record grows.

    python -m bench.growth                          # 10,000 and 100,000 Observations
    python -m bench.growth --sizes 10000 1000000    # more, if there is time and room
    python -m bench.growth --keep DIR               # the records stay there for the next run

CPU microseconds of a query by the parser, the session and the store, without HTTP; the ratio
of the largest to the smallest record is to stay flat for the queries marked with a star. A
total is exact up to 1,000: where it is asked for, a list that is shorter than that in the
smallest record costs less there. Everything is asked twice and the second time counts: what it
costs to map pages that were never read before is not the query's.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from fhir_server.access.drafts import Draft
from fhir_server.app import Domain, opened
from fhir_server.config import Settings
from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Key
from fhir_server.search.plan import Scan, Search
from fhir_server.workers.process import COLLECT

Json = dict[str, Any]
PER_PATIENT: Final = 100
CODES: Final = tuple(f"c{n}" for n in range(40))
CHUNK: Final = 500
DAY: Final = 86_400

BY_DATE: Final = "&_sort=-date&_total=none"
QUERIES: Final = (
    ("* patient, code, by date", "Observation", "patient=Patient/{p}&code=c{c}&_sort=-date"),
    ("* code, by date", "Observation", "code=c{c}" + BY_DATE),
    ("* code, status, by date", "Observation", "code=c{c}&status=final" + BY_DATE),
    ("* chain on a rare name", "Observation", "patient.name=family{p}x&code=c{c}"),
    ("* _has of a rare value", "Patient", "_has:Observation:patient:value-string=rare{p}x"),
    ("  code, by date, total", "Observation", "code=c{c}&_sort=-date"),
    ("  code, status, total", "Observation", "code=c{c}&status=final&_sort=-date"),
    ("  code and frequent range", "Observation", "code=c{c}&value-quantity=gt20"),
    ("  the same, no total", "Observation", "code=c{c}&value-quantity=gt20" + BY_DATE),
    ("  code and rare range", "Observation", "code=c{c}&value-quantity=gt99.9"),
    ("  code and range of none", "Observation", "code=c{c}&value-quantity=gt1000"),
    ("  code and year of dates", "Observation", "code=c{c}&date=2021"),
    ("  count of a code", "Observation", "code=c{c}&_summary=count"),
)


def patient(number: int) -> Json:
    return {
        "resourceType": "Patient",
        "id": f"p{number}",
        "name": [{"family": f"Familyp{number}x", "given": ["Ada"]}],
        "gender": "female",
    }


def observation(number: int, chance: random.Random) -> Json:
    owner = number // PER_PATIENT
    moment = time.gmtime(1_500_000_000 + chance.randrange(2500 * DAY))
    found: Json = {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": chance.choice(CODES)}]},
        "subject": {"reference": f"Patient/p{owner}"},
        "effectiveDateTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", moment),
    }
    if number % PER_PATIENT == 7:
        return {**found, "valueString": f"rarep{owner}x"}
    return {**found, "valueQuantity": {"value": Decimal(chance.randrange(1000)) / 10}}


def drafts(observations: int) -> Iterator[Draft]:
    chance = random.Random(1)
    for number in range(observations):
        if number % PER_PATIENT == 0:
            owner = number // PER_PATIENT
            yield Draft("PUT", Key("Patient", f"p{owner}"), patient(owner))
        yield Draft("PUT", Key("Observation", f"o{number}"), observation(number, chance))


async def fill(domain: Domain, observations: int) -> None:
    session = domain.system_session("bench")
    waiting: list[Draft] = []
    for draft in drafts(observations):
        waiting.append(draft)
        if len(waiting) == CHUNK:
            await session.write(waiting)
            waiting = []
    if waiting:
        await session.write(waiting)


async def cost(domain: Domain, type_: str, query: str, observations: int, times: int) -> float:
    """CPU microseconds of one page, the second time; nan where it is refused as too costly."""
    session, chance = domain.system_session("bench"), random.Random(2)
    owners = observations // PER_PATIENT
    queries = [
        tuple(
            (name, value.format(p=f"p{chance.randrange(owners)}", c=chance.randrange(len(CODES))))
            for name, _, value in (pair.partition("=") for pair in query.split("&"))
        )
        for _ in range(times)
    ]
    took = 0.0
    for _ in range(2):
        began = time.process_time()
        for pairs in queries:
            parsed = await domain.searching.parse((type_,), pairs, None, strict=True)
            try:
                await session.search(parsed.search)
            except BadRequest:
                return float("nan")
        took = time.process_time() - began
    return took / times * 1e6


async def reads(domain: Domain, observations: int, times: int) -> float:
    chance = random.Random(3)
    session = domain.system_session("bench")
    keys = [Key("Observation", f"o{chance.randrange(observations)}") for _ in range(times)]
    took = 0.0
    for _ in range(2):
        began = time.process_time()
        for key in keys:
            await session.read(key)
        took = time.process_time() - began
    return took / times * 1e6


async def deep(domain: Domain, pages: int, times: int) -> float:
    """A page that lies ``pages`` behind the first, by its cursor."""
    session = domain.system_session("bench")
    search = Search((Scan("Observation"),), total="none")
    for _ in range(pages):
        page = await session.search(search)
        search = replace(search, after=page.next)
    began = time.process_time()
    for _ in range(times):
        await session.search(search)
    return (time.process_time() - began) / times * 1e6


@contextmanager
def record(keep: Path | None, observations: int) -> Iterator[Path]:
    """The data directory of one size."""
    if keep is not None:
        yield keep / str(observations)
        return
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        yield Path(folder)


async def filled(settings: Settings, observations: int) -> None:
    """Sees to it that the record is there. It is opened anew for measuring: what the server
    catches up with in the background after so many writes is no part of a query."""
    async with opened(settings) as domain:
        if (await domain.store.counts()).get("Observation", 0) < observations:
            began = time.perf_counter()
            await fill(domain, observations)
            print(f"{observations:,} loaded in {time.perf_counter() - began:.0f} s", flush=True)


async def measured(observations: int, times: int, keep: Path | None) -> dict[str, float]:
    """The figures of one size."""
    with record(keep, observations) as folder:
        settings = replace(Settings(), store="sqlite:", data=folder)
        await filled(settings, observations)
        async with opened(settings) as domain:
            gc.collect()
            gc.freeze()
            gc.set_threshold(*COLLECT)
            found = {"* read": await reads(domain, observations, times * 10)}
            for name, type_, query in QUERIES:
                found[name] = await cost(domain, type_, query, observations, times)
            found["* page 100 by cursor"] = await deep(domain, 100, times)
            return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.growth", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--times", type=int, default=50, help="repetitions of every query")
    parser.add_argument("--json", type=Path, help="write the figures as JSON too")
    parser.add_argument("--keep", type=Path, help="a folder for the records, one per size")
    arguments = parser.parse_args()
    sizes, keep = sorted(arguments.sizes), arguments.keep
    figures = {size: asyncio.run(measured(size, arguments.times, keep)) for size in sizes}
    print("CPU us".ljust(28), *(f"{size:>10,}" for size in sizes), "     ratio")
    for name in figures[sizes[0]]:
        row = [figures[size][name] for size in sizes]
        print(name.ljust(28), *(f"{value:>10,.0f}" for value in row), f"{row[-1] / row[0]:>10.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
