"""One contract for every store: what a search finds, in which order, on which page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fhir_server.formats.json import dumps
from fhir_server.search import plan
from fhir_server.search.plan import Scan, Search
from fhir_server.search.values import (
    DATE_MAX,
    DateValue,
    NumberValue,
    ReferenceValue,
    StringValue,
    TokenValue,
    UriValue,
)
from tests.store.building import Bench, to, values, walk
from tests.store.scanning import UCUM, quantity, scan

DAY = 86_400_000_000


@pytest.fixture
def observations(backend: Bench) -> Bench:
    backend.put(
        "Observation/a",
        TokenValue("code", "http://loinc.org", "1"),
        TokenValue("status", "", "final"),
        StringValue("note", "Ärztliche  Notiz"),
        DateValue("date", 0, DAY),
        NumberValue("n", 5.0, 5.0),
        quantity(5, "g", 5, "g"),
        to("subject", "Patient/p"),
        UriValue("source", "http://a.org/x/1"),
        date=0,
        patients=("p",),
    )
    backend.put(
        "Observation/b",
        TokenValue("code", "http://loinc.org", "2"),
        TokenValue("code", "http://snomed.info/sct", "1"),
        StringValue("note", "нотатка лікаря"),
        DateValue("date", DAY, DATE_MAX),
        NumberValue("n", 5.0, 9.0),
        quantity(5, "mg", 0.005, "g"),
        to("subject", "Patient/q"),
        UriValue("source", "http://a.org/x"),
        date=DAY,
        patients=("q",),
    )
    backend.put(
        "Observation/c",
        TokenValue("code", "http://loinc.org", "1"),
        DateValue("date", 2 * DAY, 2 * DAY + 1),
        DateValue("date", -5 * DAY, -5 * DAY + 1),
        NumberValue("n", -1.0, -1.0),
        ReferenceValue("subject", "", "", "urn:uuid:1", ""),
        to("subject", "Group/p", "3"),
        date=2 * DAY,
        patients=("p", "q"),
    )
    return backend


LEAVES: list[tuple[plan.Predicate, str]] = [
    (plan.TRUE, "abc"),
    (plan.FALSE, ""),
    (plan.IdIn(("a", "c", "nobody")), "ac"),
    (plan.TokenIs("code", "http://loinc.org", "1"), "ac"),
    (plan.TokenIs("code", None, "1"), "abc"),
    (plan.TokenIs("code", "http://snomed.info/sct", None), "b"),
    (plan.TokenIs("status", "", "final"), "a"),
    (plan.TokenIs("code", "", "1"), ""),
    (plan.TokenIs("other", None, "1"), ""),
    (plan.StringIs("note", "arzt"), "a"),
    (plan.StringIs("note", "notiz"), ""),
    (plan.StringIs("note", "notiz", "contains"), "a"),
    (plan.StringIs("note", "нотатка"), "b"),
    (plan.StringIs("note", "Ärztliche  Notiz", "exact"), "a"),
    (plan.StringIs("note", "arztliche notiz", "exact"), ""),
    (plan.DateIs("date", "eq", 0, DAY), "a"),
    (plan.DateIs("date", "ne", 0, DAY), "bc"),
    (plan.DateIs("date", "gt", 0, DAY), "bc"),
    (plan.DateIs("date", "lt", 0, DAY), "c"),
    (plan.DateIs("date", "ge", 0, DAY), "abc"),
    (plan.DateIs("date", "le", 0, DAY), "ac"),
    (plan.DateIs("date", "sa", 0, DAY), "bc"),
    (plan.DateIs("date", "eb", 0, DAY), "c"),
    (plan.DateIs("date", "ap", 0, 2 * DAY), "ab"),
    (plan.NumberIs("n", "eq", 5, 4.5, 5.5), "a"),
    (plan.NumberIs("n", "gt", 5, 4.5, 5.5), "b"),
    (plan.NumberIs("n", "ge", 5, 4.5, 5.5), "ab"),
    (plan.NumberIs("n", "lt", 5, 4.5, 5.5), "c"),
    (plan.NumberIs("n", "le", 5, 4.5, 5.5), "abc"),
    (plan.NumberIs("n", "sa", 4, 3.5, 4.5), "ab"),
    (plan.NumberIs("n", "eb", 6, 5.5, 6.5), "ac"),
    (plan.NumberIs("n", "ap", 8, 7.2, 8.8), "b"),
    (plan.NumberIs("n", "ne", 5, 4.5, 5.5), "bc"),
    (plan.QuantityIs("value", "eq", 5, 4.5, 5.5), "ab"),
    (plan.QuantityIs("value", "eq", 5, 4.5, 5.5, UCUM, "mg"), "b"),
    (plan.QuantityIs("value", "eq", 0.005, 0.0045, 0.0055, canonical_unit="g"), "b"),
    (plan.QuantityIs("value", "gt", 1, 0.5, 1.5, "http://other", "g"), ""),
    (plan.ReferenceIs("subject", "Patient", "p"), "a"),
    (plan.ReferenceIs("subject", None, "p"), "ac"),
    (plan.ReferenceIs("subject", None, "p", version="3"), "c"),
    (plan.ReferenceIs("subject", None, None, "urn:uuid:1"), "c"),
    (plan.UriIs("source", "http://a.org/x"), "b"),
    (plan.UriIs("source", "http://a.org/x", "below"), "ab"),
    (plan.UriIs("source", "http://a.org/x/1", "above"), "ab"),
    (plan.Present("status", "token"), "a"),
    (plan.Present("note", "string"), "ab"),
    (plan.Present("value", "quantity"), "ab"),
    (plan.Not(plan.Present("note", "string")), "c"),
    (plan.Not(plan.TokenIs("code", None, "1")), ""),
    (plan.Not(plan.TokenIs("code", "http://loinc.org", "1")), "b"),
    (plan.InPatient(("p",)), "ac"),
    (plan.InPatient(("p", "q")), "abc"),
    (plan.InPatient(("nobody",)), ""),
    (
        plan.All((plan.InPatient(("p",)), plan.TokenIs("code", None, "1"), plan.IdIn(("c",)))),
        "c",
    ),
    (
        plan.Any((plan.TokenIs("status", None, "final"), plan.StringIs("note", "нотатка"))),
        "ab",
    ),
    (
        plan.All(
            (
                plan.Any((plan.IdIn(("a",)), plan.TokenIs("code", "http://loinc.org", "2"))),
                plan.Not(plan.InPatient(("p",))),
            )
        ),
        "b",
    ),
]


@pytest.mark.parametrize(("where", "ids"), LEAVES, ids=[str(x) for x, _ in LEAVES])
def test_predicates(observations: Bench, where: plan.Predicate, ids: str) -> None:
    page = observations.page(scan(where))
    assert sorted(s.key.id for s in page.matches) == list(ids)
    assert page.total == len(ids)


def test_updated_is_compared_as_a_point(observations: Bench) -> None:
    first = observations.page(scan(plan.IdIn(("a",)))).matches[0].updated
    for prefix, ids in (("eq", "a"), ("gt", "bc"), ("le", "a"), ("ge", "abc"), ("lt", "")):
        where = plan.UpdatedIs(prefix, first, first + 1)  # type: ignore[arg-type]
        assert sorted(s.key.id for s in observations.page(scan(where)).matches) == list(ids)


def test_deleted_and_old_versions_never_match(backend: Bench) -> None:
    backend.put("Observation/a", TokenValue("code", "", "old"))
    backend.put("Observation/a", TokenValue("code", "", "new"))
    backend.put("Observation/b", TokenValue("code", "", "new"))
    backend.delete("Observation/b")
    assert backend.found(scan(plan.TokenIs("code", None, "old"))) == []
    assert backend.found(scan(plan.TokenIs("code", None, "new"))) == ["Observation/a"]
    assert backend.found(scan(plan.IdIn(("b",)))) == []
    backend.put("Observation/b", TokenValue("code", "", "new"))
    assert backend.found(scan(plan.TokenIs("code", None, "new"))) == [
        "Observation/b",
        "Observation/a",
    ]


LEFT: tuple[tuple[dict[str, plan.Predicate], plan.Predicate], ...] = (
    ({}, plan.TRUE),
    ({}, plan.Not(plan.TRUE)),
    ({"a": plan.TRUE}, plan.Not(plan.TRUE)),
    ({"a": plan.Not(plan.TokenIs("code", None, "1"))}, plan.TRUE),
    ({"a": plan.Coded("s", "1"), "b": plan.Dated(DAY, 4 * DAY)}, plan.Coded(None, "2")),
    ({"b": plan.Not(plan.Coded("t", "1"))}, plan.Not(plan.Dated(2 * DAY, 3 * DAY))),
)
"""What the consents of patients leave, and what those who have not decided do."""


def test_what_the_consents_of_each_patient_leave(backend: Bench) -> None:
    """A resource of several patients must be left by each of them."""
    held: dict[str, tuple[tuple[str, ...], str, int]] = {}
    for number, patients in enumerate(((), ("a",), ("b",), ("a", "b"), ("c",), ("b", "c"))):
        for code in ("1", "2"):
            name = f"Observation/{number}-{code}"
            held[name] = patients, code, number * DAY
            found = values(
                TokenValue("code", "s", code), date=number * DAY, patients=tuple(patients)
            )
            coded = {"coding": [{"system": "s", "code": code}]}
            id_ = name.partition("/")[2]
            body = dumps({"resourceType": "Observation", "id": id_, "code": coded})
            backend.apply(backend.change(name, found, body=body))

    def holds(predicate: plan.Predicate, name: str) -> bool:
        _, code, date = held[name]
        match predicate:
            case plan.Not(part):
                return not holds(part, name)
            case plan.Coded(system, wanted):
                return system in (None, "s") and wanted == code
            case plan.Dated(lo, hi):
                return lo <= date < hi
            case plan.TokenIs(code=wanted):
                return wanted == code
        return predicate == plan.TRUE

    for rules, otherwise in LEFT:
        left = plan.EachPatient(rules, otherwise)
        expected = [n for n in held if all(holds(left.of(p), n) for p in held[n][0])]
        newest = sorted(expected, key=lambda n: (held[n][2], n), reverse=True)
        assert walk(backend, replace(scan(left), count=5))[0] == newest
        asked = plan.All((plan.TokenIs("code", None, "1"), left))
        some = backend.page(Search((Scan("Observation", asked),), count=0, total="exact"))
        assert some.total == sum(held[n][1] == "1" for n in expected)
        both = plan.All((plan.InPatient(("b",)), left))
        assert backend.found(scan(both)) == [n for n in newest if "b" in held[n][0]]
