"""A store, its copies and what they answer."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from fhir_server.cli.archives import LEFT
from fhir_server.store import places
from fhir_server.store.moving import Moved
from tests.serving import Json

PLAIN = {"content-type": "text/plain"}
CONTENT = bytes(range(256)) * 400


def patient(n: int, name: str = "Ann") -> Json:
    gender = ("female", "male")[n % 2]
    return {
        "resourceType": "Patient",
        "id": f"p{n}",
        "name": [{"family": f"{name}{n}"}],
        "gender": gender,
        "birthDate": f"19{50 + n % 50}-01-01",
    }


def observation(n: int) -> Json:
    code = {"system": "http://loinc.org", "code": ("2093-3", "718-7")[n % 2]}
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [code], "text": "cholesterol"},
        "subject": {"reference": f"Patient/p{n % 20}"},
        "effectiveDateTime": f"20{18 + n % 6}-03-0{1 + n % 9}",
        "valueQuantity": {"value": 4 + n % 5, "unit": "mmol/L"},
    }


def expunge(server: Any, place: str, **wanted: bool) -> None:
    parameters = [{"name": name, "valueBoolean": value} for name, value in wanted.items()]
    body = {"resourceType": "Parameters", "parameter": parameters}
    answer = server.post(f"{place}/$expunge", body)
    assert answer.status_code == 200, answer.text


def fill(server: Any) -> None:
    """A record with a past: several versions, deletions, returns, erasures, contents."""
    for n in range(20):
        server.put(f"Patient/p{n}", patient(n))
    made = [server.create(observation(n)) for n in range(30)]
    for n in range(0, 20, 3):
        server.put(f"Patient/p{n}", patient(n, "Beth"))
        server.put(f"Patient/p{n}", patient(n))
    for one in made[:6]:
        server.delete(f"Observation/{one['id']}")
    back = made[0]["id"]
    server.put(f"Observation/{back}", observation(0) | {"id": back})
    expunge(server, f"Observation/{made[3]['id']}", expungeEverything=True)
    expunge(server, "Patient/p3", expungePreviousVersions=True)
    server.send("POST", "Binary", content=CONTENT, headers=PLAIN)
    server.user("anna", "family-doctor")
    server.client("app", redirects=("https://app.example/cb",))
    server.relation("anna", "p1")
    server.token("system/*.rs")
    server.put("Patient/last", patient(50) | {"id": "last"})
    expunge(server, "Patient/last", expungeEverything=True)


def silent(*_: Any) -> None:
    return None


def copy(
    of: str, to: str, tmp: Path, contents: tuple[Any, Any] = (None, None), tell: Any = silent
) -> Moved:
    return asyncio.run(places.copy((of, to), contents, LEFT, tmp / "spool", tell))


def twin_of(source: Path, tmp: Path) -> Path:
    """A copy of the folder of a server that has stopped."""
    without = shutil.ignore_patterns("*.sock", "*.lock")
    return Path(shutil.copytree(source, tmp / "twin", ignore=without))


def vehr(*words: object, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("VEHR_")}
    return subprocess.run(
        [sys.executable, "-m", "fhir_server", *map(str, words)],
        cwd=Path(__file__).parents[3],
        env=clean | environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
