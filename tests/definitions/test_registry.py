"""The compiled R4 definitions, against the specification and a second opinion."""

from __future__ import annotations

import gzip
import json
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fhir_server.definitions import registry
from fhir_server.definitions.elements import Element, Package
from fhir_server.definitions.registry import Definitions, load
from fhir_server.fhirpath.parse import parse


@pytest.fixture(scope="module")
def r4() -> Definitions:
    return load()


@pytest.fixture(scope="module")
def schema(shared: Path) -> dict[str, Any]:
    packed = (shared / "fhir-r4" / "fhir.schema.json.gz").read_bytes()
    loaded: dict[str, Any] = json.loads(gzip.decompress(packed))
    return loaded


def test_the_artefact_is_small_and_quick() -> None:
    artefact = Path(registry.__file__).with_name(registry.ARTEFACT)
    assert artefact.stat().st_size < 2_500_000
    start = time.process_time()
    load.__wrapped__()
    assert time.process_time() - start < 1


def test_types(r4: Definitions) -> None:
    assert len(r4.resource_types) == 146
    assert {"Patient", "Parameters", "Bundle", "Binary"} <= r4.resource_types
    assert not {"Resource", "DomainResource", "Event"} & r4.resource_types
    assert r4.type("Age").base == "Quantity" and r4.type("Resource").base is None
    assert r4.ancestors("Patient") == ("Patient", "DomainResource", "Resource")
    assert r4.is_a("code", "string") and not r4.is_a("Bundle", "DomainResource")
    assert r4.type("DomainResource").abstract and r4.type("uuid").kind == "primitive-type"


def test_an_element_as_the_specification_prints_it(r4: Definitions) -> None:
    value = r4.element("Observation.value[x]")
    assert (value.name, value.min, value.max, value.choice) == ("value", 0, 1, True)
    assert [t.code for t in value.types][:3] == ["Quantity", "CodeableConcept", "string"]
    status = r4.element("Observation.status")
    assert status.binding is not None and status.binding.strength == "required"
    assert (status.min, status.summary, status.modifier) == (1, True, True)
    subject = r4.element("Observation.subject")
    assert subject.types[0].targets == ("Patient", "Group", "Device", "Location")
    assert r4.element("Observation.focus").types[0].targets == ()
    assert r4.element("Observation.focus").max is None
    assert r4.element("Extension.url").representation == "xmlAttr"
    assert r4.element("Extension.url").types[0].code == "uri"


def test_children_and_members(r4: Definitions) -> None:
    names = [c.name for c in r4.children("Observation.component")]
    assert names[:3] == ["id", "extension", "modifierExtension"]
    assert r4.children("Observation.component.referenceRange") == r4.children(
        "Observation.referenceRange"
    )
    assert r4.children("Questionnaire.item.item") == r4.children("Questionnaire.item")
    assert r4.children("Observation.code") == r4.children("CodeableConcept")
    element, type_ = r4.members("Observation")["valueQuantity"]
    assert element.path == "Observation.value[x]" and type_.code == "Quantity"
    assert r4.members("Bundle.entry")["link"][1].code == "BackboneElement"
    with pytest.raises(KeyError):
        r4.children("Observation.value[x]")
    with pytest.raises(KeyError):
        r4.children("Nothing")


def _all_elements(r4: Definitions) -> list[Element]:
    return [e for t in r4.types.values() for e in t.elements.values()]


def test_every_element_leads_somewhere(r4: Definitions) -> None:
    for element in _all_elements(r4):
        assert all(t.code in r4.types for t in element.types), element.path
        assert element.choice or len(element.types) <= 1, element.path
        assert element.max is None or element.max >= element.min
        if element.content_reference is not None:
            assert r4.element(element.content_reference).content_reference is None
        if element.types and not element.choice:
            assert r4.children(element.path)
        for type_ in element.types:
            assert r4.resource_types.issuperset(type_.targets)


def test_members_agree_with_the_official_json_schema(
    r4: Definitions, schema: dict[str, Any]
) -> None:
    """Every property of every schema definition, and for each whether it repeats."""
    compared = 0
    for path in _paths_with_members(r4):
        properties = _schema_properties(schema, path)
        members = r4.members(path)
        # The schema lets the inner elements of datatypes have modifierExtension; in the
        # definitions their type is Element, which has none.
        extra = {"modifierExtension"} if _is_inner_of_datatype(r4, path) else set()
        assert set(members) == set(properties) - extra, path
        for name, (element, _) in members.items():
            repeats = properties[name].get("type") == "array"
            assert (element.max != 1) == repeats, (path, name)
            compared += 1
    assert compared > 6000


