"""One contract for every store: what a search finds, in which order, on which page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fhir_server.formats.json import dumps
from fhir_server.model.problem import BadRequest
from fhir_server.search import plan
from fhir_server.search.plan import Scan, Search, SortKey
from fhir_server.search.values import (
    DATE_MAX,
    DateValue,
    NumberValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TokenValue,
    UriValue,
)
from tests.store.building import Bench, names, to, values, walk

DAY = 86_400_000_000
UCUM = "http://unitsofmeasure.org"


def scan(where: plan.Predicate = plan.TRUE, type_: str = "Observation") -> Search:
    return Search((Scan(type_, where),))


def quantity(value: float, unit: str, canonical: float, canonical_unit: str) -> QuantityValue:
    return QuantityValue(
        "value", value, value, UCUM, unit, unit, canonical, canonical, canonical_unit
    )


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


@pytest.fixture
def ward(backend: Bench) -> Bench:
    backend.put("Practitioner/d", StringValue("name", "Dr. House"))
    backend.put("Patient/p", StringValue("family", "Петренко"), to("gp", "Practitioner/d"))
    backend.put("Patient/q", StringValue("family", "Quist"))
    backend.put("Patient/gone", StringValue("family", "Gone"))
    for n, patient in enumerate(["p", "p", "q", "gone", "nobody"]):
        backend.put(
            f"Observation/{n}",
            to("subject", f"Patient/{patient}"),
            TokenValue("code", "", str(n % 2)),
            date=n,
            patients=(patient,),
        )
    backend.delete("Patient/gone")
    return backend


def test_chains(ward: Bench) -> None:
    by_name = plan.Chain("subject", (Scan("Patient", plan.StringIs("family", "петр")),))
    assert ward.found(scan(by_name)) == ["Observation/1", "Observation/0"]
    assert ward.found(scan(plan.Chain("subject", (Scan("Patient"),)))) == [
        "Observation/2",
        "Observation/1",
        "Observation/0",
    ]
    assert ward.found(scan(plan.Chain("subject", (Scan("Group"),)))) == []
    gp = plan.Chain("gp", (Scan("Practitioner", plan.StringIs("name", "dr")),))
    two = plan.Chain("subject", (Scan("Group"), Scan("Patient", gp)))
    assert ward.found(scan(two)) == ["Observation/1", "Observation/0"]
    assert ward.found(scan(plan.Not(two))) == [f"Observation/{n}" for n in (4, 3, 2)]


def test_has(ward: Bench) -> None:
    zero = Scan("Observation", plan.TokenIs("code", None, "0"))
    assert ward.found(scan(plan.Has(zero, "subject"), "Patient")) == ["Patient/q", "Patient/p"]
    one = Scan("Observation", plan.TokenIs("code", None, "1"))
    both = plan.All((plan.Has(zero, "subject"), plan.Has(one, "subject")))
    assert ward.found(scan(both, "Patient")) == ["Patient/p"]
    nested = plan.Has(Scan("Patient", plan.Has(one, "subject")), "gp")
    assert ward.found(scan(nested, "Practitioner")) == ["Practitioner/d"]
    assert ward.found(scan(plan.Not(plan.Has(zero, "subject")), "Patient")) == []


def test_system_wide(ward: Bench) -> None:
    search = Search((Scan("Patient"), Scan("Practitioner")), (SortKey("_id", "id"),))
    assert names(ward.page(search).matches) == ["Practitioner/d", "Patient/p", "Patient/q"]


def test_includes(ward: Bench) -> None:
    patients = plan.Include(Scan("Observation"), "subject", (Scan("Patient"),))
    gp = plan.Include(Scan("Patient"), "gp", (Scan("Practitioner"),), iterate=True)
    plain = plan.Include(Scan("Patient"), "gp", (Scan("Practitioner"),))
    every = Search((Scan("Observation"),), includes=(patients,))
    assert ward.included(every) == ["Patient/p", "Patient/q"]
    assert ward.included(Search(every.scans, includes=(patients, gp))) == [
        "Patient/p",
        "Patient/q",
        "Practitioner/d",
    ]
    assert ward.included(Search(every.scans, includes=(patients, plain))) == [
        "Patient/p",
        "Patient/q",
    ]
    hidden = plan.Include(Scan("Observation"), "subject", (Scan("Patient", plan.IdIn(("q",))),))
    assert ward.included(Search(every.scans, includes=(hidden,))) == ["Patient/q"]


def test_reverse_includes(ward: Bench) -> None:
    back = plan.Include(Scan("Observation"), "subject", (Scan("Patient"),), reverse=True)
    search = Search((Scan("Patient", plan.IdIn(("p",))),), includes=(back,))
    assert ward.included(search) == ["Observation/0", "Observation/1"]
    only = plan.Include(
        Scan("Observation", plan.TokenIs("code", None, "1")),
        "subject",
        (Scan("Patient"),),
        reverse=True,
    )
    assert ward.included(Search(search.scans, includes=(only,))) == ["Observation/1"]
    other = plan.Include(Scan("Observation"), "subject", (Scan("Group"),), reverse=True)
    assert ward.included(Search(search.scans, includes=(other,))) == []


def test_include_cycles_end_and_matches_are_not_repeated(backend: Bench) -> None:
    for a, b in ("12", "23", "31"):
        backend.put(f"Location/{a}", to("partof", f"Location/{b}"))
    up = plan.Include(Scan("Location"), "partof", (Scan("Location"),), iterate=True)
    search = Search((Scan("Location", plan.IdIn(("1",))),), includes=(up,))
    assert backend.included(search) == ["Location/2", "Location/3"]
    assert backend.included(Search((Scan("Location"),), includes=(up,))) == []


def test_what_one_answer_does_not_hold_is_asked_for(
    backend: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each included resource once, also when matches come and go meanwhile; then the next
    page."""
    monkeypatch.setattr(plan, "INCLUDE_LIMIT", 2)
    for name in "pqr":
        backend.put(f"Patient/{name}", date=0)
    for n in range(7):
        backend.put(f"Observation/{n}", to("subject", "Patient/r" if n % 2 else "Patient/q"))
    back = plan.Include(Scan("Observation"), "subject", (Scan("Patient"),), reverse=True)
    search = Search((Scan("Patient"),), count=2, includes=(back,))
    page = backend.page(search)
    assert names(page.matches) == ["Patient/r", "Patient/q"]
    assert names(page.included) == ["Observation/0", "Observation/1"]
    for n in range(3):
        backend.put(f"Patient/new{n}", date=0)  # before all others
    found = []
    while page.rest is not None:
        page = backend.page(replace(search, rest=page.rest))
        assert names(page.matches) == [] and len(page.included) <= 2
        found += names(page.included)
    assert found == [f"Observation/{n}" for n in range(2, 7)]
    assert page.next is not None
    last = backend.page(replace(search, after=page.next))
    assert names(last.matches) == ["Patient/p"] and last.next is None is last.rest


