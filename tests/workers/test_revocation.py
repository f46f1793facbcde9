"""A patient's decision holds on every worker from the next request on: pages, jobs and reads (L23,
L30, L65).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import httpx
import pytest

from fhir_server.app import Domain, opened
from fhir_server.auth.relations import Relation
from fhir_server.config import Settings
from tests.consent.bricks import Json, consent, observation
from tests.faults.running import Running, running

FLIPS = 6
LOOKS = 16
"""Requests over connections of their own, which any of the workers takes."""
HEADERS = {"content-type": "application/fhir+json"}


async def doctor_and_system(data: Path) -> tuple[str, str]:
    async with opened(Settings(data=data)) as domain:
        people: Domain = domain
        identities = people.identities
        await identities.users.add("d", "family-doctor", fhir_user="Practitioner/d", password="")
        now = identities.records.now()
        await identities.relations.add(Relation("d", "p1", "care-team", now, now + 3600))
        issue = people.tokens.issue
        doctor = await issue(scope="user/*.cruds", minutes=30, client="test", user="d")
        return doctor, await issue(scope="system/*.cruds", minutes=30, client="test")


class Ward:
    """Somebody who sends requests, each over a new connection."""

    def __init__(
        self, server: Running, token: str, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._base = server.base
        self._headers = {"authorization": f"Bearer {token}", **headers}

    def get(self, url: str, **headers: str) -> httpx.Response:
        place = url if url.startswith("http") else f"{self._base}/{url}"
        return httpx.get(place, headers=self._headers | headers, timeout=30)

    def put(self, resource: Json) -> None:
        url = f"{self._base}/{resource['resourceType']}/{resource['id']}"
        answer = httpx.put(url, json=resource, headers=self._headers | HEADERS, timeout=30)
        assert answer.status_code in (200, 201), answer.text


def ended(doctor: Ward, place: str) -> httpx.Response:
    for _ in range(200):
        answer = doctor.get(place)
        if answer.status_code not in (202, 429):
            return answer
        time.sleep(0.1)
    raise AssertionError(answer.text)


@pytest.mark.slow
def test_a_decision_holds_on_all_workers_at_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data, "--workers", "4") as server:
        doctors, systems = asyncio.run(doctor_and_system(data))
        doctor, system = Ward(server, doctors), Ward(server, systems)
        system.put({"resourceType": "Patient", "id": "p1"})
        system.put({"resourceType": "Practitioner", "id": "d"})
        for number in range(1, 7):
            system.put(observation(f"o{number}", "2093-3", number, f"0{number}"))
        for flip in range(FLIPS):
            permit = flip % 2 == 0
            system.put(consent(provision={"type": "permit" if permit else "deny"}))
            for _ in range(LOOKS):
                assert doctor.get("Observation/o1").status_code == (200 if permit else 404), flip
                assert doctor.get("Observation").json()["total"] == (6 if permit else 0), flip
        system.put(consent(provision={"type": "permit"}))
        first = doctor.get("Observation?_count=2").json()
        following = next(link["url"] for link in first["link"] if link["relation"] == "next")
        job = doctor.get("Observation", prefer="respond-async").headers["content-location"]
        assert "Observation/o1" in ended(doctor, job).text
        system.put(consent(provision={"type": "deny"}))
        for _ in range(LOOKS):
            assert "entry" not in doctor.get(following).json()
            answer = ended(doctor, job)
            assert answer.status_code == 410 and "Observation" not in answer.text
        exported_files_obey(system, Ward(server, systems, RESEARCH))


RESEARCH = {"x-purpose-of-use": "HRESCH"}


def exported_files_obey(system: Ward, researcher: Ward) -> None:
    """L30: files of an export are judged again by whichever worker is asked for them."""
    for permit in (True, False):
        system.put(consent(provision={"type": "permit"}))
        kicked = researcher.get("Patient/$export?_type=Observation", prefer="respond-async")
        assert kicked.status_code == 202, kicked.text
        place = kicked.headers["content-location"]
        [file] = ended(researcher, place).json()["output"]
        system.put(consent(provision={"type": "permit" if permit else "deny"}))
        for _ in range(LOOKS // 2):
            text = researcher.get(file["url"]).text
            assert text.count("Patient/p1") == (6 if permit else 0)
            assert len(researcher.get(place).json()["output"]) == permit
