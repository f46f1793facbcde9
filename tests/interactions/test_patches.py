"""The public patch suites (HL7 fhir-test-cases, r4/patch), and what must be refused."""

from __future__ import annotations

import json as stdlib
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from fhir_server.definitions.registry import load
from fhir_server.formats import json, xml
from fhir_server.interactions.patches import fhirpath_patch, json_patch, xml_patch
from fhir_server.model.problem import BadRequest, Problem, Unprocessable

DEFINITIONS = load()
FHIR = "{http://hl7.org/fhir}"


def resource_in(case: Any, name: str) -> Any:
    found = case.find(name)
    return xml.loads(etree.tostring(found[0], encoding="UTF-8"), DEFINITIONS)


def fhirpath_failures(shared: Path, flip: bool = False) -> list[str]:
    suite = etree.parse(str(shared / "conformance" / "patch" / "fhir-patch-tests.xml"))
    failures = []
    for case in suite.getroot().iter("case"):
        given, wanted = resource_in(case, "input"), resource_in(case, "output")
        before = stdlib.dumps(given, default=str)
        result = fhirpath_patch.apply(given, resource_in(case, "diff"), DEFINITIONS)
        assert stdlib.dumps(given, default=str) == before
        if (result == wanted) == flip:
            failures.append(case.get("name"))
    return failures


def test_fhirpath_patch_suite(shared: Path) -> None:
    assert fhirpath_failures(shared) == []
    assert len(fhirpath_failures(shared, flip=True)) == 17


def json_failures(shared: Path, flip: bool = False) -> list[str]:
    suite = stdlib.loads((shared / "conformance" / "patch" / "json-patch-tests.json").read_text())
    failures = []
    for case in suite:
        try:
            result = json_patch.apply_operations(case["doc"], case["patch"])
            good = "error" not in case and result == case["expected"]
        except Problem:
            good = "error" in case
        if good == flip:
            failures.append(case["comment"])
    return failures


def test_json_patch_suite(shared: Path) -> None:
    assert json_failures(shared) == []
    assert len(json_failures(shared, flip=True)) == 8


def canonical(node: Any) -> bytes:
    text: bytes = etree.tostring(node, method="c14n2", strip_text=True)
    return text


def xml_failures(shared: Path, flip: bool = False) -> list[str]:
    suite = etree.parse(str(shared / "conformance" / "patch" / "xml-patch-tests.xml"))
    failures = []
    for case in suite.getroot().iter("case"):
        target = etree.fromstring(etree.tostring(case.find("target")[0]))
        patch = etree.tostring(case.find(f"{FHIR}patch"))
        try:
            result = canonical(xml_patch.apply_tree(target, patch))
            wanted = case.find("patched")
            good = wanted is not None and result == canonical(
                etree.fromstring(etree.tostring(wanted[0]))
            )
        except Problem:
            good = case.find("error") is not None
        if good == flip:
            failures.append(case.get("name"))
    return failures


def test_xml_patch_suite(shared: Path) -> None:
    assert xml_failures(shared) == []
    assert len(xml_failures(shared, flip=True)) == 15


PATIENT = {"resourceType": "Patient", "id": "1", "name": [{"family": "A", "given": ["B"]}]}


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"{}", BadRequest),
        (b"[1]", BadRequest),
        (b'[{"op":"nope","path":"/a"}]', BadRequest),
        (b'[{"op":"test","path":"/id","value":"2"}]', Unprocessable),
        (b'[{"op":"remove","path":"/nope"}]', Unprocessable),
        (b'[{"op":"remove","path":""}]', Unprocessable),
        (b'[{"op":"replace","path":"","value":3}]', Unprocessable),
        (b'[{"op":"add","path":"/name/9","value":{}}]', Unprocessable),
        (b'[{"op":"add","path":"/id/0","value":{}}]', Unprocessable),
        (b'[{"op":"add","path":5,"value":{}}]', BadRequest),
        (b'[{"op":"add","path":"/a","value":1},{"op":"add","op":"add"}]', BadRequest),
        (b"[" * 100 + b"]" * 100, BadRequest),
        (b'[],"a":1', BadRequest),
        (b"", BadRequest),
    ],
)
def test_bad_json_patches(document: bytes, problem: type[Problem]) -> None:
    with pytest.raises(problem):
        json_patch.apply(PATIENT, document, DEFINITIONS)


