"""``make prove``: Synthea and clinosim load completely; loading again stores nothing."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
import pytest

from fhir_server.formats.json import loads
from tests.faults.running import ROOT, Running, clean_environ, running
from tests.prove.conftest import Row, scaled

pytestmark = pytest.mark.prove


def expected(files: list[Path]) -> Counter[str]:
    """Resources by type, counted in the sources; one that comes twice counts once."""
    counts, seen = Counter[str](), set[tuple[str, str]]()
    for file in files:
        with gzip.open(file) as lines:
            for document in map(loads, lines):
                if document["resourceType"] == "Bundle":
                    counts.update(e["resource"]["resourceType"] for e in document["entry"])
                elif (key := (document["resourceType"], document["id"])) not in seen:
                    seen.add(key)
                    counts[key[0]] += 1
    return counts


def load(server: Running, files: list[Path]) -> str:
    """What ``vehr load`` says, beside the running server."""
    command = (sys.executable, "-m", "fhir_server", "load", *map(str, files))
    environment = clean_environ(VEHR_DATA=str(server.data), VEHR_BASE_URL=server.root)
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_everything_loads(tmp_path: Path, shared: Path, proven: Row) -> None:
    synthea = sorted((shared / "synthea").glob("*.ndjson.gz"))
    clinosim = sorted((shared / "clinosim" / "us-p400-seed7").glob("*.ndjson.gz"))
    files = [*synthea[: scaled(len(synthea))], *clinosim[: scaled(len(clinosim))]]
    wanted = expected(files)
    with running(tmp_path / "data", "--open") as server:
        load(server, files)
        for type_, count in wanted.items():
            page = httpx.get(f"{server.base}/{type_}?_summary=count", timeout=30).json()
            assert page["total"] == count, type_
        again = load(server, files)
        assert f"{0:>9,} stored" in again
    proven(
        "vehr load",
        "Synthea and clinosim are loaded beside the running server, then once more",
        f"{wanted.total():,} resources of {len(wanted)} types",
        "every count per type as in the sources; the second time 0 stored",
    )
