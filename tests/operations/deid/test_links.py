"""References of an answer: to its own entries by URN, to everything else by identifier."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from test_canary import YEAR, shipped

from fhir_server.definitions.packages import read_package
from fhir_server.definitions.registry import load
from fhir_server.definitions.structures import Archive
from fhir_server.formats.json import dumps, loads
from fhir_server.model.exchange import Json
from operations.anonymize import bundle
from operations.deid.engine import Deidentifier
from operations.deid.keys import ProjectKey
from operations.deid.profile import parse
from operations.deid.run import Run
from operations.deid.subjects import subject_of
from tests.validation.profile.world import World

BASE = "http://127.0.0.1:8080/fhir"
KEY = ProjectKey("study", 1, b"k" * 32)
CODES = ("limited", "research", "safe-harbor")
URIS = "urn:ietf:rfc:3986"


def run() -> Run:
    return Run(YEAR, BASE, key=KEY)


def answered(*given: Json, profile: Deidentifier | None = None, review: bool = False) -> Json:
    using = profile or shipped("safe-harbor")
    return asyncio.run(bundle(using, given, run(), review))


def observation(**references: Any) -> Json:
    code = {"coding": [{"system": "http://loinc.org", "code": "2089-1"}]}
    return {"resourceType": "Observation", "id": "o", "status": "final", "code": code} | references


def to(literal: str) -> Json:
    return {"reference": literal, "display": "Dr. Garza", "identifier": {"value": "G-1"}}


def first(answer: Json) -> Json:
    found: Json = answer["entry"][0]["resource"]
    return found


def links(node: Any) -> Iterator[Json]:
    """Every Reference, by what only References have."""
    if isinstance(node, list):
        for item in node:
            yield from links(item)
    elif isinstance(node, dict):
        named = isinstance(node.get("identifier"), dict) and "resourceType" not in node
        if isinstance(node.get("reference"), str) or named:
            yield node
        for item in node.values():
            yield from links(item)


def dangling(answer: Json) -> list[str]:
    """Literal references that nothing in the Bundle answers to."""
    known = {entry["fullUrl"] for entry in answer["entry"]}
    literal = (link.get("reference", "#") for link in links(answer))
    return [text for text in literal if not text.startswith("#") and text not in known]


def logical(link: Json, type_: str | None) -> str:
    """The code, of a reference that is this and no more."""
    value: str = link["identifier"]["value"]
    assert value.startswith("urn:uuid:")
    expected: Json = {"identifier": {"system": URIS, "value": value}}
    assert link == (expected | {"type": type_} if type_ else expected)
    return value


def test_of_one_resource_everything_is_outside() -> None:
    answer = answered(
        observation(
            subject=to("Patient/p"),
            performer=[to("Practitioner/a"), to("Practitioner/b"), to(f"{BASE}/Practitioner/a")],
            device=to("urn:uuid:5d9e8f4e-0000-4000-8000-000000000001"),
        )
    )
    seen = first(answer)
    logical(seen["subject"], "Patient")
    logical(seen["device"], None)
    one, other, again = (logical(link, "Practitioner") for link in seen["performer"])
    assert one == again != other
    assert not dangling(answer)
    assert "Garza" not in dumps(answer).decode() and "G-1" not in dumps(answer).decode()


def test_what_the_answer_holds_is_found_in_it() -> None:
    """By any name that means it; a version of it is it."""
    foreign = "https://elsewhere.example/fhir/Practitioner/a"
    urn = "urn:uuid:5d9e8f4e-0000-4000-8000-000000000001"
    mine = [
        to("Patient/p"),
        to(f"{BASE}/Patient/p"),
        to("Patient/p/_history/3"),
    ]
    theirs = [to(foreign), to(f"{foreign}/_history/1"), to("https://other.example/Practitioner/a")]
    given = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"resource": observation(focus=mine, performer=theirs, device=to(urn))},
            {"resource": {"resourceType": "Patient", "id": "p"}},
            {"fullUrl": foreign, "resource": {"resourceType": "Practitioner", "id": "a"}},
            {"fullUrl": urn, "resource": {"resourceType": "Device"}},
        ],
    }
    answer = answered(given)
    seen, patient, practitioner, device = answer["entry"][:-1]
    told = seen["resource"]
    assert {link["reference"] for link in told["focus"]} == {patient["fullUrl"]}
    assert told["device"]["reference"] == device["fullUrl"]
    *both, outside = told["performer"]
    assert {link["reference"] for link in both} == {practitioner["fullUrl"]}
    logical(outside, "Practitioner")
    assert not dangling(answer)


def test_contained_resources_are_named_as_before_and_point_outside_too() -> None:
    inner = {"resourceType": "PractitionerRole", "id": "r", "practitioner": to("Practitioner/a")}
    answer = answered(observation(contained=[inner], performer=[to("#r"), to("Practitioner/a")]))
    seen = first(answer)
    role = seen["contained"][0]
    inside, outside = seen["performer"]
    assert inside["reference"] == f"#{role['id']}"
    assert logical(role["practitioner"], "Practitioner") == logical(outside, "Practitioner")


def test_a_bundle_that_stays_one_is_read_by_itself() -> None:
    """An entry of the outer Bundle is none of the inner one's, and the other way round."""
    url = f"{BASE}/Practitioner/a"
    inner = {
        "resourceType": "Bundle",
        "id": "b",
        "type": "collection",
        "entry": [
            {"fullUrl": f"{BASE}/Observation/i", "resource": observation(id="i")},
            {"fullUrl": url, "resource": {"resourceType": "Practitioner", "id": "a"}},
        ],
    }
    inner["entry"][0]["resource"] |= {"subject": to("Patient/p"), "performer": [to(url)]}
    outer = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"resource": observation(subject=to("Patient/p"), performer=[to(url)])},
            {"resource": inner},
            {"resource": {"resourceType": "Patient", "id": "p"}},
            {"resource": observation(id="after", subject=to("Patient/p"))},
        ],
    }
    seen, kept, patient, after, _ = answered(outer)["entry"]
    assert seen["resource"]["subject"]["reference"] == patient["fullUrl"]
    assert after["resource"]["subject"]["reference"] == patient["fullUrl"]
    code = logical(seen["resource"]["performer"][0], "Practitioner")
    within = kept["resource"]["entry"][0]["resource"]
    assert within["performer"][0]["reference"] == kept["resource"]["entry"][1]["fullUrl"] == code
    assert logical(within["subject"], "Patient") == patient["fullUrl"]


