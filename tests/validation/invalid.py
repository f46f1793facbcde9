"""Resources that R4 refuses, each with the issue that must be found, by chapter of the
specification. Every case departs from a valid base in one thing only."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from .bases import CODE, XHTML, Case, narrative, observation, patient, valued
from .invalid_rules import BINDINGS, EXTENSIONS, INVARIANTS, REFERENCES

# https://hl7.org/fhir/R4/json.html
JSON: list[Case] = [
    ("no resourceType", {"id": "1"}, "required", None),
    ("unknown resourceType", {"resourceType": "Person2"}, "structure", None),
    ("abstract resourceType", {"resourceType": "DomainResource"}, "structure", None),
    ("resourceType is no string", {"resourceType": 5}, "structure", None),
    ("unknown element", patient(nickname="x"), "structure", "Patient.nickname"),
    ("fhir_comments", patient(fhir_comments=["x"]), "structure", "Patient"),
    (
        "resourceType inside an element",
        patient(name=[{"resourceType": "HumanName", "family": "x"}]),
        "structure",
        "Patient.name[0].resourceType",
    ),
    ("_name of an object", patient(_name=[{"id": "1"}]), "structure", "Patient.name"),
    ("unknown element with _", patient(_nope={"id": "1"}), "structure", "Patient"),
    ("_id", patient(_id={"id": "1"}), "structure", "Patient.id"),
    ("null", patient(active=None), "structure", "Patient.active"),
    ("null object", patient(maritalStatus=None), "structure", "Patient.maritalStatus"),
    ("empty string", patient(language=""), "value", "Patient.language"),
    ("empty array", patient(name=[]), "structure", "Patient.name"),
    ("empty object", patient(maritalStatus={}), "structure", "Patient.maritalStatus"),
    ("empty object in array", patient(name=[{}]), "structure", "Patient.name[0]"),
    ("null in array of objects", patient(name=[None]), "structure", "Patient.name[0]"),
    (
        "null in array without a sibling",
        patient(name=[{"given": [None, "x"]}]),
        "structure",
        "Patient.name[0].given[0]",
    ),
    (
        "null on both sides",
        patient(name=[{"given": [None, "x"], "_given": [None, {"id": "a"}]}]),
        "structure",
        "Patient.name[0].given[0]",
    ),
    (
        "null beside an element that has only an id",
        patient(name=[{"given": [None], "_given": [{"id": "a"}]}]),
        "invariant",
        "Patient.name[0].given[0]",
    ),
    (
        "sibling arrays of different length",
        patient(name=[{"given": ["x"], "_given": [None, {"id": "a"}]}]),
        "structure",
        "Patient.name[0].given",
    ),
    (
        "sibling is no array",
        patient(name=[{"given": ["x"], "_given": {"id": "a"}}]),
        "structure",
        "Patient.name[0].given",
    ),
    (
        "sibling array of nulls alone",
        patient(name=[{"family": "x", "_given": [None]}]),
        "structure",
        "Patient.name[0].given[0]",
    ),
    (
        "sibling with a value",
        patient(birthDate="2020", _birthDate={"value": "2020"}),
        "structure",
        "Patient.birthDate.value",
    ),
    (
        "sibling is a string",
        patient(birthDate="2020", _birthDate="x"),
        "structure",
        "Patient.birthDate",
    ),
    (
        "sibling is null",
        patient(birthDate="2020", _birthDate=None),
        "structure",
        "Patient.birthDate",
    ),
    (
        "sibling is empty",
        patient(birthDate="2020", _birthDate={}),
        "structure",
        "Patient.birthDate",
    ),
    (
        "only an id beside nothing",
        patient(_birthDate={"id": "a"}),
        "invariant",
        "Patient.birthDate",
    ),
    ("element with an id alone", patient(name=[{"id": "a"}]), "invariant", "Patient.name[0]"),
    (
        "element id with a space",
        patient(name=[{"id": "a b", "family": "x"}]),
        "value",
        "Patient.name[0].id",
    ),
]

# Cardinality, types, choices: https://hl7.org/fhir/R4/formats.html
STRUCTURE: list[Case] = [
    ("single as array", patient(gender=["male"]), "structure", "Patient.gender"),
    ("object as array", patient(maritalStatus=[CODE]), "structure", "Patient.maritalStatus"),
    ("array as single", patient(name={"family": "x"}), "structure", "Patient.name"),
    ("array as string", patient(name="x"), "structure", "Patient.name"),
    ("array in array", patient(name=[[{"family": "x"}]]), "structure", "Patient.name[0]"),
    ("object expected", patient(maritalStatus="M"), "structure", "Patient.maritalStatus"),
    ("string expected", patient(birthDate=2020), "structure", "Patient.birthDate"),
    ("boolean expected", patient(active="true"), "structure", "Patient.active"),
    ("boolean, not 1", patient(active=1), "structure", "Patient.active"),
    ("string, not object", patient(birthDate={"value": "2020"}), "structure", "Patient.birthDate"),
    (
        "required element",
        {"resourceType": "Observation", "code": CODE},
        "required",
        "Observation.status",
    ),
    (
        "required in a backbone",
        patient(link=[{"type": "seealso"}]),
        "required",
        "Patient.link[0].other",
    ),
    (
        "required choice",
        {"resourceType": "MedicationStatement", "status": "active", "subject": {"display": "x"}},
        "required",
        "MedicationStatement.medication",
    ),
    (
        "two of a choice",
        observation(valueString="x", valueInteger=1),
        "structure",
        "Observation.value",
    ),
    (
        "two of a choice, one by extension",
        observation(
            valueString="x", _valueBoolean={"extension": [{"url": "http://e.org", "valueId": "1"}]}
        ),
        "structure",
        "Observation.value",
    ),
    (
        "unknown type of a choice",
        observation(valueMoney={"value": 1}),
        "structure",
        "Observation.valueMoney",
    ),
    ("choice without a type", observation(value="x"), "structure", "Observation.value"),
    (
        "content by reference",
        observation(component=[{"code": CODE, "referenceRange": [{"nope": 1}]}]),
        "structure",
        "Observation.component[0].referenceRange[0].nope",
    ),
    (
        "deep in a value",
        observation(valueQuantity={"value": "1"}),
        "structure",
        "Observation.value.ofType(Quantity).value",
    ),
    (
        "narrative without div",
        patient(text={"status": "empty"}),
        "required",
        "Patient.text.div",
    ),
]


def _values() -> list[Case]:
    """https://hl7.org/fhir/R4/datatypes.html#primitive"""
    rows: list[tuple[str, str, Any]] = [
        ("no 30 February", "Date", "2020-02-30"),
        ("no leap day in 2021", "Date", "2021-02-29"),
        ("no leap day in 1900", "Date", "1900-02-29"),
        ("no 31 April", "DateTime", "2020-04-31T10:00:00Z"),
        ("month 13", "Date", "2020-13"),
        ("day 00", "Date", "2020-01-00"),
        ("year 0000", "Date", "0000"),
        ("year of two digits", "Date", "20"),
        ("slashes", "Date", "2020/01/01"),
        ("a date has no time", "Date", "2020-01-01T10:00:00Z"),
        ("trailing line feed", "Date", "2020-01-01\n"),
        ("other digits", "Date", "２０２０"),
        ("hour 24", "DateTime", "2020-01-01T24:00:00Z"),
        ("minute 60", "DateTime", "2020-01-01T10:60:00Z"),
        ("second 61", "DateTime", "2020-01-01T10:00:61Z"),
        ("no zone", "DateTime", "2020-01-01T10:00:00"),
        ("no seconds", "DateTime", "2020-01-01T10:00Z"),
        ("offset beyond 14:00", "DateTime", "2020-01-01T10:00:00+14:01"),
        ("offset without colon", "DateTime", "2020-01-01T10:00:00+0100"),
        ("small t and z", "DateTime", "2020-01-01t10:00:00z"),
        ("empty fraction", "DateTime", "2020-01-01T10:00:00.Z"),
        ("instant without time", "Instant", "2020-01-01"),
        ("instant on no day", "Instant", "2021-02-29T10:00:00Z"),
        ("time with a zone", "Time", "10:00:00Z"),
        ("time without seconds", "Time", "10:00"),
        ("time at 24", "Time", "24:00:00"),
        ("code with leading space", "Code", " a"),
        ("code with trailing space", "Code", "a "),
        ("code with two spaces", "Code", "a  b"),
        ("code with a tab", "Code", "a\tb"),
        ("id too long", "Id", "a" * 65),
        ("id with underscore", "Id", "a_b"),
        ("id with line feed", "Id", "a\n"),
        ("oid without urn", "Oid", "1.2.3"),
        ("oid with leading zero", "Oid", "urn:oid:1.02"),
        ("oid from 3", "Oid", "urn:oid:3.1"),
        ("uuid without urn", "Uuid", "53fefa32-fcbb-4ff8-8a92-55ee120877b7"),
        ("uuid in upper case", "Uuid", "urn:uuid:53FEFA32-fcbb-4ff8-8a92-55ee120877b7"),
        ("uri with a space", "Uri", "http://a b"),
        ("empty uri", "Uri", ""),
        ("url with a line feed", "Url", "http://a\nb"),
        ("canonical with a tab", "Canonical", "http://a\t"),
        ("base64 of wrong length", "Base64Binary", "abc"),
        ("base64 with other letters", "Base64Binary", "ab-_"),
        ("base64 with padding inside", "Base64Binary", "a===bcde"),
        ("only whitespace", "String", " \n "),
        ("only no-break spaces", "String", "\u00a0"),
        ("control character", "String", "a\x07b"),
        ("form feed", "Markdown", "a\x0cb"),
        ("integer beyond 32 bits", "Integer", 2**31),
        ("integer below 32 bits", "Integer", -(2**31) - 1),
        ("integer with a point", "Integer", Decimal("1.0")),
        ("unsignedInt below zero", "UnsignedInt", -1),
        ("positiveInt zero", "PositiveInt", 0),
        ("decimal of 200 digits", "Decimal", Decimal("1" * 200)),
        ("decimal beyond all", "Decimal", Decimal("1e100000")),
        ("a huge integer as decimal", "Decimal", 10**5000),
    ]
    types = [
        ("integer as string", "Integer", "1"),
        ("integer as boolean", "Integer", True),
        ("decimal as string", "Decimal", "1.0"),
        ("decimal as boolean", "Decimal", False),
        ("string as number", "String", 1),
        ("base64 as array", "Base64Binary", ["QQ=="]),
        ("uri as number", "Uri", 1),
        ("id as number", "Id", 1),
        ("oid as object", "Oid", {"a": 1}),
        ("code as boolean", "Code", True),
    ]
    long = [("a string beyond 1 MB", "String", "a" * (1024 * 1024 + 1))]

    def row(code: str, title: str, kind: str, value: Any) -> Case:
        type_ = kind[0].lower() + kind[1:]
        return title, valued(kind, value), code, f"Patient.extension[0].value.ofType({type_})"

    return (
        [row("value", *one) for one in rows]
        + [row("structure", *one) for one in types]
        + [row("too-long", *one) for one in long]
    )


