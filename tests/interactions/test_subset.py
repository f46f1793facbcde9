"""``_summary`` and ``_elements`` against the definitions and the official examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhir_server.definitions.registry import load
from fhir_server.formats.json import loads
from fhir_server.interactions.subset import SUBSETTED, Subsets
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest
from fhir_server.validation.validate import Validator

DEFINITIONS = load()
SUBSETS = Subsets(DEFINITIONS)
BEYOND = ("invariant", "not-found")
"""A part may lack what an invariant asks for, and what a reference in it leads to."""
PATIENT: Json = {
    "resourceType": "Patient",
    "id": "1",
    "meta": {"versionId": "3"},
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'},
    "name": [{"family": "A", "_family": {"id": "f"}}],
    "maritalStatus": {"text": "married"},
    "birthDate": "1970-01-01",
    "_birthDate": {"id": "b"},
    "photo": [{"url": "http://x", "data": "AAAA"}],
    "contact": [{"gender": "male"}],
    "communication": [{"language": {"text": "uk"}, "preferred": True}],
    "link": [{"other": {"reference": "Patient/2"}, "type": "refer"}],
    "deceasedBoolean": False,
}


def test_summary_keeps_what_is_marked() -> None:
    cut = SUBSETS.summary(PATIENT)
    assert set(cut) == {
        "resourceType", "id", "meta", "name", "birthDate", "_birthDate", "link",
        "deceasedBoolean",
    }  # fmt: skip
    assert cut["meta"] == {"versionId": "3", "tag": [SUBSETTED]}
    assert "tag" not in PATIENT["meta"]


def test_text_data_and_elements() -> None:
    assert set(SUBSETS.text(PATIENT)) == {"resourceType", "id", "meta", "text"}
    assert set(SUBSETS.data(PATIENT)) == set(PATIENT) - {"text"}
    assert set(SUBSETS.elements(["name", "Patient.deceased"])(PATIENT)) == {
        "resourceType", "id", "meta", "name", "deceasedBoolean",
    }  # fmt: skip
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    kept = SUBSETS.elements(["value"])({**observation, "valueString": "v", "note": []})
    assert set(kept) == {"resourceType", "meta", "status", "code", "valueString"}
    with pytest.raises(BadRequest):
        SUBSETS.cut("some")


def test_every_part_of_every_example_is_a_valid_resource(shared: Path) -> None:
    validator, seen = Validator(DEFINITIONS), 0
    for path in sorted((shared / "conformance" / "examples").rglob("*.json")):
        resource = loads(path.read_bytes())
        if resource["resourceType"] == "Bundle" or validator.issues(resource):
            continue
        for cut in (SUBSETS.summary, SUBSETS.text, SUBSETS.data, SUBSETS.elements(["id"])):
            part = cut({name: v for name, v in resource.items() if name != "contained"})
            issues = [i for i in validator.issues(part) if i.code not in BEYOND]
            assert not issues, (path.name, cut, issues)
        seen += 1
    assert seen > 250
