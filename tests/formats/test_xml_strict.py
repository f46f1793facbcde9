"""What is XML but not FHIR's is refused, never dropped or taken for something else.

https://hl7.org/fhir/R4/xml.html
"""

from __future__ import annotations

import codecs
from functools import partial

import pytest

from fhir_server.definitions.registry import load
from fhir_server.formats import xml
from fhir_server.model.problem import BadRequest, Problem
from tests.serving import Json

FHIR = 'xmlns="http://hl7.org/fhir"'
XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'
loads = partial(xml.loads, definitions=load())


def patient(inner: str, attributes: str = "") -> bytes:
    return f"<Patient {FHIR}{attributes}>{inner}</Patient>".encode()


def narrative(div: str) -> bytes:
    return patient(f'<text><status value="generated"/>{div}</text>')


@pytest.mark.parametrize(
    ("document", "kept"),
    [
        (patient('<name use="official"/>'), {"name": [{"@use": "official"}]}),
        (patient("", ' id="x"'), {"@id": "x"}),
        (patient("", ' resourceType="Person"'), {"@resourceType": "Person"}),
        (patient('<name><id value="x"/></name>'), {"name": [{"<id>": "x"}]}),
        (patient('<_active id="x"/>'), {"<_active>": {"@id": "x"}}),
        (patient('<resourceType value="Person"/>'), {"<resourceType>": "Person"}),
        (patient("<active/>"), {"_active": {}}),
        (patient("<name><given/><family/></name>"), {"name": [{"_family": {}, "_given": [{}]}]}),
        (
            narrative(f"<div {XHTML}>a</div><div {XHTML}>b</div>"),
            {
                "text": {
                    "status": "generated",
                    "div": [f"<div {XHTML}>a</div>", f"<div {XHTML}>b</div>"],
                }
            },
        ),
    ],
)
def test_what_is_not_fhirs_is_left_for_validation_to_refuse(document: bytes, kept: Json) -> None:
    assert loads(document) == {"resourceType": "Patient", **kept}


@pytest.mark.parametrize(
    "inner",
    [
        '<Patient><id value="a"/></Patient><Patient><id value="b"/></Patient>',
        '<Patient><active value="true"/></Patient><Group/>',
    ],
)
@pytest.mark.parametrize("attributes", ["", ' id="x"'])
def test_one_resource_is_in_one_place(inner: str, attributes: str) -> None:
    one = inner.partition("</Patient>")[0] + "</Patient>"
    for content in (inner, one) if attributes else (inner,):
        with pytest.raises(Problem) as refused:
            loads(patient(f"<contained{attributes}>{content}</contained>"))
        assert refused.value.status == 422
    assert "contained" in loads(patient(f"<contained>{one}</contained>"))


@pytest.mark.parametrize(
    ("document", "div"),
    [
        (narrative(f"<div {XHTML}/>"), f"<div {XHTML}/>"),
        (narrative(f"<div {XHTML}><br/></div>"), f"<div {XHTML}><br/></div>"),
        (
            patient(
                '<text><status value="generated"/><h:div><h:p title="1 &lt; &quot;2&quot;" '
                'xml:lang="en">a &amp; b<h:br/></h:p></h:div></text>',
                ' xmlns:h="http://www.w3.org/1999/xhtml"',
            ),
            f'<div {XHTML}><p title="1 &lt; &quot;2&quot;" xml:lang="en">a &amp; b<br/></p></div>',
        ),
        (
            f'<f:Patient xmlns:f="http://hl7.org/fhir" {XHTML}><f:text>'
            '<f:status value="generated"/>'
            "<div><b/>x</div></f:text></f:Patient>".encode(),
            f"<div {XHTML}><b/>x</div>",
        ),
    ],
)
def test_narrative_stands_by_itself(document: str | bytes, div: str) -> None:
    document = document.encode() if isinstance(document, str) else document
    assert loads(document)["text"] == {"status": "generated", "div": div}


@pytest.mark.parametrize("inner", ["<x/>", '<h:p f:a="b"/>'])
def test_narrative_of_another_namespace(inner: str) -> None:
    spaces = ' xmlns:h="http://www.w3.org/1999/xhtml" xmlns:f="urn:f"'
    with pytest.raises(BadRequest, match="not in XHTML's"):
        loads(patient(f"<text><h:div>{inner}</h:div></text>", spaces))


def declared(encoding: str) -> bytes:
    return f'<?xml version="1.0" encoding="{encoding}"?>'.encode()


def test_only_utf_8_is_declared() -> None:
    name = patient('<name><family value="Ä€ж"/></name>')
    for right in (b"", codecs.BOM_UTF8, declared("UTF-8"), codecs.BOM_UTF8 + declared("utf-8")):
        assert loads(right + name)["name"] == [{"family": "Ä€ж"}]
    for wrong in ("ISO-8859-1", "windows-1252", "utf-7", "UTF-16", "x-none"):
        with pytest.raises(BadRequest, match="must be in UTF-8"):
            loads(declared(wrong) + patient('<active value="true"/>'))
