"""Every model on synthetic patients that we did not make: a result, or the reason for none."""

from __future__ import annotations

import gzip
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from predicting import Road, World, of_type, parameters, predict

from fhir_server.formats.json import loads

pytestmark = pytest.mark.usefixtures("each_store")

Json = dict[str, Any]
READ = frozenset({"Observation", "Condition", "MedicationRequest", "MedicationStatement"})


def synthea(shared: Path, count: int) -> Iterator[Json]:
    """Transaction Bundles, whose references are urn:uuid."""
    for path in sorted((shared / "synthea").glob("bundles-*.ndjson.gz")):
        with gzip.open(path, "rb") as lines:
            for line in lines:
                if not count:
                    return
                count -= 1
                entries = [e for e in loads(line)["entry"] if _kept(e["resource"])]
                yield {"resourceType": "Bundle", "type": "collection", "entry": _plain(entries)}


def _kept(resource: Json) -> bool:
    return resource["resourceType"] in READ | {"Patient", "Medication"}


def _plain(entries: list[Json]) -> list[Json]:
    return [{"fullUrl": e["fullUrl"], "resource": e["resource"]} for e in entries]


def clinosim(shared: Path, count: int) -> Iterator[list[Json]]:
    """The resources of one patient, the patient as ``p``."""
    folder = shared / "clinosim" / "us-p400-seed7"
    of: dict[str, list[Json]] = defaultdict(list)
    for type_ in ("Patient", "Observation", "Condition", "MedicationRequest"):
        with gzip.open(folder / f"{type_}.ndjson.gz", "rb") as lines:
            for line in lines:
                resource = loads(line)
                if type_ == "Patient":
                    of[resource["id"]] = [resource | {"id": "p"}]
                    continue
                id_ = resource["subject"]["reference"].removeprefix("Patient/")
                if id_ in of:
                    own = {"reference": "Patient/p"}
                    of[id_].append({**resource, "subject": own})
    yield from list(of.values())[:count]


def last(resources: list[Json]) -> str:
    """The moment of the newest observation, so that what is due within a day is there."""
    dates = [r["effectiveDateTime"] for r in resources if "effectiveDateTime" in r]
    instants = sorted(d for d in dates if len(d) > 10)
    return instants[-1] if instants else "2026-01-01T00:00:00Z"


def accounted(bundle: Json, seen: Counter[str]) -> None:
    """Each model has a result or an issue that names it and says why."""
    results = of_type(bundle, "RiskAssessment") + of_type(bundle, "Observation")
    found = Counter(r["method"]["coding"][0]["code"] for r in results)
    issues = [i for o in of_type(bundle, "OperationOutcome") for i in o["issue"]]
    assert all(i["severity"] in ("warning", "information") for i in issues)
    refused = {i["diagnostics"].partition(": ")[0]: i["diagnostics"] for i in issues}
    for model in Road.models.names():
        assert found[model] == 1 or len(refused[model]) > len(model) + 10, model
    for result in results:
        for prediction in result.get("prediction", ()):
            assert 0 <= prediction["probabilityDecimal"] <= 1
    seen.update(found)


@pytest.mark.slow
def testsynthea(shared: Path) -> None:
    empty = World([])
    seen: Counter[str] = Counter()
    for bundle in synthea(shared, 75):
        moment = last([e["resource"] for e in bundle["entry"]])
        asked = parameters(data=bundle, asOf=moment)
        accounted(predict([], asked, level="type", world=empty), seen)
    assert seen.keys() >= {"ckd-epi-2021", "framingham-bmi", "prevent", "charlson", "fib-4"}, seen


@pytest.mark.slow
def test_clinosim_from_the_store(shared: Path) -> None:
    seen: Counter[str] = Counter()
    for resources in clinosim(shared, 40):
        world = World(resources)
        accounted(predict([], parameters(asOf=last(resources)), world=world), seen)
    assert seen.keys() >= {"ckd-epi-2021", "framingham-bmi", "news2", "qsofa", "charlson"}, seen
