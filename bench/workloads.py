"""The workloads: one coroutine each, run in this order because later ones read what earlier
ones wrote."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from bench.client import Answer, Connection, Step, drive
from bench.data import bundles, demo, observation, people


@dataclass(slots=True)
class Target:
    """A FHIR base under load. ``pid``: its server process on this machine, if there is one.
    ``seconds``: no workload begins a request after so long."""

    base: str
    token: str | None = None
    pid: int | None = None
    seconds: float = inf
    patients: list[str] = field(default_factory=list)
    observations: list[str] = field(default_factory=list)

    def cpu(self) -> float:
        """CPU seconds (user and system) of the server process; 0 for a remote one."""
        if self.pid is None:
            return 0.0
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Figure:
    """``units``: requests, or resources where the workload moves many per request."""

    name: str
    units: int
    wall: float
    cpu: float

    def row(self) -> dict[str, Any]:
        return {
            "workload": self.name,
            "units": self.units,
            "per_second": round(self.units / self.wall, 1),
            "cpu_us_per_unit": round(self.cpu / self.units * 1e6, 1),
        }


def _expect(answer: Answer, *statuses: int) -> Answer:
    if answer.status not in statuses:
        raise RuntimeError(f"unexpected {answer.status}: {answer.body[:300]!r}")
    return answer


async def measure(target: Target, name: str, step: Step, total: int, clients: int) -> Figure:
    """One workload under the clock of the wall and of the server process."""
    cpu = target.cpu()
    done, wall = await drive(target.base, target.token, step, total, clients, target.seconds)
    return Figure(name, done, wall, target.cpu() - cpu)


async def transaction(target: Target, repeat: int = 1) -> Figure:
    """Import of the demo patients as transaction bundles; counted in resources."""
    loads = [json.dumps(bundle).encode() for bundle in bundles(demo())] * repeat
    moved = 0

    async def step(connection: Connection, number: int) -> None:
        nonlocal moved
        answer = _expect(await connection.request("POST", "/", loads[number]), 200)
        entries = answer.json()["entry"]
        moved += len(entries)
        for entry in entries:
            location = entry["response"]["location"].split("/_history")[0]
            if "/Patient/" in f"/{location}":
                target.patients.append("Patient/" + location.rsplit("/", 1)[1])

    figure = await measure(target, "transaction import, per resource", step, len(loads), 2)
    return Figure(figure.name, moved, figure.wall, figure.cpu)


async def create(target: Target, total: int, clients: int) -> Figure:
    """Creation of single Observations."""

    async def step(connection: Connection, number: int) -> None:
        body = observation(target.patients[number % len(target.patients)], number)
        answer = _expect(await connection.request("POST", "/Observation", body), 201)
        location = answer.headers["location"].split("/_history")[0]
        target.observations.append("/Observation/" + location.rsplit("/", 1)[1])

    return await measure(target, f"create Observation, {clients} clients", step, total, clients)


async def create_patients(target: Target, total: int, clients: int) -> Figure:
    """Creation of single Patients, who are nobody's in the workloads that follow."""
    person = people()

    async def step(connection: Connection, number: int) -> None:
        _expect(await connection.request("POST", "/Patient", person(number)), 201)

    return await measure(target, f"create Patient, {clients} clients", step, total, clients)


async def read(target: Target, total: int, clients: int) -> Figure:
    """Reads by id, in an order that no cache foresees."""

    async def step(connection: Connection, number: int) -> None:
        path = target.observations[number * 7919 % len(target.observations)]
        _expect(await connection.request("GET", path), 200)

    return await measure(target, f"read, {clients} clients", step, total, clients)


async def search(target: Target, total: int, clients: int) -> Figure:
    """One page of 20 results of one patient and code, newest first."""

    async def step(connection: Connection, number: int) -> None:
        patient = target.patients[number % len(target.patients)]
        query = f"?patient={patient}&code=http://loinc.org|2093-3&_sort=-date&_count=20"
        _expect(await connection.request("GET", "/Observation" + query), 200)

    name = f"search patient+code sorted by date, {clients} clients"
    return await measure(target, name, step, total, clients)


async def everything(target: Target, total: int) -> Figure:
    """The whole record of a patient."""

    async def step(connection: Connection, number: int) -> None:
        patient = target.patients[number % len(target.patients)]
        _expect(await connection.request("GET", f"/{patient}/$everything"), 200)

    return await measure(target, "Patient/$everything", step, total, 2)


async def predict(target: Target, total: int) -> Figure:
    """One model on the stored record; a missing feature is an answer too."""

    async def step(connection: Connection, number: int) -> None:
        patient = target.patients[number % len(target.patients)]
        path = f"/{patient}/$predict?model=ckd-epi-2021"
        _expect(await connection.request("GET", path), 200, 422)

    return await measure(target, "$predict, one model, stored data", step, total, 2)