def _is_inner_of_datatype(r4: Definitions, path: str) -> bool:
    types = r4.element(path).types
    return bool(types) and types[0].code == "Element"


def _paths_with_members(r4: Definitions) -> list[str]:
    return [
        path
        for type_ in r4.types.values()
        if type_.kind != "primitive-type" and type_.name not in NOT_IN_SCHEMA
        for path, element in type_.elements.items()
        if path == type_.name
        or (element.types and element.types[0].code in ("BackboneElement", "Element"))
    ]


# Abstract types, and those that the schema gives no properties of their own.
NOT_IN_SCHEMA = {"Resource", "DomainResource", "BackboneElement", "Element"}


def _schema_definition(schema: dict[str, Any], path: str) -> dict[str, Any]:
    """Followed along the references, for nested names are the schema's own."""
    name, *rest = path.split(".")
    found: dict[str, Any] = schema["definitions"][name]
    for part in rest:
        member = found["properties"][part]
        reference = member.get("items", member)["$ref"]
        found = schema["definitions"][reference.rpartition("/")[2]]
    return found


def _schema_properties(schema: dict[str, Any], path: str) -> dict[str, Any]:
    properties = _schema_definition(schema, path)["properties"]
    return {n: p for n, p in properties.items() if n[0] != "_" and "const" not in p}


def test_required_elements_agree_with_the_schema(r4: Definitions, schema: dict[str, Any]) -> None:
    """The schema demands what is required and not primitive (that may be in ``_name``).

    It takes canonical and xhtml for complex types.
    """
    for path in _paths_with_members(r4):
        demanded = set(_schema_definition(schema, path).get("required", ())) - {"resourceType"}
        expected = {
            n
            for n, (e, t) in r4.members(path).items()
            if e.min > 0
            and not e.choice
            and (r4.type(t.code).kind != "primitive-type" or t.code in ("canonical", "xhtml"))
        }
        assert demanded == expected, path


def test_primitive_patterns(r4: Definitions) -> None:
    for name, type_ in r4.types.items():
        if type_.kind == "primitive-type" and type_.pattern is not None:
            re.compile(type_.pattern)
            assert r4.primitive_pattern(name) == type_.pattern
    pattern = r4.primitive_pattern("id")
    assert pattern and re.fullmatch(pattern, "a-1.B") and not re.fullmatch(pattern, "a_b")
    assert r4.primitive_pattern("xhtml") is None


def test_value_sets_of_required_bindings(r4: Definitions) -> None:
    gender = "http://hl7.org/fhir/ValueSet/administrative-gender"
    assert r4.value_set_codes(gender) == {"male", "female", "other", "unknown"}
    assert r4.value_set_systems(gender) == {
        "http://hl7.org/fhir/administrative-gender": r4.value_set_codes(gender)
    }
    required = {
        e.binding.value_set
        for e in _all_elements(r4)
        if e.binding and e.binding.strength == "required"
    }
    assert len(required) == 224  # and one more of a logical model
    assert {u for u in required if r4.value_set_codes(u) is None} == {
        "http://hl7.org/fhir/ValueSet/currencies",
        "http://hl7.org/fhir/ValueSet/mimetypes",
        "http://hl7.org/fhir/ValueSet/ucum-units",
        "http://loinc.org/vs/LL379-9",
    }
    assert all(r4.value_set_codes(u) != frozenset() for u in required)
    assert r4.value_set_codes("http://example.org/unknown") is None


def test_code_systems(r4: Definitions) -> None:
    assert r4.code_system_case_sensitive("http://hl7.org/fhir/administrative-gender") is True
    assert r4.code_system_case_sensitive("http://example.org/unknown") is None


