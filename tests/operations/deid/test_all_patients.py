"""``make prove``: every Synthea and clinosim patient through the same checks."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_patients import check, clinosim

from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from tests.prove.conftest import Row, proven, scaled

pytestmark = pytest.mark.prove
__all__ = ["proven"]


def all_synthea(shared: Path) -> Iterator[Json]:
    for file in sorted((shared / "synthea").glob("*.ndjson.gz")):
        with gzip.open(file) as lines:
            yield from map(loads, lines)


def test_every_synthea_patient(shared: Path, proven: Row) -> None:
    wanted, resources, done = scaled(300), 0, 0
    for source in all_synthea(shared):
        if done == wanted:
            break
        check(source)
        resources += len(source["entry"])
        done += 1
    proven(
        "$anonymize Synthea",
        "safe-harbor over whole records: identifiers searched for, codes and numbers compared",
        f"{done:,} patients, {resources:,} resources",
        "no identifying string of the source in the output, every code and number kept",
    )


def test_every_clinosim_patient(shared: Path, proven: Row) -> None:
    sources = clinosim(shared, scaled(246))
    for source in sources:
        check(source)
    resources = sum(len(source["entry"]) for source in sources)
    proven(
        "$anonymize clinosim",
        "safe-harbor over whole records: identifiers searched for, codes and numbers compared",
        f"{len(sources):,} patients, {resources:,} resources",
        "no identifying string of the source in the output, every code and number kept",
    )
