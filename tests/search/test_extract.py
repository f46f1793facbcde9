"""Extraction against a plain evaluation of the published expressions by the FHIRPath engine."""

from __future__ import annotations

import gzip
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.fhirpath.context import Context, Services
from fhir_server.fhirpath.evaluate import compile as fhirpath
from fhir_server.fhirpath.node import Node
from fhir_server.formats.json import loads
from fhir_server.model.datatypes import parse_datetime
from fhir_server.search.extract import compile_extract, local_references
from fhir_server.search.match import LISTS
from fhir_server.search.parameters import KINDS, Parameter, Site
from fhir_server.search.parameters.reference import type_of
from fhir_server.search.schema import COLUMNS
from fhir_server.search.values import DATE_MAX, DATE_MIN, IndexValues, ReferenceValue, TokenValue

from .world import BASE, EXTRACT, SCHEMA

Resource = dict[str, Any]


def examples(shared: Path) -> Iterator[Resource]:
    for file in sorted((shared / "conformance" / "examples").glob("*.json")):
        yield loads(file.read_bytes())


def clinosim(shared: Path) -> Iterator[Resource]:
    for file in sorted((shared / "clinosim").glob("*/*.ndjson.gz")):
        with gzip.open(file) as lines:
            for line in lines:
                yield loads(line)


def synthea(shared: Path) -> Iterator[Resource]:
    for file in sorted((shared / "synthea").glob("*.ndjson.gz")):
        with gzip.open(file) as lines:
            for line in lines:
                yield from (entry["resource"] for entry in loads(line)["entry"])


def resolve(reference: str) -> Resource | None:
    """A stand-in for the target: only its type matters."""
    type = type_of({"reference": reference}, BASE)
    return {"resourceType": type} if type else None


CONTEXT = Context(model=r4_model(), services=Services(resolve=resolve))


def plain(resource: Resource, expression: str) -> list[Any]:
    """``as`` on several elements is an error in FHIRPath, though search expressions mean it."""
    expression = re.sub(r"\(([^()]+) as (\w+)\)", r"\1.ofType(\2)", expression)
    expression = expression.replace(".as(", ".ofType(")
    items = []
    for branch in expression.split("|"):
        root = branch.strip(" (").partition(".")[0]
        if root in (resource["resourceType"], "Resource", "DomainResource") or root[0].islower():
            items += fhirpath(branch.strip()).items(resource, CONTEXT)
    return items


def expected(resource: Resource, parameter: Parameter, expression: str) -> set[Any]:
    """The values of a parameter under the name "", read from what the expression finds."""
    out = IndexValues()
    for item in plain(resource, expression):
        if isinstance(item, bool):
            out.tokens.append(TokenValue("", "", str(item).lower()))
            continue
        assert isinstance(item, Node)
        nodes = [item]
        if item.type == "Extension":
            nodes = [n for n in fhirpath("value").items(item, CONTEXT) if isinstance(n, Node)]
        for node in nodes:
            reader = KINDS[parameter.kind].readers.get(node.type)
            if reader is not None and node.value is not None:
                reader("", Site(BASE))(node.value, out)
    return {value for value in getattr(out, LISTS[parameter.kind]) if value.param == ""}


def extracted(values: IndexValues, parameter: Parameter) -> set[Any]:
    found = {
        value._replace(param="")
        for value in getattr(values, LISTS[parameter.kind])
        if value.param in parameter.indexes
    }
    if parameter.narrowed:
        return {v for v in found if target_type(v) in parameter.targets}
    return found


def target_type(value: ReferenceValue) -> str:
    return value.type or type_of({"reference": value.url}, BASE)


def differences(resources: Iterable[Resource]) -> list[str]:
    found = []
    for resource in resources:
        type = resource["resourceType"]
        if type not in SCHEMA.types:
            continue
        values = EXTRACT(resource)
        definitions = SCHEMA.definitions.search_parameters(type)
        for code, parameter in SCHEMA.of(type).parameters.items():
            expression = definitions[code].expression
            if code in COLUMNS or expression is None or parameter.kind not in LISTS:
                continue
            want, got = expected(resource, parameter, expression), extracted(values, parameter)
            if parameter.kind == "reference":  # the type of a contained resource is not looked up
                want = {v for v in want if not v.url.startswith("#")}
                got = {v for v in got if not v.url.startswith("#")}
            if want != got:
                found.append(f"{type}/{resource.get('id')} {code}: {got} is not {want}")
    return found


def few_of_each_type(resources: Iterable[Resource], count: int) -> Iterator[Resource]:
    seen: dict[str, int] = defaultdict(int)
    for resource in resources:
        seen[resource["resourceType"]] += 1
        if seen[resource["resourceType"]] <= count:
            yield resource


def test_examples_agree_with_fhirpath(shared: Path) -> None:
    assert differences(few_of_each_type(examples(shared), 2)) == []


@pytest.mark.slow
def test_all_examples_agree_with_fhirpath(shared: Path) -> None:
    assert differences(examples(shared)) == []


@pytest.mark.slow
@pytest.mark.parametrize("source", [clinosim, synthea])
def test_patients_agree_with_fhirpath(shared: Path, source: Any) -> None:
    assert differences(few_of_each_type(source(shared), 60)) == []