def test_pseudonyms_link_answers() -> None:
    """What one answer names by identifier is what another one holds."""
    profile = shipped("research")
    alone = first(answered(observation(performer=[to("Practitioner/a")]), profile=profile))
    held = answered({"resourceType": "Practitioner", "id": "a"}, profile=profile)["entry"][0]
    assert logical(alone["performer"][0], "Practitioner") == held["fullUrl"]


def test_an_answer_whose_ids_go_is_linked_still() -> None:
    rules = [
        {"path": "nodesByType('id')", "method": "redact"},
        {"path": "nodesByType('Reference')", "method": "surrogate"},
    ]
    profile = Deidentifier(parse("own", {"url": "urn:own", "fhirPathRules": rules}), load())
    patient = {"resourceType": "Patient", "id": "p"}
    answer = answered(patient, observation(subject=to("Patient/p")), profile=profile)
    assert answer["entry"][1]["resource"]["subject"]["reference"] == answer["entry"][0]["fullUrl"]


def test_a_review_counts_the_reference_and_tells_nothing() -> None:
    given = observation(subject=to("Patient/p"))
    told = dumps(answered(given, review=True)).decode()
    assert "Observation.subject.reference" in told
    assert URIS not in told and "Garza" not in told and "Patient/p" not in told


def test_lines_of_an_export_refer_by_type() -> None:
    """What has no type cannot be found among them."""
    urn = "urn:uuid:5d9e8f4e-0000-4000-8000-000000000001"
    given = observation(subject=to("Patient/p"), device=to(urn))
    line = shipped("safe-harbor").resource(given, Run(YEAR, BASE, relative=True))
    assert (
        line["subject"]["reference"].startswith("Patient/") and "identifier" not in line["subject"]
    )
    logical(line["device"], None)


@cache
def people() -> list[list[Json]]:
    """The demo patients, each with what is about them."""
    found: dict[str, list[Json]] = {}
    file = resources.files("fhir_server") / "demo" / "patients.ndjson.gz"
    with file.open("rb") as packed, gzip.open(packed) as lines:
        for resource in map(loads, lines):
            found.setdefault(subject_of(resource, run()), []).append(resource)
    return [records for key, records in sorted(found.items()) if key.startswith("Patient/")]


def patients() -> list[Json]:
    return [one for records in people() for one in records if one["resourceType"] == "Patient"]


@pytest.fixture(scope="module")
def us_core(shared: Path) -> World:
    package = read_package(shared / "ig" / "hl7.fhir.us.core-6.1.0.tgz")
    return World([Archive(package.archive)])


def errors(world: World, resource: Json) -> list[str]:
    return [f"{one.expression}: {one.diagnostics}" for one in world.errors(resource)]


def test_demo_records_are_valid_with_us_core_and_without_loose_ends(us_core: World) -> None:
    assert len(people()) == 25
    for records in people():
        answer = answered(*records)
        assert not dangling(answer)
        assert sum("identifier" in link for link in links(answer)) > 10
        assert not errors(us_core, answer)


@pytest.mark.parametrize("code", CODES)
def test_demo_patients_are_valid_with_us_core(us_core: World, code: str) -> None:
    for patient in patients():
        made = first(answered(patient, profile=shipped(code)))
        assert {e["url"].rpartition("-")[2] for e in made["extension"]} >= {"race", "ethnicity"}
        assert not errors(us_core, made)
        assert '"valueString"' not in dumps(made["extension"]).decode()


def test_without_its_rule_the_text_is_missed(us_core: World) -> None:
    whole = shipped("safe-harbor").profile
    rules = [rule for rule in whole.rules if ".where(url = 'text')" not in rule.path]
    assert len(rules) == len(whole.rules) - 1
    mutant = Deidentifier(replace(whole, rules=tuple(rules)), load())
    found = errors(us_core, first(answered(patients()[0], profile=mutant)))
    assert len(found) == 2 and all("slice 'text' is required" in text for text in found)
