"""Snapshots that are made of differentials are those that were published.

Stripped of their snapshots, the profiles of the core package and of guides get them back: the same
elements, and of each the same cardinality, types, fixed values, bindings, invariants and slicing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fhir_server.definitions.package import resources
from fhir_server.definitions.snapshot import SnapshotError, snapshot
from fhir_server.definitions.structures import structure
from fhir_server.formats.json import dumps

Json = dict[str, Any]

OLDER = "made by a tool of 2018/19, for which a short name (valueQuantity) always closed the choice"
LAXER = "says closed; the publisher kept what the base says, open"
TOOL = "http://hl7.org/fhir/R4/profiling.html; hl7.org: publisher's snapshot generator, 2019 on"
OLD = (
    *("bmi", "bodyheight", "bodytemp", "bodyweight", "bp", "cholesterol", "hdlcholesterol"),
    *("headcircum", "heartrate", "ldlcholesterol", "oxygensat", "resprate", "triglyceride"),
    "devicemetricobservation",
)
CORE = dict.fromkeys(OLD, (OLDER, TOOL)) | {
    "catalog": ("has no Composition.date, which is 1..1 in its base", "composition.html"),
    "elementdefinition-de": ("walks into an extension without need", "profiling.html"),
    "familymemberhistory-genetic": ("lacks 14 elements of its base", "familymemberhistory.html"),
    "provenance-relevant-history": ("a content reference to a slice", "elementdefinition.html"),
    "structuredefinition-json-type": ("types without codes", "extensibility.html"),
    "structuredefinition-rdf-type": ("types without codes", "extensibility.html"),
    "structuredefinition-xml-type": ("types without codes", "extensibility.html"),
}
NEWER = "made by a tool of 2025, which repeats in slices what is said of all items"
SDC = {
    "us-core-questionnaireresponse": (
        "its base is in hl7.fhir.uv.sdc, which is not here",
        "package.json of US Core",
    )
}
GUIDES: dict[str, dict[str, tuple[str, str]]] = {
    "hl7.fhir.us.core-6.1.0": SDC,
    "hl7.fhir.us.core-7.0.0": SDC,
    "hl7.fhir.us.core-8.0.0": SDC
    | dict.fromkeys(
        ("us-core-organization", "us-core-practitioner", "us-core-provenance"), (NEWER, TOOL)
    ),
    "hl7.fhir.uv.ips-1.1.0": {
        "Observation-results-pathology-uv-ips": (LAXER, TOOL),
        "Observation-results-laboratory-uv-ips": (LAXER, TOOL),
    },
    "hl7.fhir.uv.ipa-1.0.0": {},
}
SHORT = dict.fromkeys(
    (
        *("head-occipital-frontal-circumference-percentile", "pediatric-bmi-for-age"),
        *("pediatric-weight-for-height", "us-core-goal"),
    ),
    (OLDER, TOOL),
)
OLD_GUIDES: dict[str, dict[str, tuple[str, str]]] = {
    "hl7.fhir.us.core-3.1.1": SHORT
    | {
        "us-core-race": ("walks into a slice of an extension without need", TOOL),
        "us-core-ethnicity": ("walks into a slice of an extension without need", TOOL),
        "us-core-patient": ("has lost the binding of birthsex that its differential states", TOOL),
        "us-core-provenance": ("a content reference to a slice", "elementdefinition.html"),
    },
}
CAPS = {"core": 21, "guides": 8, "old guides": 8}
"""May only shrink."""
TEXTS = ("fixed", "pattern", "minValue", "maxValue")


def test_the_lists_only_shrink() -> None:
    assert len(CORE) <= CAPS["core"]
    assert sum(map(len, GUIDES.values())) <= CAPS["guides"]
    assert sum(map(len, OLD_GUIDES.values())) <= CAPS["old guides"]


def facts(element: Json) -> Json:
    """What an element constrains."""
    slicing = element.get("slicing")
    found: Json = {name: element.get(name) for name in ("min", "max", "maxLength")}
    found["types"] = sorted(
        (
            one.get("code", ""),
            *(tuple(sorted(one.get(k, ()))) for k in ("profile", "targetProfile", "aggregation")),
        )
        for one in element.get("type", ())
    )
    found |= {k: dumps(v) for k, v in element.items() if k.startswith(TEXTS)}
    binding = element.get("binding")
    found["binding"] = binding and (binding.get("strength"), binding.get("valueSet"))
    found["constraints"] = sorted(one["key"] for one in element.get("constraint", ()))
    found["slicing"] = slicing and (
        sorted((one["type"], one["path"]) for one in slicing.get("discriminator", ())),
        slicing.get("rules"),
        bool(slicing.get("ordered")),
    )
    found["content"] = element.get("contentReference", "").partition("#")[2]
    return found


def different(published: Json, found: list[Json]) -> list[str]:
    """The ids of elements that are not the same."""
    one = {element["id"]: facts(element) for element in published["snapshot"]["element"]}
    other = {element["id"]: facts(element) for element in found}
    return sorted(id_ for id_ in one.keys() | other.keys() if one.get(id_) != other.get(id_))


def profiles(package: Path) -> dict[str, Json]:
    with package.open("rb") as file:
        found = [one for one in resources(file) if one["resourceType"] == "StructureDefinition"]
    return {one["url"]: one for one in found if one.get("derivation") == "constraint"}


def judged(known: dict[str, Json]) -> dict[str, list[str]]:
    """name -> what is not the same."""
    wrong = {}
    for url, published in known.items():
        if "snapshot" not in published:
            continue
        stripped = {k: v for k, v in published.items() if k != "snapshot"}
        try:
            found = snapshot(stripped, lambda url: known.get(url) or structure(url))
        except SnapshotError as error:
            wrong[url.rpartition("/")[2]] = [str(error)]
            continue
        if ids := different(published, found):
            wrong[url.rpartition("/")[2]] = ids
    return wrong


@pytest.mark.parametrize("guide", GUIDES | OLD_GUIDES)
def test_guides(shared: Path, guide: str) -> None:
    found = profiles(shared / "ig" / f"{guide}.tgz")
    assert len(found) >= 12
    assert judged(found).keys() == (GUIDES | OLD_GUIDES)[guide].keys()


@pytest.mark.slow
def test_the_core_package(shared: Path) -> None:
    found = profiles(shared / "fhir-r4" / "hl7.fhir.r4.core-4.0.1.tgz")
    assert len(found) > 400
    assert judged(found).keys() == CORE.keys()


def test_a_base_that_is_not_known_is_named() -> None:
    with pytest.raises(SnapshotError, match="urn:none is not known"):
        snapshot({"url": "urn:x", "baseDefinition": "urn:none"}, structure)


def made(*elements: Json, type_: str = "Observation") -> dict[str, Json]:
    """The elements by id of a profile with this differential."""
    base = f"http://hl7.org/fhir/StructureDefinition/{type_}"
    profile = {"url": "urn:x", "baseDefinition": base, "differential": {"element": [*elements]}}
    return {one["id"]: one for one in snapshot(profile, structure)}


def test_an_element_that_is_not_there_is_named() -> None:
    with pytest.raises(SnapshotError, match="there is no colour"):
        made({"id": "Observation.colour", "path": "Observation.colour", "min": 1})


def test_a_slice_of_a_slice() -> None:
    path = "Observation.category"
    found = made(
        {"id": path, "path": path, "slicing": {"rules": "open"}},
        {"id": f"{path}:a", "path": path, "sliceName": "a", "max": "3", "min": 1},
        {"id": f"{path}:b", "path": path, "sliceName": "b"},
        {"id": f"{path}:a/x", "path": path, "sliceName": "a/x", "max": "1"},
    )
    assert [one for one in found if one.startswith(f"{path}:")] == [
        f"{path}:a",
        f"{path}:a/x",
        f"{path}:b",
    ]
    assert found[f"{path}:a"]["min"] == 1 and found[f"{path}:a/x"]["min"] == 0


def test_content_references_are_walked() -> None:
    path = "Observation.component.referenceRange.low"
    found = made({"id": path, "path": path, "min": 1})
    assert found[path]["min"] == 1
    assert found[path]["type"][0]["code"] == "Quantity"


def test_invariants_are_added_and_replaced() -> None:
    rule = {"key": "obs-6", "severity": "warning", "human": "laxer", "expression": "true"}
    own = {"key": "own-1", "severity": "error", "human": "own", "expression": "true"}
    found = made({"id": "Observation", "path": "Observation", "constraint": [rule, own]})
    keys = {one["key"]: one for one in found["Observation"]["constraint"]}
    assert keys["obs-6"]["severity"] == "warning" and keys["own-1"]["source"] == "urn:x"
    assert "obs-7" in keys
