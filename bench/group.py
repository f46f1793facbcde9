"""``python -m bench.group``: what predictions of a Group cost, beside those of one patient.

Starts a server, writes patients with what three models read and as much that none does, and prints
CPU (of the server and the workers that run graphs) and wall time per patient. "Two models" shows
what a second one adds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

from bench.__main__ import free_port, ready, running, table
from bench.client import Answer, Connection

Json = dict[str, Any]
UCUM: Final = "http://unitsofmeasure.org"
AGO: Final = ("2026-03-01", "2025-09-01", "2025-03-01", "2024-09-01")
READ: Final = {
    "2160-0": (0.9, "mg/dL"),
    "8480-6": (135, "mm[Hg]"),
    "2093-3": (210, "mg/dL"),
    "2085-9": (50, "mg/dL"),
}
OTHER: Final = {"718-7": (140, "g/L"), "29463-7": (80, "kg"), "2345-7": (95, "mg/dL")}
ONE: Final = "model=ckd-epi-2021"
TWO: Final = f"{ONE}&model=framingham"
SINGLE: Final = 300
PAUSE: Final = 0.5
"""Seconds between two questions whether a job is over: the wall time of a Group is that coarse."""


def patient(number: int) -> Iterator[Json]:
    """A patient of middle age with four values of each of seven kinds, and a smoking status."""
    id_ = f"g{number}"
    subject = {"reference": f"Patient/{id_}"}
    born = f"{1956 + number % 30}-05-05"
    gender = ("female", "male")[number % 2]
    yield {"resourceType": "Patient", "id": id_, "gender": gender, "birthDate": born}
    base: Json = {"resourceType": "Observation", "status": "final", "subject": subject}
    for code, (value, unit) in (READ | OTHER).items():
        for place, at in enumerate(AGO):
            coded = {"coding": [{"system": "http://loinc.org", "code": code}]}
            quantity = {"value": value + number % 7, "unit": unit, "system": UCUM, "code": unit}
            named = {"id": f"{id_}-{code}-{place}", "code": coded, "effectiveDateTime": at}
            yield {**base, **named, "valueQuantity": quantity}
    smokes = {"coding": [{"system": "http://snomed.info/sct", "code": "266919005"}]}
    coded = {"coding": [{"system": "http://loinc.org", "code": "72166-2"}]}
    named = {"id": f"{id_}-smoking", "code": coded, "effectiveDateTime": AGO[0]}
    yield {**base, **named, "valueCodeableConcept": smokes}


def cpu(pid: int) -> float:
    """CPU seconds (user and system) of a process and of those that it has started."""
    parents: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has ended meanwhile
        parents.setdefault(int(fields[1]), []).append(int(entry.name))
        used[int(entry.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    waiting, total = [pid], 0.0
    while waiting:
        one = waiting.pop()
        total += used.get(one, 0.0)
        waiting += parents.get(one, ())
    return total


async def asked(connection: Connection, method: str, path: str, body: bytes = b"") -> Answer:
    answer = await connection.request(method, path, body)
    if answer.status >= 400 and answer.status != 429:
        raise RuntimeError(f"{method} {path}: {answer.status} {answer.body[:300]!r}")
    return answer


async def load(connection: Connection, patients: int) -> None:
    """The patients, 20 a batch, and a Group of them."""
    for start in range(0, patients, 20):
        resources = [r for n in range(start, min(start + 20, patients)) for r in patient(n)]
        entries = [
            {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}}
            for r in resources
        ]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        await asked(connection, "POST", "/", json.dumps(bundle).encode())
    members = [{"entity": {"reference": f"Patient/g{n}"}} for n in range(patients)]
    group = {"resourceType": "Group", "id": "all", "type": "person", "actual": True}
    await asked(connection, "PUT", "/Group/all", json.dumps({**group, "member": members}).encode())


async def group(connection: Connection, query: str, patients: int) -> None:
    """One job, until its result is there; every patient must have an answer."""
    started = await asked(connection, "GET", f"/Group/all/$predict?{query}")
    status = "/" + started.headers["content-location"].split("/fhir/", 1)[1]
    while True:
        answer = await asked(connection, "GET", status)
        if answer.status == 200:
            break
        await asyncio.sleep(PAUSE)
    counted = sum(one.get("count", 0) for one in answer.json()["output"])
    if counted != patients:
        raise RuntimeError(f"{counted} of {patients} patients have a result")


async def single(connection: Connection, query: str) -> None:
    for number in range(SINGLE):
        await asked(connection, "GET", f"/Patient/g{number % 97}/$predict?{query}")


async def figures(base: str, pid: int, patients: int) -> list[dict[str, Any]]:
    connection = Connection(base, None)
    await load(connection, patients)
    rows = []
    works: list[tuple[str, int, Callable[[], Awaitable[None]]]] = [
        ("$predict, one model", SINGLE, lambda: single(connection, ONE)),
        ("$predict, two models", SINGLE, lambda: single(connection, TWO)),
        ("Group, one model", patients, lambda: group(connection, ONE, patients)),
        ("Group, two models", patients, lambda: group(connection, TWO, patients)),
    ]
    await single(connection, TWO)  # the graphs are loaded
    for name, units, work in works:
        before, begun = cpu(pid), time.perf_counter()
        await work()
        wall, spent = time.perf_counter() - begun, cpu(pid) - before
        row = {"workload": name, "patients": units, "cpu_s": round(spent, 2)}
        rows.append({**row, "cpu_ms_each": round(spent / units * 1e3, 2), "wall_s": round(wall, 2)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.group", description=__doc__)
    parser.add_argument("--patients", type=int, default=1000)
    patients = parser.parse_args().patients
    port = free_port()
    command = [sys.executable, "-m", "fhir_server", "serve", "--open", "--port", str(port)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {"VEHR_DATA": folder, "VEHR_BASE_URL": f"http://127.0.0.1:{port}"}

        async def measured(pid: int) -> list[dict[str, Any]]:
            await ready(f"http://127.0.0.1:{port}", "/health")
            return await figures(f"http://127.0.0.1:{port}/fhir", pid, patients)

        with running(command, environment) as pid:
            print(table(asyncio.run(measured(pid))))


if __name__ == "__main__":
    main()
