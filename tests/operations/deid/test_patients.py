"""Whole patients that we did not make: nothing of the person gets out, codes and values stay."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from test_canary import FINER_THAN_A_YEAR, YEAR, safe_harbor, without_ids
from test_validity import errors

from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from operations.anonymize import bundle
from operations.deid.run import Run

PERSONAL = frozenset(
    (
        "id", "reference", "family", "given", "text", "div", "line", "city", "display", "title",
        "data", "conclusion", "description", "serialNumber", "lotNumber", "deviceIdentifier",
        "carrierHRF", "distinctIdentifier", "subscriberId", "fullUrl", "uid", "linkId",
    )
)  # fmt: skip
"""Properties whose strings must not be found in the output, anywhere."""

CODED = frozenset(("code", "system", "country", "priority", "status", "use"))

LEFT_OUT = frozenset(("identifier", "masterIdentifier", "meta", "contact", "extension", "text"))
LEFT_OUT |= {
    "modifierExtension",
    "udiCarrier",
    "telecom",
    "photo",
    "attachment",
    "presentedForm",
    "position",
}
"""Subtrees whose codes and numbers the profile takes on purpose."""


def synthea(shared: Path, count: int) -> list[Json]:
    with gzip.open(shared / "synthea" / "bundles-00.ndjson.gz") as lines:
        return [loads(line) for line in islice(lines, count)]


def clinosim(shared: Path, count: int) -> list[Json]:
    """The first patients, each a Bundle of the resources that name them, and their hospital."""
    folder = shared / "clinosim" / "us-p400-seed7"
    with gzip.open(folder / "Patient.ndjson.gz") as lines:
        patients = [loads(line) for line in islice(lines, count)]
    entries: dict[str, list[Json]] = {f"Patient/{p['id']}": [{"resource": p}] for p in patients}
    hospital = []
    for file in sorted(folder.glob("*.ndjson.gz")):
        with gzip.open(file) as lines:
            for line in lines:
                found = re.search(rb'"Patient/[^"]+"', line)
                if found and found.group().decode().strip('"') in entries:
                    entries[found.group().decode().strip('"')].append({"resource": loads(line)})
                elif file.name.startswith(("Organization", "Practitioner", "Location")):
                    hospital.append({"resource": loads(line)})
    return [
        {"resourceType": "Bundle", "type": "collection", "entry": [*mine, *hospital[:60]]}
        for mine in entries.values()
    ]


def deidentified(source: Json) -> Json:
    return asyncio.run(bundle(safe_harbor(), [source], Run(YEAR), review=False))


def walk(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with the name of its property, and every object with its own."""
    if isinstance(node, dict):
        yield key, node
        for name, child in node.items():
            yield from walk(child, name)
    elif isinstance(node, list):
        for child in node:
            yield from walk(child, key)
    else:
        yield key, node


def clinical(node: Any) -> Any:
    """The same without what is taken on purpose."""
    if isinstance(node, dict):
        return {k: clinical(v) for k, v in node.items() if k.lstrip("_") not in LEFT_OUT}
    return [clinical(item) for item in node] if isinstance(node, list) else node


def codings(node: Any) -> Counter[tuple[str, str]]:
    return Counter(
        (value["system"], value["code"])
        for _, value in walk(clinical(node))
        if isinstance(value, dict) and value.get("system") and value.get("code")
    )


def numbers(node: Any) -> Counter[tuple[str, str]]:
    return Counter(
        (key, str(value))
        for key, value in walk(clinical(node))
        if not isinstance(value, str | dict) and value is not None
    )


def secrets(source: Json) -> set[str]:
    """Identifying strings of the source. Words that the source also has as codes say nothing."""
    found: set[str] = set()
    for key, value in walk(source):
        if isinstance(value, str) and key in PERSONAL:
            found.add(value)
        if isinstance(value, dict) and key in ("telecom", "identifier", "masterIdentifier"):
            found.add(str(value.get("value", "")))
        if isinstance(value, str) and re.match(r"\d{4}-\d\d", value):
            found.add(value)
    codes = {str(value) for key, value in walk(source) if key in CODED}
    return {secret for secret in found - codes if len(secret) > 3}


def check(source: Json) -> None:
    answer = deidentified(source)
    resources = [entry["resource"] for entry in answer["entry"][:-1]]
    assert len(resources) == len(source["entry"])
    strings = [(key, value) for key, value in walk(resources) if isinstance(value, str)]
    output = {value for key, value in strings if key not in ("resourceType", "type")}
    labels = {"anonymized", "redacted"}
    hidden = secrets(source)
    assert len(hidden) > 100
    assert not hidden & (output - labels)
    text = without_ids("\n".join(output))
    assert not FINER_THAN_A_YEAR.search(text)
    coded = "\n".join(str(value) for key, value in walk(source) if key in CODED)
    found = [secret for secret in hidden if len(secret) > 8 and secret in text]
    assert not [secret for secret in found if secret not in coded]
    before = [entry["resource"] for entry in source["entry"]]
    # Some generated resources are not valid R4: what is no element of the definitions goes.
    pairs = [pair for pair in zip(before, resources, strict=True) if not errors(pair[0])]
    assert len(pairs) > 0.9 * len(resources)
    assert codings([new for _, new in pairs]) == codings([old for old, _ in pairs])
    assert numbers([new for _, new in pairs]) == numbers([old for old, _ in pairs])


def links(answer: Json) -> Counter[bool]:
    known = {entry["fullUrl"] for entry in answer["entry"]}
    return Counter(
        value in known
        for key, value in walk(answer)
        if key == "reference" and isinstance(value, str) and not value.startswith("#")
    )


def test_synthea(shared: Path) -> None:
    for source in synthea(shared, 2):
        check(source)


def test_clinosim(shared: Path) -> None:
    for source in clinosim(shared, 2):
        check(source)


def test_links_hold(shared: Path) -> None:
    """What was linked is linked; ids are other ones in every answer."""
    source = synthea(shared, 1)[0]
    first, second = deidentified(source), deidentified(source)
    assert links(first) == links(source)
    assert not {e["fullUrl"] for e in first["entry"]} & {e["fullUrl"] for e in second["entry"]}


@pytest.mark.slow
def test_more_patients(shared: Path) -> None:
    for source in [*synthea(shared, 25), *clinosim(shared, 20)]:
        check(source)
