"""Every store sorts, pages and counts alike."""

from __future__ import annotations

import pytest

from fhir_server.search import plan
from fhir_server.search.plan import Scan, Search, SortKey
from fhir_server.search.values import (
    DateValue,
    NumberValue,
    StringValue,
    TokenValue,
)
from tests.store.building import Bench, names, to, walk
from tests.store.scanning import quantity, scan

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