def test_search_parameters(r4: Definitions) -> None:
    patient = r4.search_parameters("Patient")
    assert {"_id", "_lastUpdated", "_text", "_filter", "name", "birthdate"} <= set(patient)
    assert "_text" not in r4.search_parameters("Bundle")
    assert patient["general-practitioner"].targets == (
        "Practitioner",
        "Organization",
        "PractitionerRole",
    )
    assert patient["_id"].expression == "Resource.id"
    assert set(r4.search_parameters("Condition")["subject"].bases) == {"Condition"}
    date = r4.search_parameters("Observation")["date"]
    assert date.type == "date" and "AllergyIntolerance" in date.bases
    assert date.comparators == ("eq", "ne", "gt", "ge", "lt", "le", "sa", "eb", "ap")
    composite = r4.search_parameters("Observation")["code-value-quantity"]
    assert [r4.search_parameter(c.definition).code for c in composite.components] == [
        "code",
        "value-quantity",
    ]


def test_every_parameter_is_usable(r4: Definitions) -> None:
    without, untargeted = set(), set()
    for type_ in r4.resource_types:
        for code, parameter in r4.search_parameters(type_).items():
            assert r4.resource_types.issuperset(parameter.targets)
            if parameter.type == "reference" and not parameter.targets:
                untargeted.add(parameter.url.rpartition("/")[2])
            assert parameter.type != "composite" or len(parameter.components) >= 2
            for component in parameter.components:
                r4.search_parameter(component.definition)
            if parameter.expression is None:
                without.add(code)
    assert without == {"_text", "_content", "_query", "_filter"}
    assert untargeted == {"RequestGroup-instantiates-canonical"}


def test_compartments(r4: Definitions) -> None:
    assert set(r4.compartments) == {
        "Patient",
        "Encounter",
        "Practitioner",
        "RelatedPerson",
        "Device",
    }
    patient = r4.compartment("Patient")
    assert patient["Patient"] == ("_id", "link")
    assert patient["Observation"] == ("subject", "performer")
    assert "Practitioner" not in patient
    assert r4.compartment("Encounter")["Encounter"] == ("_id",)
    assert r4.compartment("Device")["Device"] == ("_id",)
    for code in r4.compartments:
        for type_, parameters in r4.compartment(code).items():
            known = r4.search_parameters(type_)
            for parameter in parameters:
                assert known[parameter].type == "reference" or parameter == "_id"


def test_operations(r4: Definitions) -> None:
    operations = {(o.code, o.resources): o for o in r4.operations()}
    everything = operations["everything", ("Patient",)]
    assert everything.instance and everything.type and not everything.system
    assert {p.name for p in everything.parameters if p.use == "in"} == {
        "start",
        "end",
        "_since",
        "_type",
        "_count",
    }
    assert len(operations) >= 46


def test_constraints(r4: Definitions) -> None:
    assert [c.key for c in r4.type("Patient").constraints] == []
    assert [c.key for c in r4.element("Patient.contact").constraints] == ["pat-1"]
    assert [c.key for c in r4.type("Element").constraints] == ["ele-1"]
    assert [c.key for c in r4.type("Extension").constraints] == ["ext-1"]
    keys = [c.key for e in _all_elements(r4) for c in e.constraints]
    assert {k for k in keys if keys.count(k) > 1} == {"inv-1"}
    assert len(set(keys)) > 200


def test_every_expression_parses(r4: Definitions) -> None:
    for element in _all_elements(r4):
        for constraint in element.constraints:
            parse(constraint.expression)
    for type_ in r4.resource_types:
        for parameter in r4.search_parameters(type_).values():
            for component in parameter.components:
                parse(component.expression)
            if parameter.expression is not None:
                parse(parameter.expression)


def test_every_search_expression_covers_its_bases(r4: Definitions) -> None:
    """Each branch starts with a type, so that a resource type can take its own branches."""
    for type_ in r4.resource_types:
        for parameter in r4.search_parameters(type_).values():
            if parameter.expression is None:
                continue
            branches = re.split(r"\|(?![^(]*\))", parameter.expression)
            heads = {re.match(r"[\s(]*(\w+)", b)[1] for b in branches}  # type: ignore[index]
            assert heads == set(parameter.bases), parameter.url


def test_the_artefact_holds_nothing_unknown() -> None:
    """The records are arrays: a field more or less would shift them."""
    packed = Path(registry.__file__).with_name(registry.ARTEFACT).read_bytes()
    raw = msgspec.msgpack.decode(gzip.decompress(packed))
    assert len(raw) == len(Package.__struct_fields__)
    widths = {len(e) for t in raw[2] for e in t[4].values()}
    assert widths == {len(Element.__struct_fields__)}
