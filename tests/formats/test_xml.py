"""FHIR XML against the official examples: there and back, order shuffled, hostile documents."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from fhir_server.definitions.registry import load
from fhir_server.formats import json, xml
from fhir_server.model.problem import BadRequest, Problem

DEFINITIONS = load()
LARGE = 400_000


def examples(shared: Path) -> list[Path]:
    return sorted((shared / "conformance" / "examples").rglob("*.json"))


def shuffled(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(name, shuffled(inner, rng)) for name, inner in value.items()]
        rng.shuffle(items)
        return dict(items)
    return [shuffled(item, rng) for item in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_every_example_there_and_back_also_shuffled(shared: Path) -> None:
    rng, seen = random.Random(4), 0
    for path in examples(shared):
        text = path.read_bytes()
        if len(text) > LARGE:
            continue
        resource = json.loads(text)
        document = xml.dumps(shuffled(resource, rng), DEFINITIONS)
        assert xml.loads(document, DEFINITIONS) == resource, path.name
        assert xml.dumps(xml.loads(document, DEFINITIONS), DEFINITIONS) == document, path.name
        seen += 1
    assert seen > 300


def test_decimals_and_siblings_are_kept() -> None:
    text = (
        b'{"resourceType":"Observation","status":"final","code":{"text":"a\\n\\"b\\" <&> c"},'
        b'"_effectiveDateTime":{"id":"x"},"valueQuantity":{"value":1.500},'
        b'"note":[{"text":"n","_text":{"extension":[{"url":"http://u","valueDecimal":1e2}]}}],'
        b'"category":[{"id":"c1","coding":[{"code":"a"}]}]}'
    )
    resource = json.loads(text)
    assert json.dumps(xml.loads(xml.dumps(resource, DEFINITIONS), DEFINITIONS)) == json.dumps(
        {name: resource[name] for name in ORDER}
    )


ORDER = (
    "resourceType",
    "status",
    "category",
    "code",
    "_effectiveDateTime",
    "valueQuantity",
    "note",
)


def test_null_padding() -> None:
    resource = {
        "resourceType": "Patient",
        "name": [{"given": ["A", None, "C"], "_given": [None, {"id": "g"}, None]}],
    }
    assert xml.loads(xml.dumps(resource, DEFINITIONS), DEFINITIONS) == resource


HOSTILE = {
    "doctype": '<!DOCTYPE p SYSTEM "http://127.0.0.1/x"><Patient xmlns="http://hl7.org/fhir"/>',
    "entity": '<!DOCTYPE p [<!ENTITY a "b">]><Patient xmlns="http://hl7.org/fhir"/>',
    "undefined entity": '<Patient xmlns="http://hl7.org/fhir"><id value="&x;"/></Patient>',
    "not closed": '<Patient xmlns="http://hl7.org/fhir">',
    "other namespace": '<Patient xmlns="http://example.org"/>',
    "no namespace": "<Patient/>",
    "xinclude": '<Patient xmlns="http://hl7.org/fhir" xmlns:xi="http://www.w3.org/2001/XInclude">'
    '<xi:include href="file:///etc/passwd"/></Patient>',
    "text": '<Patient xmlns="http://hl7.org/fhir">text</Patient>',
    "empty": "",
    "nested": '<Patient xmlns="http://hl7.org/fhir">' + "<a>" * 100_000,
    "attribute twice": '<Patient xmlns="http://hl7.org/fhir"><id value="1" value="2"/></Patient>',
    "utf-16": '<?xml version="1.0" encoding="UTF-16"?><Patient xmlns="http://hl7.org/fhir"/>',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_are_refused_at_once(name: str) -> None:
    body = HOSTILE[name].encode("utf-16" if name == "utf-16" else "utf-8")
    start = time.process_time()
    with pytest.raises(BadRequest):
        xml.loads(body, DEFINITIONS)
    assert time.process_time() - start < 1


def test_many_attributes_and_a_large_body() -> None:
    many = " ".join(f'a{n}="1"' for n in range(200_000))
    for large in (f'<Patient xmlns="http://hl7.org/fhir" {many}/>'.encode(), b" " * 11_000_000):
        with pytest.raises(Problem):
            xml.loads(large, DEFINITIONS)


def test_unknown_content_is_kept_for_validation() -> None:
    document = (
        b'<Patient xmlns="http://hl7.org/fhir" odd="1"><nope value="x"/><gender value="male"/>'
        b'<gender value="female"/><active value="yes"/></Patient>'
    )
    assert xml.loads(document, DEFINITIONS) == {
        "resourceType": "Patient",
        "@odd": "1",
        "nope": "x",
        "gender": ["male", "female"],
        "active": "yes",
    }