@pytest.mark.slow
def test_a_wrong_extractor_is_noticed(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhir_server.search.extract._keeps", lambda one, base: lambda value: True)
    monkeypatch.setattr(f"{__name__}.EXTRACT", compile_extract(SCHEMA, BASE))
    assert differences(few_of_each_type(examples(shared), 2)) != []


def test_main_clinical_date() -> None:
    def date(resource: Resource) -> int:
        return EXTRACT(resource).date

    start, end = parse_datetime("2024-01-01").lo, parse_datetime("2024-02-01").hi
    observation = {"resourceType": "Observation"}
    assert date(observation | {"effectiveDateTime": "2024-01-01"}) == start
    assert date(observation | {"effectivePeriod": {"start": "2024-01-01"}}) == start
    assert date(observation | {"effectivePeriod": {"end": "2024-02-01"}}) == end
    assert date(observation | {"effectivePeriod": {}}) == DATE_MIN
    assert date(observation) == DATE_MIN
    condition = {"resourceType": "Condition", "recordedDate": "2024-02-01"}
    assert date(condition | {"onsetDateTime": "2024-01-01"}) == start
    assert date({"resourceType": "MedicationRequest", "authoredOn": "2024-01-01"}) == start
    assert date({"resourceType": "Patient", "birthDate": "2024-01-01"}) == DATE_MIN


def test_every_type_with_a_date_of_an_event_has_a_main_date() -> None:
    birth = {"Patient", "Person", "RelatedPerson"}
    expiry = {"Medication", "Substance"}
    without = {
        type
        for type in SCHEMA.types
        if not SCHEMA.of(type).main_dates
        and any(
            p.kind == "date" and p.code not in COLUMNS for p in SCHEMA.of(type).parameters.values()
        )
    }
    assert without == birth | expiry


def test_patient_compartment() -> None:
    def patients(resource: Resource) -> tuple[str, ...]:
        return EXTRACT(resource).patients

    to = {"reference": "Patient/1"}
    assert patients({"resourceType": "Patient", "id": "1"}) == ("1",)
    assert patients({"resourceType": "Observation", "subject": to, "performer": [to]}) == ("1",)
    assert patients({"resourceType": "Observation", "subject": {"reference": "Group/1"}}) == ()
    own = {"reference": f"{BASE}/Patient/1"}
    assert patients({"resourceType": "Observation", "subject": own}) == ("1",)
    other = {"reference": "https://other.example.org/fhir/Patient/1"}
    assert patients({"resourceType": "Observation", "subject": other}) == ()
    assert patients({"resourceType": "Observation", "specimen": to}) == ()
    assert patients({"resourceType": "Organization", "id": "1"}) == ()


def test_timing_and_open_periods() -> None:
    timing = {
        "event": ["2024-01-02", None, "2024-01-01T00:00:00Z"],
        "repeat": {"boundsPeriod": {"end": "2024-03-01"}},
    }
    values = EXTRACT({"resourceType": "ServiceRequest", "occurrenceTiming": timing})
    assert [(d.lo, d.hi) for d in values.dates] == [(DATE_MIN, parse_datetime("2024-03-01").hi)]
    values = EXTRACT({"resourceType": "Encounter", "period": {"start": "2024"}})
    assert [(d.lo, d.hi) for d in values.dates] == [(parse_datetime("2024").lo, DATE_MAX)]


@pytest.mark.parametrize(
    "member",
    [
        {"valueQuantity": {"value": 10**400, "system": "http://unitsofmeasure.org", "code": "mg"}},
        {"valueQuantity": {"value": Decimal("1e999999"), "code": "x"}},
        {"valueQuantity": {"code": "mg"}},
        {"valueSampledData": {"origin": {"value": 0}, "data": "E nan 1e999 L", "factor": 10**400}},
        {"effectiveDateTime": "2023-02-30"},
        {"effectivePeriod": {"start": "2024-13"}},
        {"effectiveTiming": {}},
        {"subject": {"display": "x"}},
        {"subject": {"reference": "#contained"}},
        {"code": {"text": "x"}, "category": [{"coding": [{}]}]},
        {
            "extension": [
                {"url": "http://hl7.org/fhir/StructureDefinition/observation-geneticsGene"}
            ]
        },
    ],
)
def test_never_raises(member: Resource) -> None:
    EXTRACT({"resourceType": "Observation", "id": "1", **member})


def test_aliases_store_few_values() -> None:
    parameters = SCHEMA.of("Observation").parameters
    assert parameters["patient"].indexes == ("subject",)
    assert parameters["patient"].targets == ("Patient",)
    assert parameters["combo-code"].indexes == ("code", "component-code")
    values = EXTRACT(
        {
            "resourceType": "Observation",
            "subject": {"reference": "Patient/1"},
            "code": {"coding": [{"code": "x"}, {"code": "x"}]},
        }
    )
    assert values.tokens == [TokenValue("code", "", "x")]
    assert values.references == [ReferenceValue("subject", "Patient", "1", "", "")]


def test_local_references() -> None:
    resource = {
        "resourceType": "Observation",
        "subject": {"reference": "Patient/1"},
        "performer": [{"display": "x"}, {"reference": "Practitioner/2/_history/3"}],
        "contained": [{"resourceType": "Device", "patient": {"reference": "Patient/4"}}],
        "extension": [{"valueReference": {"reference": "Group/5"}}],
        "device": {"reference": "#d"},
        "encounter": {"reference": "urn:uuid:0f8fad5b-d9cb-469f-a165-70867728950e"},
        "specimen": {"reference": f"{BASE}/Specimen/6"},
    }
    assert list(local_references(resource, BASE)) == [
        ("Patient", "1", "Observation.subject"),
        ("Practitioner", "2", "Observation.performer[1]"),
        ("Patient", "4", "Observation.contained[0].patient"),
        ("Group", "5", "Observation.extension[0].valueReference"),
        ("Specimen", "6", "Observation.specimen"),
    ]
    document = {"resourceType": "Bundle", "entry": [{"resource": resource}]}
    assert list(local_references(document, BASE)) == []
