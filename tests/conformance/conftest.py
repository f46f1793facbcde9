from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import BACKENDS, BASE, STORES, Server, served


@pytest.fixture(params=list(STORES))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """An open server, on every store."""
    with served(request.param, tmp_path) as server:
        yield server


@pytest.fixture(params=list(STORES))
def secured(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server that wants tokens."""
    with served(request.param, tmp_path, open_=False) as server:
        yield server


DEMO = Path(__file__).parents[2] / "fhir_server" / "demo" / "patients.ndjson.gz"


@pytest.fixture(scope="module", params=list(BACKENDS))
def demo(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The demo patients, on every store."""
    with served(request.param, tmp_path_factory.mktemp("demo")) as server:
        with gzip.open(DEMO) as lines:
            resources = [json.loads(line) for line in lines]
        for start in range(0, len(resources), 400):
            entries = [
                {
                    "resource": r,
                    "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"},
                }
                for r in resources[start : start + 400]
            ]
            bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
            assert server.post(BASE, bundle).status_code == 200
        yield server