def _narratives() -> list[Case]:
    """https://hl7.org/fhir/R4/narrative.html"""
    rows = [
        ("no root", "value", "text"),
        ("not well-formed", "value", f"<div {XHTML}><p></div>"),
        ("two roots", "value", f"<div {XHTML}>a</div><div {XHTML}>b</div>"),
        ("an entity of HTML", "value", f"<div {XHTML}>&nbsp;</div>"),
        ("root is no div", "invariant", f"<p {XHTML}>a</p>"),
        ("no namespace", "invariant", "<div>a</div>"),
        ("other namespace", "invariant", '<div xmlns="http://www.w3.org/2000/svg">a</div>'),
        ("empty", "invariant", f"<div {XHTML}> <p/> </div>"),
        ("script", "invariant", f"<div {XHTML}>a<script>x</script></div>"),
        ("SCRIPT in capitals", "invariant", f"<div {XHTML}>a<SCRIPT>x</SCRIPT></div>"),
        ("event handler", "invariant", f'<div {XHTML}><p onclick="x()">a</p></div>'),
        ("event handler on the root", "invariant", f'<div {XHTML} onload="x()">a</div>'),
        ("form", "invariant", f"<div {XHTML}><form>a</form></div>"),
        ("iframe", "invariant", f'<div {XHTML}><iframe src="a"/>a</div>'),
        ("object", "invariant", f"<div {XHTML}><object>a</object></div>"),
        ("style element", "invariant", f"<div {XHTML}><style>p {{}}</style>a</div>"),
        (
            "svg inside",
            "invariant",
            f'<div {XHTML}><svg xmlns="http://www.w3.org/2000/svg"/>a</div>',
        ),
        ("base", "invariant", f'<div {XHTML}><base href="http://e.org"/>a</div>'),
        ("javascript link", "invariant", f'<div {XHTML}><a href="javascript:x()">a</a></div>'),
        (
            "hidden javascript",
            "invariant",
            f'<div {XHTML}><a href=" java&#10;script:x()">a</a></div>',
        ),
        ("data link", "invariant", f'<div {XHTML}><a href="data:text/html,x">a</a></div>'),
        ("script as image", "invariant", f'<div {XHTML}><img src="javascript:x()"/></div>'),
        ("file as image", "invariant", f'<div {XHTML}><img src="file:///etc/x"/></div>'),
        ("image of svg data", "invariant", f'<div {XHTML}><img src="data:image/svg+xml,x"/></div>'),
        ("style that fetches", "invariant", f'<div {XHTML} style="a:url(http://e.org)">a</div>'),
        ("style that acts", "invariant", f'<div {XHTML} style="width:expression(x)">a</div>'),
        ("processing instruction", "invariant", f"<div {XHTML}><?x y?>a</div>"),
        ("document type", "invariant", f'<!DOCTYPE div [<!ENTITY a "b">]><div {XHTML}>&a;</div>'),
        (
            "prefixed elements",
            "invariant",
            '<h:div xmlns:h="http://www.w3.org/1999/xhtml">a</h:div>',
        ),
    ]
    cases = [(t, narrative(div), code, "Patient.text.div") for t, code, div in rows]
    cases.append(("div is no string", narrative(5), "structure", "Patient.text.div"))  # type: ignore[arg-type]
    cases.append(
        (
            "_div",
            patient(text={"status": "empty", "div": f"<div {XHTML}>a</div>", "_div": {"id": "a"}}),
            "structure",
            "Patient.text.div",
        )
    )
    return cases


CASES: list[Case] = [
    (f"{chapter}: {title}", resource, code, expression)
    for chapter, cases in {
        "json": JSON,
        "structure": STRUCTURE,
        "values": _values(),
        "narrative": _narratives(),
        "extensions": EXTENSIONS,
        "references": REFERENCES,
        "bindings": BINDINGS,
        "invariants": INVARIANTS,
    }.items()
    for title, resource, code, expression in cases
]