def parameters(type_: str, **parts: object) -> bytes:
    made = [{"name": "type", "valueCode": type_}]
    for name, value in parts.items():
        key = "valueInteger" if isinstance(value, int) else "valueString"
        made.append({"name": name, key: value})  # type: ignore[dict-item]
    return json.dumps(
        {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": made}]}
    )


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b'{"resourceType":"Patient"}', BadRequest),
        (b'{"resourceType":"Parameters","parameter":[{"name":"x"}]}', BadRequest),
        (parameters("nope", path="Patient"), BadRequest),
        (parameters("add", path="Patient"), BadRequest),
        (parameters("add", path="Patient.", name="active"), BadRequest),
        (parameters("add", path="Patient.nope", name="active", value="a"), Unprocessable),
        (parameters("add", path="Patient", name="nope", value="a"), Unprocessable),
        (parameters("add", path="Patient", name="id", value="a"), Unprocessable),
        (parameters("replace", path="Patient", value="a"), Unprocessable),
        (parameters("delete", path="Patient"), Unprocessable),
        (parameters("insert", path="Patient.name", index=5, value="a"), Unprocessable),
        (parameters("insert", path="Patient.contact", index=0, value="a"), Unprocessable),
        (parameters("move", path="Patient.name", source=0, destination=4), Unprocessable),
        (parameters("move", path="Patient.id", source=0, destination=0), Unprocessable),
    ],
)
def test_bad_fhirpath_patches(document: bytes, problem: type[Problem]) -> None:
    with pytest.raises(problem):
        fhirpath_patch.apply_json(PATIENT, document, DEFINITIONS)


def test_choice_types_and_primitive_extensions() -> None:
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "_status": {"id": "s"},
        "valueString": "a",
        "_valueString": {"id": "v"},
    }
    patch = (
        b'{"resourceType":"Parameters","parameter":[{"name":"operation","part":['
        b'{"name":"type","valueCode":"replace"},{"name":"path","valueString":"Observation.value"},'
        b'{"name":"value","valueQuantity":{"value":1.50}}]},{"name":"operation","part":['
        b'{"name":"type","valueCode":"delete"},{"name":"path","valueString":"Observation.status"}'
        b"]}]}"
    )
    result = fhirpath_patch.apply_json(observation, patch, DEFINITIONS)
    assert json.dumps(result) == (b'{"resourceType":"Observation","valueQuantity":{"value":1.50}}')


@pytest.mark.parametrize(
    "selector",
    [
        "//f:name",
        "f:Patient/f:name[count(//*)>1]",
        "id('x')",
        "f:Patient/../x",
        "",
        "f:Patient/f:q",
    ],
)
def test_bad_selectors(selector: str) -> None:
    document = f'<diff><remove sel="{selector}"/></diff>'.encode()
    with pytest.raises(Problem):
        xml_patch.apply(PATIENT, document, DEFINITIONS)


def test_xml_patch_changes_a_resource() -> None:
    document = (
        b'<diff xmlns="http://hl7.org/fhir" xmlns:p="http://hl7.org/fhir">'
        b'<replace sel="f:Patient/f:name[1]/p:family/@value">C</replace>'
        b'<add sel="f:Patient/f:name[f:family/@value=\'C\']" pos="after">'
        b'<birthDate value="1970-01-01"/></add></diff>'
    )
    assert xml_patch.apply(PATIENT, document, DEFINITIONS) == {
        "resourceType": "Patient",
        "id": "1",
        "name": [{"family": "C", "given": ["B"]}],
        "birthDate": "1970-01-01",
    }