def test_too_many_includes_are_refused(backend: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "INCLUDE_MOST", 30)
    changes = [backend.change("Patient/p")]
    for n in range(plan.INCLUDE_MOST + 1):
        made = backend.change(f"Observation/{n}")
        assert made.values is not None
        made.values.references.append(to("subject", "Patient/p"))
        changes.append(made)
    backend.apply(*changes)
    back = plan.Include(Scan("Observation"), "subject", (Scan("Patient"),), reverse=True)
    with pytest.raises(BadRequest) as problem:
        backend.page(Search((Scan("Patient"),), includes=(back,)))
    assert problem.value.issues[0].code == "too-costly"


SORTS: list[tuple[tuple[SortKey, ...], str]] = [
    (plan.DEFAULT_SORT, "dcba"),
    ((SortKey("_main", "main"),), "abcd"),
    ((SortKey("_id", "id", True),), "dcba"),
    ((SortKey("_lastUpdated", "updated"),), "abcd"),
    ((SortKey("_lastUpdated", "updated", True),), "dcba"),
    ((SortKey("code", "token"),), "bacd"),
    ((SortKey("code", "token", True),), "cbad"),
    ((SortKey("name", "string"), SortKey("_id", "id")), "cabd"),
    ((SortKey("name", "string", True), SortKey("_id", "id")), "abcd"),
    ((SortKey("n", "number"),), "abcd"),
    ((SortKey("n", "number", True),), "badc"),
    ((SortKey("d", "date", True), SortKey("_id", "id", True)), "bdca"),
    ((SortKey("value", "quantity"),), "bacd"),
    ((SortKey("u", "uri", True),), "dcba"),
    ((SortKey("n", "number"), SortKey("_id", "id", True)), "abdc"),
]


@pytest.fixture
def ordered(backend: Bench) -> Bench:
    backend.put(
        "Thing/a",
        TokenValue("code", "", "m"),
        StringValue("name", "zoë"),
        NumberValue("n", 1, 1),
        quantity(5, "g", 5, "g"),
        date=1,
    )
    backend.put(
        "Thing/b",
        TokenValue("code", "", "k"),
        TokenValue("code", "", "n"),
        NumberValue("n", 2, 2),
        StringValue("name", "Zoe"),
        quantity(50, "mg", 0.05, "g"),
        DateValue("d", 5, 9),
        date=2,
    )
    backend.put("Thing/c", TokenValue("code", "", "x"), StringValue("name", "ada"), date=3)
    backend.put("Thing/d", date=4)
    return backend


