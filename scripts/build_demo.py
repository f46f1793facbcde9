"""Choose the demo patients from a clinosim data set and pack them as NDJSON.

    python scripts/build_demo.py FOLDER [--patients 25]

FOLDER holds one ``Type.ndjson.gz`` per resource type, made with clinosim (MIT):
``clinosim simulate -o OUT -p 400 -s 7 --country US --start 2025-01-01 --end 2025-12-31
--format fhir-r4``. All patients are synthetic. Chosen are those with a cholesterol result
(they have what the risk models need), then others with a record of moderate size, and
everything that their records refer to. What is not valid R4 in the export is mended: empty
and unknown elements, and DiagnosticReport.media that leads to an ImagingStudy.
"""

from __future__ import annotations

import argparse
import gzip
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fhir_server.definitions.registry import load
from fhir_server.formats.json import dumps, loads
from fhir_server.validation.repair import repair
from fhir_server.validation.validate import Validator

Json = dict[str, Any]
TARGET = Path(__file__).parents[1] / "fhir_server" / "demo" / "patients.ndjson.gz"
CHOLESTEROL = "2093-3"
MODERATE = range(60, 240)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        reference = value.get("reference")
        if isinstance(reference, str):
            yield reference
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def patient_of(resource: Json) -> str:
    for name in ("subject", "patient", "beneficiary"):
        reference = resource.get(name, {}).get("reference", "")
        if reference.startswith("Patient/"):
            return str(reference)
    return ""


def has_cholesterol(records: list[Json]) -> bool:
    return any(
        coding.get("code") == CHOLESTEROL
        for record in records
        for coding in record.get("code", {}).get("coding", ())
    )


def choose(everything: dict[str, Json], count: int) -> list[Json]:
    """The records of the chosen patients and the closure of what they refer to."""
    records: dict[str, list[Json]] = defaultdict(list)
    for resource in everything.values():
        if owner := patient_of(resource):
            records[owner].append(resource)
    ranked = sorted(
        records,
        key=lambda patient: (
            not has_cholesterol(records[patient]),
            len(records[patient]) not in MODERATE,
            patient,
        ),
    )
    wanted = ranked[:count]
    queue = [*wanted, *(key for p in wanted for key in map(key_of, records[p]))]
    chosen: dict[str, Json] = {}
    while queue:
        key = queue.pop()
        if key in chosen or key not in everything:
            continue
        chosen[key] = everything[key]
        queue.extend(references(everything[key]))
    return [chosen[key] for key in sorted(chosen)]


def key_of(resource: Json) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def mended(resource: Json) -> Json:
    """A valid resource; SystemExit names one that cannot be mended."""
    definitions = load()
    resource.pop("media", None)
    valid = repair(resource, definitions).resource
    if issues := Validator(definitions).issues(valid):
        raise SystemExit(f"{key_of(resource)}: {issues}")
    return valid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=25)
    arguments = parser.parse_args()
    everything: dict[str, Json] = {}
    for path in sorted(arguments.folder.glob("*.ndjson.gz")):
        with gzip.open(path) as lines:
            for line in lines:
                resource = loads(line)
                everything[key_of(resource)] = resource
    chosen = [mended(resource) for resource in choose(everything, arguments.patients)]
    text = b"".join(dumps(resource) + b"\n" for resource in chosen)
    TARGET.write_bytes(gzip.compress(text, 9, mtime=0))
    print(f"{len(chosen)} resources, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
