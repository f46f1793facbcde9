from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

import fhir_server.auth.identities as identities
from fhir_server.auth.passwords import Passwords
from tests.serving import BACKENDS, Server, served
from tests.smart.bulk import fill
from tests.smart.flow import BACK, WORD

CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
APP_SCOPE = (
    "openid fhirUser launch launch/patient launch/encounter offline_access online_access "
    "patient/*.cruds user/*.cruds"
)


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real hashes of the least cost: what they cost in service is tested once."""
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(identities, "Passwords", lambda: Passwords(cheap))


@pytest.fixture(params=list(BACKENDS))
def secured(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server that wants tokens, on every store."""
    with served(request.param, tmp_path, open_=False) as server:
        yield server


@pytest.fixture
def smart(tmp_path: Path) -> Iterator[Server]:
    """A server that wants tokens, in memory."""
    with served("memory", tmp_path, open_=False) as server:
        yield server


def people(server: Server) -> Server:
    """Patients a, b and c; a doctor who cares for a and b; a patient b; a public app."""
    system = server.bearer("system/*.cruds")
    for id_ in ("a", "b", "c"):
        patient = {
            "resourceType": "Patient",
            "id": id_,
            "name": [{"family": f"Family-{id_}", "given": ["Ann"]}],
            "birthDate": "1980-01-02",
        }
        server.put(f"Patient/{id_}", patient, headers=system)
        encounter = {
            "resourceType": "Encounter",
            "id": f"e-{id_}",
            "status": "in-progress",
            "class": {"code": "AMB"},
            "subject": {"reference": f"Patient/{id_}"},
        }
        server.put(f"Encounter/e-{id_}", encounter, headers=system)
        for category in ("laboratory", "vital-signs"):
            coding = {"system": CATEGORY, "code": category}
            observation = {
                "resourceType": "Observation",
                "id": f"{category}-{id_}",
                "status": "final",
                "category": [{"coding": [coding]}],
                "code": {"text": "x"},
                "subject": {"reference": f"Patient/{id_}"},
            }
            server.put(f"Observation/{category}-{id_}", observation, headers=system)
    server.put("Practitioner/d", {"resourceType": "Practitioner", "id": "d"}, headers=system)
    server.user("doc", "family-doctor", "Practitioner/d", WORD)
    server.user("pat", "patient", "Patient/b", WORD)
    server.relation("doc", "a", 10_000_000)
    server.relation("doc", "b", 10_000_000)
    server.client("app", redirects=(BACK,), scope=APP_SCOPE, name="Growth <Chart>")
    server.client("keeper", redirects=(BACK,), scope=APP_SCOPE, secret="a secret of the keeper 123")
    return server


@pytest.fixture
def clinic(smart: Server) -> Server:
    return people(smart)


@pytest.fixture
def lasting(secured: Server) -> Server:
    """The same on every store."""
    return people(secured)


@pytest.fixture(params=list(BACKENDS))
def bulk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Patients a, b, c with two observations each; a and b are Group g; one that is of nobody."""
    with served(request.param, tmp_path, open_=False) as server:
        fill(server)
        yield server