@pytest.mark.parametrize(("sort", "ids"), SORTS)
@pytest.mark.parametrize("count", [1, 2, 10])
def test_sorts_and_pages(ordered: Bench, sort: tuple[SortKey, ...], ids: str, count: int) -> None:
    found, _ = walk(ordered, Search((Scan("Thing"),), sort, count))
    assert "".join(n[-1] for n in found) == ids


def test_ties_follow_creation(backend: Bench) -> None:
    for name in "abc":
        backend.put(f"Thing/{name}", date=7)
    backend.put("Thing/a", date=7)
    assert backend.found(scan(type_="Thing")) == ["Thing/c", "Thing/b", "Thing/a"]
    up = Search((Scan("Thing"),), (SortKey("_main", "main"),))
    assert names(backend.page(up).matches) == ["Thing/a", "Thing/b", "Thing/c"]


def test_cursors_are_plain_numbers(backend: Bench) -> None:
    """They travel as JSON: dates of today are beyond 32 bits."""
    for n in range(3):
        backend.put(f"Thing/{n}", date=1_700_000_000_000_000 + n)
    for sort in (plan.DEFAULT_SORT, (SortKey("_lastUpdated", "updated"),)):
        page = backend.page(Search((Scan("Thing"),), sort, 1))
        assert page.next is not None and {type(part) for part in page.next} == {int}
        assert {type(s.seq) for s in page.matches} == {type(s.updated) for s in page.matches}


def test_a_new_resource_does_not_disturb_paging(backend: Bench) -> None:
    for n in range(5):
        backend.put(f"Thing/{n}", date=n)
    first = backend.page(Search((Scan("Thing"),), count=2))
    backend.put("Thing/new", date=99)
    backend.delete("Thing/3")
    second = backend.page(Search((Scan("Thing"),), count=2, after=first.next))
    assert names(second.matches) == ["Thing/2", "Thing/1"]


def test_totals(backend: Bench) -> None:
    backend.apply(*(backend.change(f"Thing/{n}") for n in range(plan.TOTAL_LIMIT + 1)))
    search = Search((Scan("Thing"),), count=0)
    assert backend.page(search).total is None
    exact = backend.page(Search((Scan("Thing"),), count=0, total="exact"))
    assert (exact.total, exact.matches, exact.next) == (plan.TOTAL_LIMIT + 1, [], None)
    none = backend.page(Search((Scan("Thing", plan.IdIn(("1",))),), total="none"))
    assert none.total is None
    backend.delete("Thing/0")
    assert backend.page(search).total == plan.TOTAL_LIMIT


@pytest.mark.parametrize(
    ("where", "true"),
    [
        (plan.TRUE, 40),
        (plan.TokenIs("code", "s", "c"), 20),
        (plan.All((plan.TokenIs("code", "s", "c"), plan.DateIs("date", "ge", 0, 1))), 20),
        (
            plan.All(
                (plan.TokenIs("code", "s", "c"), plan.Not(plan.StringIs("note", "one", "exact")))
            ),
            10,
        ),
        (plan.IdIn(tuple(map(str, range(7)))), 7),
        (plan.FALSE, 0),
    ],
)
def test_an_estimate_is_about_right(
    backend: Bench, monkeypatch: pytest.MonkeyPatch, where: plan.Predicate, true: int
) -> None:
    monkeypatch.setattr(plan, "TOTAL_LIMIT", 3)
    for n in range(40):
        coded = [TokenValue("code", "s", "c")] if n % 2 else []
        note = StringValue("note", "one" if n % 4 == 1 else "two")
        at = DateValue("date", 0, n)
        backend.put(f"Thing/{n}", *coded, note, at, date=n)
    page = backend.page(Search((Scan("Thing", where),), count=1, total="estimate"))
    assert page.total == true


def test_as_of(backend: Bench) -> None:
    backend.put("Patient/p", StringValue("family", "Old"))
    at = backend.put("Observation/a", to("subject", "Patient/p"), date=1)
    backend.put("Observation/b", to("subject", "Patient/p"), date=2)
    backend.put("Patient/p", StringValue("family", "New"))
    backend.delete("Observation/a")
    chain = plan.Chain("subject", (Scan("Patient", plan.StringIs("family", "old")),))
    include = plan.Include(Scan("Observation"), "subject", (Scan("Patient"),))
    then = Search((Scan("Observation", chain),), includes=(include,), as_of=at)
    page = backend.page(then)
    assert (names(page.matches), page.total) == (["Observation/a"], 1)
    assert [(s.key.id, s.version) for s in page.included] == [("p", 1)]
    assert backend.found(Search((Scan("Observation", chain),))) == []
    assert backend.found(Search((Scan("Observation"),), as_of=at + 1)) == [
        "Observation/b",
        "Observation/a",
    ]
    assert backend.found(Search((Scan("Observation"),), as_of=0)) == []


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
