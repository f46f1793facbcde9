"""Revocation during paging, jobs and streaming with four workers (L23, L30, L65)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from fhir_server.app import opened
from fhir_server.auth.relations import Relation
from fhir_server.config import Settings
from tests.consent.bricks import Json, consent
from tests.faults.running import Running, running
from tests.prove.conftest import Row, scaled
from tests.workers.streaming import (
    CONTENT,
    MANY,
    NOTE,
    RUN,
    UNDER_WAY,
    interrupted,
    notes,
    slowly,
)
from tests.workers.test_revocation import HEADERS, RESEARCH, Ward, doctor_and_system, ended

pytestmark = pytest.mark.prove

ROUNDS = 40
LOOKS = 8
"""Requests after each decision, which any of the workers takes."""
TABLE: Json = {
    "resourceType": "Parameters",
    "parameter": [{"name": "view", "part": RUN["parameter"]}],
}


class Site:
    """D's and a researcher's views of P1 and P2, and the hospital's."""

    def __init__(self, server: Running, tokens: tuple[str, str]) -> None:
        self.server = server
        self.base = base = server.base
        self.doctor = Ward(server, tokens[0])
        self.system = system = Ward(server, tokens[1])
        self.tokens = tokens
        for id_ in ("p1", "p2"):
            system.put({"resourceType": "Patient", "id": id_})
        system.put({"resourceType": "Practitioner", "id": "d"})
        of_p2 = {"patient": {"reference": "Patient/p2"}}
        system.put(consent("c2", **of_p2, provision={"type": "permit"}))
        for bundle in notes():
            answer = httpx.post(base, json=bundle, headers=self.all | HEADERS, timeout=120)
            assert answer.status_code == 200, answer.text[:500]
        raw = self.all | {"content-type": "text/plain", "x-security-context": "Observation/o0"}
        made = httpx.post(f"{base}/Binary", content=CONTENT, headers=raw, timeout=120)
        assert made.status_code == 201, made.text
        self.binary = made.headers["location"].partition("/_history")[0]

    @property
    def all(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.tokens[1]}"}

    def decide(self, kind: str) -> None:
        self.system.put(consent(provision={"type": kind}))

    def rows(self) -> tuple[int, int]:
        url = f"{self.base}/ViewDefinition/$run"
        with slowly(url, self.tokens[0], RUN) as answer:
            return self._lines(*interrupted(answer, lambda: self.decide("deny")))

    def table(self) -> tuple[int, int]:
        headers = {"authorization": f"Bearer {self.tokens[0]}", "prefer": "respond-async"}
        url = f"{self.base}/ViewDefinition/$export"
        kicked = httpx.post(url, json=TABLE, headers=headers | HEADERS, timeout=60)
        assert kicked.status_code == 202, kicked.text
        said = ended(self.doctor, kicked.headers["content-location"]).json()["parameter"]
        [part] = [one["part"] for one in said if one["name"] == "output"]
        place = next(one["valueUri"] for one in part if one["name"] == "location")
        with slowly(place, self.tokens[0]) as answer:
            return self._lines(*interrupted(answer, lambda: self.decide("deny")))

    def export(self) -> tuple[int, int]:
        researcher = Ward(self.server, self.tokens[1], RESEARCH)
        url = "Patient/$export?_type=Observation"
        kicked = researcher.get(url, prefer="respond-async")
        [file] = ended(researcher, kicked.headers["content-location"]).json()["output"]
        with slowly(file["url"], self.tokens[1], **RESEARCH) as answer:
            return self._lines(*interrupted(answer, lambda: self.decide("deny")))

    def content(self) -> tuple[int, int]:
        with slowly(self.binary, self.tokens[0], accept="text/plain") as answer:
            first, rest = interrupted(answer, lambda: self.decide("deny"))
        assert len(first) + len(rest) < len(CONTENT), "it is broken off"
        return len(rest), len(CONTENT)

    def _lines(self, first: bytes, rest: bytes) -> tuple[int, int]:
        assert (first + rest).count(b"Patient/p2") == 20, "others are not concerned"
        return rest.count(b"Patient/p1") * len(NOTE), MANY * len(NOTE)

    def pages(self) -> None:
        """A next link, a result of a job and single reads, over new connections."""
        first = self.doctor.get("Observation?_count=2").json()
        following = next(link["url"] for link in first["link"] if link["relation"] == "next")
        kicked = self.doctor.get("Observation?_count=5", prefer="respond-async")
        job = kicked.headers["content-location"]
        assert "Patient/p1" in ended(self.doctor, job).text
        self.decide("deny")
        for _ in range(LOOKS):
            assert "Patient/p1" not in self.doctor.get(following).text
            assert self.doctor.get("Observation/o0").status_code == 404
            answer = ended(self.doctor, job)
            assert answer.status_code == 410 and "Patient/p1" not in answer.text


def test_a_refusal_holds_while_others_read_on_four_workers(tmp_path: Path, proven: Row) -> None:
    data, rounds, most = tmp_path / "data", scaled(ROUNDS), 0
    with running(data, "--workers", "4") as server:
        tokens = asyncio.run(doctor_and_system(data))
        site = Site(server, tokens)
        asyncio.run(_treats(data))
        roads: list[Callable[[], tuple[int, int]]] = [
            site.rows,
            site.table,
            site.export,
            site.content,
        ]
        for number in range(rounds):
            for road in roads:
                site.decide("permit")
                late, whole = road()
                assert late < UNDER_WAY < whole, (number, road.__name__, late)
                most = max(most, late)
            site.decide("permit")
            site.pages()
    proven(
        "L23 L30 four workers",
        "a patient refuses while a view's rows, a table, an exported file and a content are"
        " streamed to slow readers, pages followed and results fetched, on 4 workers",
        f"{rounds:,} rounds, {rounds * len(roads):,} streams, {rounds * LOOKS * 3:,} requests",
        f"nothing of what was refused is sent a second later but what was on its way (at most"
        f" {most / 1e6:.1f} MB in buffers); others' rows are complete",
    )


async def _treats(data: Path) -> None:
    """P2 too."""
    async with opened(Settings(data=data)) as domain:
        now = domain.identities.records.now()
        relation = Relation("d", "p2", "care-team", now, now + 36_000)
        await domain.identities.relations.add(relation)
