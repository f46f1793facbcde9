"""Supplements: further names and properties of codes, where a value set asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.operations.codes.asking import CODE_SYSTEM, KINDS, codes, get, put
from tests.serving import BACKENDS, Server, served

Json = dict[str, Any]
UKRAINIAN: Json = {
    "resourceType": "CodeSystem",
    "id": "uk",
    "url": "urn:example:kinds-uk",
    "status": "active",
    "content": "supplement",
    "supplements": KINDS,
    "property": [{"code": "risk", "type": "string"}],
    "concept": [
        {
            "code": "heart",
            "designation": [{"language": "uk", "value": "Хвороба серця"}],
            "property": [{"code": "risk", "valueString": "high"}],
        },
        {"code": "unknown", "designation": [{"language": "uk", "value": "Нема"}]},
    ],
}


def value_set(name: str, include: Json, *supplements: str) -> Json:
    url = "http://hl7.org/fhir/StructureDefinition/valueset-supplement"
    extension = [{"url": url, "valueCanonical": one} for one in supplements]
    return {
        "resourceType": "ValueSet",
        "id": name,
        "url": f"urn:example:{name}",
        "status": "active",
        **({"extension": extension} if extension else {}),
        "compose": {"include": [{"system": KINDS, **include}]},
    }


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path) as server:
        put(server, CODE_SYSTEM, UKRAINIAN)
        yield server


def test_names_and_properties_are_added(server: Server) -> None:
    risky = {"filter": [{"property": "risk", "op": "=", "value": "high"}]}
    put(server, value_set("plain", {}), value_set("all", {}, UKRAINIAN["url"]))
    put(server, value_set("risky", risky, UKRAINIAN["url"]), value_set("none", risky))
    found = get(server, "ValueSet/$expand", url="urn:example:all", filter="серц")
    assert codes(found) == ["heart"]
    assert codes(get(server, "ValueSet/$expand", url="urn:example:plain", filter="серц")) == []
    found = get(server, "ValueSet/$expand", url="urn:example:risky", displayLanguage="uk")
    assert found["expansion"]["contains"][0]["display"] == "Хвороба серця"
    get(server, "ValueSet/$expand", 422, url="urn:example:none")
    whole = get(server, "ValueSet/$expand", url="urn:example:all")
    assert codes(whole) == codes(get(server, "ValueSet/$expand", url="urn:example:plain"))


def test_a_code_is_valid_under_a_name_of_the_supplement(server: Server) -> None:
    put(server, value_set("plain", {}), value_set("all", {}, UKRAINIAN["url"]))
    for name, holds in (("plain", False), ("all", True)):
        given = {"url": f"urn:example:{name}", "system": KINDS, "code": "heart"}
        said = get(server, "ValueSet/$validate-code", display="хвороба серця", **given)
        assert said["parameter"][0]["valueBoolean"] is holds


def test_what_is_no_supplement_is_refused(server: Server) -> None:
    put(server, value_set("own", {}, KINDS), value_set("lost", {}, "urn:example:lost"))
    get(server, "ValueSet/$expand", 422, url="urn:example:own")
    get(server, "ValueSet/$expand", 404, url="urn:example:lost")
