"""The envelope of a search: handling, result parameters, links, criteria."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.model.problem import BadRequest
from fhir_server.search.extract import compile_extract
from fhir_server.search.link import query_string
from fhir_server.search.match import matches
from fhir_server.search.parameters import KINDS, Context
from fhir_server.search.parameters.escape import split, unescape
from fhir_server.search.parse import parse_criteria, parse_search
from fhir_server.search.plan import (
    DEFAULT_SORT,
    TRUE,
    Any,
    IdIn,
    Include,
    InPatient,
    Not,
    NumberIs,
    QuantityIs,
    Scan,
    Search,
    SortKey,
    TokenIs,
    UpdatedIs,
)
from fhir_server.search.results import RESULTS

from .world import BASE, SCHEMA, parse


def test_unknown_parameters_are_dropped_with_a_warning_or_refused() -> None:
    parsed = parse("Patient", "foo=1&gender=male&bar:exact=2")
    assert parsed.applied == (("gender", "male"), ("_count", "20"))
    assert [w.split()[3] for w in parsed.warnings] == ["'foo'", "'bar'"]
    with pytest.raises(BadRequest, match="foo"):
        parse("Patient", "foo=1", strict=True)


def test_defaults() -> None:
    assert parse("Patient", "").search == Search((Scan("Patient"),))


def test_result_parameters() -> None:
    search = parse("Observation", "_sort=-date,_id,code&_count=7&_total=accurate").search
    assert search.sort == (
        SortKey("_main", "main", True),
        SortKey("_id", "id"),
        SortKey("code", "token"),
    )
    assert parse("Observation", "_sort=date").search.sort == (SortKey("date", "date"),)
    assert parse("Patient", "_sort=-birthdate").search.sort == (SortKey("birthdate", "date", True),)
    assert (search.count, search.total) == (7, "exact")
    assert parse("Observation", "_total=none").search.total == "none"
    assert parse("Observation", "_sort=-_lastUpdated").search.sort == (
        SortKey("_lastUpdated", "updated", True),
    )


@pytest.mark.parametrize("query", ["_count=0", "_summary=count", "_summary=count&_count=5"])
def test_counting(query: str) -> None:
    search = parse("Patient", query + "&_include=Patient:organization").search
    assert (search.count, search.total, search.includes) == (0, "exact", ())


def test_count_is_clamped_and_the_self_link_says_so() -> None:
    parsed = parse("Patient", "_count=999999&name=x")
    assert parsed.search.count == 1000
    assert query_string(parsed.applied) == "_count=1000&name=x"


def test_includes() -> None:
    assert parse("Observation", "_include=Observation:patient").search.includes == (
        Include(Scan("Observation"), "subject", (Scan("Patient"),)),
    )
    assert parse("Observation", "_include=Observation:subject:Group").search.includes == (
        Include(Scan("Observation"), "subject", (Scan("Group"),)),
    )
    assert parse("Patient", "_revinclude=Observation:subject").search.includes == (
        Include(Scan("Observation"), "subject", (Scan("Patient"),), reverse=True),
    )
    assert parse("Patient", "_include:iterate=Patient:link").search.includes == (
        Include(Scan("Patient"), "link", (Scan("Patient"), Scan("RelatedPerson")), iterate=True),
    )
    every = parse("Encounter", "_include=*").search.includes
    assert {include.param for include in every} >= {"subject", "location", "service-provider"}
    assert len({include.param for include in every}) == len(every)


def test_search_over_types() -> None:
    parsed = parse(None, "_type=Patient,Observation&_lastUpdated=ge2024")
    assert [scan.type for scan in parsed.search.scans] == ["Patient", "Observation"]
    assert all(isinstance(scan.where, UpdatedIs) for scan in parsed.search.scans)
    assert ("_type", "Patient,Observation") in parsed.applied
    assert len(parse(None, "").search.scans) == len(SCHEMA.types)
    with pytest.raises(BadRequest, match="Foo"):
        parse(None, "_type=Foo")
    with pytest.raises(BadRequest, match="gender"):
        parse(None, "_type=Patient,Observation&gender=male", strict=True)


def test_within_a_compartment_and_behind_a_cursor() -> None:
    search = parse(
        "Observation", "", within={"Observation": InPatient(("1",))}, after=("2024", 5)
    ).search
    assert search.scans == (Scan("Observation", InPatient(("1",))),)
    assert search.after == ("2024", 5)
    assert search.sort == DEFAULT_SORT


def test_common_parameters_on_every_type() -> None:
    for type in SCHEMA.types:
        for name in ("_id", "_lastUpdated", "_tag", "_profile", "_security", "_source"):
            assert name in SCHEMA.of(type).parameters
    assert parse("Basic", "_tag=urn:x|1").search.scans[0].where == TokenIs("_tag", "urn:x", "1")


def test_conditional_criteria() -> None:
    context = Context(BASE)
    scan = parse_criteria(SCHEMA, "Patient", [("_id", "1")], context)
    assert scan == Scan("Patient", IdIn(("1",)))
    for pairs in ([], [("foo", "1")], [("_count", "1")], [("_format", "json")], [("_id", "")]):
        with pytest.raises(BadRequest):
            parse_criteria(SCHEMA, "Patient", pairs, context)


def test_too_many_parameters() -> None:
    with pytest.raises(BadRequest, match="100"):
        parse("Patient", "&".join(["gender=male"] * 101))


def test_the_self_link_gives_the_same_search() -> None:
    query = "name=a\\,b%26&identifier=urn:x|A B+c&_sort=-birthdate&_include=Patient:link:Patient"
    parsed = parse("Patient", query)
    again = parse_search(
        SCHEMA,
        "Patient",
        parse_qsl(query_string(parsed.applied), strict_parsing=True),
        Context(BASE),
    )
    assert again == parsed


@given(st.text(alphabet="a,\\|$"))
def test_escapes(text: str) -> None:
    escaped = text
    for mark in ("\\", ",", "|", "$"):
        escaped = escaped.replace(mark, "\\" + mark)
    assert split(escaped, ",") == [escaped]
    assert unescape(escaped) == text


@given(st.text(), st.sampled_from(sorted(KINDS)))
def test_any_value_is_understood_or_refused(value: str, kind: str) -> None:
    names = {
        "token": ("Patient", "identifier"),
        "string": ("Patient", "name"),
        "date": ("Patient", "birthdate"),
        "reference": ("Observation", "subject"),
        "quantity": ("Observation", "value-quantity"),
        "number": ("RiskAssessment", "probability"),
        "uri": ("ValueSet", "url"),
        "composite": ("Observation", "code-value-quantity"),
        "special": ("Location", "near"),
    }
    type, name = names[kind]
    with suppress(BadRequest):
        parse_search(SCHEMA, type, [(name, value)], Context(BASE))


@given(st.text(), st.text())
def test_any_parameter_is_understood_dropped_or_refused(name: str, value: str) -> None:
    try:
        parsed = parse_search(SCHEMA, "Patient", [(name, value)], Context(BASE))
    except BadRequest:
        return
    assert parsed.applied or parsed.warnings or name.partition(":")[0] in ("_format", "_pretty")
    assert parsed.applied or parsed.search.scans[0].where == TRUE


def test_every_row_documents_itself_with_an_example_that_works() -> None:
    for name, row in {**KINDS, **RESULTS}.items():
        assert row.name == name
        assert row.description
        type, _, query = row.example.partition("?")
        assert parse(type, query, strict=True).applied


def test_what_includes_may_say() -> None:
    assert "Observation:patient" in SCHEMA.includes("Observation")
    assert "QuestionnaireResponse:questionnaire" in SCHEMA.includes("QuestionnaireResponse")
    assert "QuestionnaireResponse:questionnaire" in SCHEMA.revincludes["Questionnaire"]
    assert "Library:depends-on" in SCHEMA.revincludes["ValueSet"]
    assert "Library:depends-on" not in SCHEMA.revincludes["Patient"]
    assert "Observation:patient" in SCHEMA.revincludes["Patient"]
    assert "Observation:patient" not in SCHEMA.revincludes["Group"]
    for value in SCHEMA.includes("Observation"):
        assert parse("Observation", f"_include={value}").search.includes
    for value in SCHEMA.revincludes["Patient"]:
        assert parse("Patient", f"_revinclude={value}").search.includes


@pytest.mark.parametrize(
    "query",
    [
        "subject." * 4 + "subject=1",
        "&".join(["subject=" + ",".join(map(str, range(1000)))] * 99),
    ],
)
def test_the_plan_cannot_grow_without_bound(query: str) -> None:
    with pytest.raises(BadRequest, match="too large"):
        parse("Basic", query + "&subject.subject=" + ",".join(map(str, range(1000))))


def test_dates_without_a_zone_are_stored_and_searched_in_the_same_zone() -> None:
    zone = ZoneInfo("Europe/Kyiv")
    extract = compile_extract(SCHEMA, zone=zone)
    born = extract({"resourceType": "Patient", "id": "1", "birthDate": "1970-05-01"})
    seen = extract(
        {"resourceType": "Observation", "effectiveDateTime": "2024-01-01T00:30:00+02:00"}
    )
    for type, query, values in (
        ("Patient", ("birthdate", "1970-05-01"), born),
        ("Observation", ("date", "2024-01-01"), seen),
    ):
        search = parse_search(SCHEMA, type, [query], Context(zone=zone)).search
        assert matches(search.scans[0].where, "1", values)


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "\udcff"])
def test_what_is_not_text_is_refused(text: str) -> None:
    for pair in ((text, "1"), ("name", text), ("foo", text)):
        with pytest.raises(BadRequest):
            parse_search(SCHEMA, "Patient", [pair], Context(BASE))
        with pytest.raises(BadRequest):
            parse_criteria(SCHEMA, "Patient", [pair], Context(BASE))


def test_case_is_not_in_doubt_in_a_scope() -> None:
    """A scope permits no more than it says, and `:not` excludes as much as it may mean."""
    scope = Context(BASE)._replace(bodies=False)
    exact = TokenIs("code", "urn:x", "Y")
    folded = Any((TokenIs("code", "urn:x", "y"), TokenIs("code", "urn:x", "y\0")))
    query = [("code", "urn:x|Y")]
    assert parse_criteria(SCHEMA, "Observation", query, scope).where == exact
    assert parse_criteria(SCHEMA, "Observation", query, Context(BASE)).where == folded
    query = [("code:not", "urn:x|Y")]
    assert parse_criteria(SCHEMA, "Observation", query, scope).where == Not(folded)


@pytest.mark.parametrize(
    "number", ["181.53208606062282", "5.9596609930952145", "0.1", "100", "1e2"]
)
def test_a_number_is_within_its_own_range(number: str) -> None:
    """Also one with as many digits as float64 has: Synthea writes such values."""
    for type, code in (("RiskAssessment", "probability"), ("Observation", "value-quantity")):
        leaf = parse(type, f"{code}={number}").search.scans[0].where
        assert isinstance(leaf, NumberIs | QuantityIs)
        assert leaf.lo <= leaf.value < leaf.hi
