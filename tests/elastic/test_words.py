"""Words on every store with an engine beside it: the rows of the specification's own tests, and
what the engine names for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from fhir_server.search import plan
from fhir_server.search.plan import Scan, TextHas
from fhir_server.search.values import plain
from fhir_server.store.elastic import documents, index, searching
from fhir_server.store.elastic.cluster import connect
from fhir_server.store.elastic.documents import LONGEST, coded, elements, mapping
from fhir_server.store.elastic.names import Names
from fhir_server.store.elastic.opening import searched
from fhir_server.store.elastic.queries import compiled
from fhir_server.store.elastic.store import SearchedStore
from tests.elastic.conftest import dropped
from tests.elastic.engine import Engine
from tests.elastic.specification import NotSpecified, judge
from tests.elastic.test_following import follow_until, say, search
from tests.search.test_words import TEXT_ROWS, TEXTS
from tests.search.world import BASE, parse
from tests.serving import STORES
from tests.store.building import Bench
from tests.store.test_semantics import wrong

ROWS = [(f"Condition?{query}", ids) for query, ids in TEXT_ROWS]


@pytest.fixture(params=list(STORES))
def beside(
    request: pytest.FixtureRequest, tmp_path: Path, place: tuple[str, str]
) -> Iterator[Bench]:
    """Each store with an engine, documents by the true extraction."""
    with asyncio.Runner() as runner:
        below = runner.run(STORES[request.param](tmp_path))
        store = searched(below, connect(*place), BASE)
        yield Bench(store, runner)
        runner.run(dropped(store))


def test_every_row_on_every_store(beside: Bench) -> None:
    assert wrong(beside, TEXTS, ROWS) == []
    follow_until(beside)
    with mock.patch.object(searching.Searcher, "view", autospec=True, side_effect=_nothing_new):
        # Now only what the engine names can be found.
        answers = [_found(beside, query) for query, _ in ROWS]
    assert answers == [sorted(ids) for _, ids in ROWS]
    with mock.patch.object(index, "PAGE", 2), mock.patch.object(searching, "PAGE", 2):
        assert [_found(beside, query) for query, _ in ROWS] == answers


_view = searching.Searcher.view


async def _nothing_new(self: searching.Searcher) -> searching.View:
    view = await _view(self)
    view._changed.clear()
    return view


def _found(bench: Bench, query: str) -> list[str]:
    type_, _, rest = query.partition("?")
    scans = parse(type_, rest, strict=True).search.scans
    found = bench.found(plan.Search(scans, count=100))
    return sorted(name.removeprefix("Condition/") for name in found)


def test_what_is_exact_names_no_more_than_what_is_meant(beside: Bench) -> None:
    assert wrong(beside, TEXTS, ROWS) == []
    follow_until(beside)
    store = beside.store
    assert isinstance(store, SearchedStore)
    exact = 0
    for query, ids in ROWS:
        (scan,) = parse("Condition", query.partition("?")[2], strict=True).search.scans
        view = beside.do(store._searcher.view())
        made = view.query(scan)
        assert made.query is not None
        hits = beside.do(view.index.hits(made.query, ("date", True), None))
        named = {hit.key.id for hit in hits}
        assert named >= set(ids), query
        if made.exact:
            exact += 1
            assert named == set(ids), query
    assert exact > len(ROWS) // 2


@pytest.mark.parametrize("length", [LONGEST - 1, LONGEST, LONGEST + 1, 300, 40_000])
@pytest.mark.parametrize("letter", ["x", "я", "𝔸".casefold()])
def test_very_long_words(anywhere: Bench, length: int, letter: str) -> None:
    word = letter * length
    say(anywhere, "a", f"bone {word} liver")
    say(anywhere, "b", f"bone {word}{letter} liver")
    follow_until(anywhere)
    whole = TextHas("_content", (plain(word),))
    assert anywhere.found(search(whole)) == ["Condition/a"]
    start = TextHas("_content", (plain(word),), prefix=True)
    assert len(anywhere.found(search(start))) == 2
    phrase = TextHas("_content", ("bone", plain(word), "liver"))
    assert anywhere.found(search(phrase)) == ["Condition/a"]
    assert anywhere.found(search(plan.All((TextHas("_content", ("bone",)), plan.Not(whole))))) == [
        "Condition/b"
    ]


# --- documents and queries by the specification -----------------------------------------


def test_codes_have_one_key_each() -> None:
    made = [coded("p", None, "c"), coded("p", "", "c"), coded("p", "s", "c"), coded("p", "c", "s")]
    made += [coded("p", "s", "x" * n) for n in (150, 500, 501)]
    assert len(set(made)) == len(made)
    assert all(len(key.encode()) <= documents.PLAIN for key in made)
    assert coded("p", "s", "\ud800") == coded("p", "s", "?")


def test_names_are_a_tuple_that_knows_its_members() -> None:
    names = Names(("a", "b"))
    assert names == ("a", "b") and hash(names) == hash(("a", "b"))
    assert "a" in names and "c" not in names and None not in names


def test_elements_are_apart() -> None:
    assert elements(" a b \n c \n\n ") == ["a b", "c"]
    assert elements(" " + "x" * 300 + " ") == ["x" * LONGEST]


def test_what_a_mapping_holds() -> None:
    words, vectors = mapping(), mapping(384)
    assert words["mappings"]["dynamic"] == "strict"
    assert words["mappings"]["_source"] == {"enabled": False}
    assert "vector" not in words["mappings"]["properties"]
    assert vectors["mappings"]["properties"]["vector"]["dims"] == 384
    for made in (words, vectors):
        judge("PUT", "/vehr-1", {}, made)


BONE: plan.Predicate = TextHas("_content", ("bone",))
CODE = plan.TokenIs("code", "s", "1")


@pytest.mark.parametrize(
    ("where", "named", "exact", "worded"),
    [
        (BONE, True, True, True),
        (plan.TRUE, False, True, False),
        (plan.FALSE, True, True, True),
        (plan.All((BONE, CODE)), True, True, True),
        (plan.All((BONE, plan.DateIs("date", "gt", 0, 1))), True, False, True),
        (plan.Any((BONE, CODE)), True, True, False),
        (plan.Any((BONE, plan.DateIs("date", "gt", 0, 1))), False, False, False),
        (plan.Any((BONE, plan.TRUE)), False, True, False),
        (plan.Not(BONE), True, True, False),
        (plan.Not(plan.DateIs("date", "gt", 0, 1)), False, False, False),
        (plan.Not(plan.All((BONE, plan.Near("near", 0, 0, 1)))), False, False, False),
        (plan.TokenIs("posted", None, "1"), False, False, False),
        (plan.TokenIs("code", "s", None), False, False, False),
        (plan.TextHas("code", ("x",)), False, False, False),
        (plan.ReferenceIs("subject", "Patient", "1"), True, True, False),
        (plan.ReferenceIs("subject", "Patient", "1", version="2"), True, False, False),
        (plan.ReferenceIs("subject", None, "1"), False, False, False),
        (plan.IdIn(()), True, True, True),
        (plan.IdIn(("\ud800",)), True, True, False),
        (plan.InPatient(tuple(map(str, range(20_000)))), False, False, False),
        (TextHas("_text", ("a", "b"), prefix=True), True, False, True),
        (TextHas("_text", ("a",), prefix=True), True, True, True),
        (plan.Chain("subject", (Scan("Patient", BONE),)), False, False, False),
    ],
)
def test_what_is_known_of_a_predicate(
    where: plan.Predicate, named: bool, exact: bool, worded: bool
) -> None:
    """A condition is necessary; it is exact or it is not denied."""
    made = compiled("Condition", where, {"code", "subject"})
    assert (made.query is not None, made.exact, made.worded) == (named, exact, worded)
    if made.query is not None:
        judge("POST", "/vehr-1/_search", {}, {"query": made.query})


@pytest.mark.parametrize(
    ("method", "path", "query", "body"),
    [
        ("GET", "/vehr-1/_search", {}, None),
        ("POST", "/vehr-1/_find", {}, None),
        ("POST", "/vehr-1/_search", {"allow_partial": "false"}, {}),
        ("POST", "/vehr-1/_search", {}, {"querys": {}}),
        ("POST", "/vehr-1/_search", {}, {"query": {"bools": {}}}),
        ("POST", "/vehr-1/_search", {}, {"query": {"bool": {"filters": []}}}),
        ("POST", "/vehr-1/_search", {}, {"query": {"bool": {"filter": [{"match_al": {}}]}}}),
        ("POST", "/vehr-1/_search", {}, {"query": {"term": {"f": {"values": 1}}}}),
        ("POST", "/vehr-1/_search", {}, {"sort": [{"f": {"ordered": "asc"}}]}),
        ("PUT", "/vehr-1", {}, {"mappings": {"properties": {"f": {"type": "keywords"}}}}),
        ("PUT", "/vehr-1", {}, {"mappings": {"properties": {"f": {"type": "long", "dim": 1}}}}),
        ("PUT", "/vehr-1/_bulk", {"refreshed": "true"}, None),
    ],
)
def test_what_is_not_specified_is_noticed(
    method: str, path: str, query: object, body: object
) -> None:
    with pytest.raises((NotSpecified, AssertionError)):
        judge(method, path, query, body)  # type: ignore[arg-type]


def test_the_small_engine_judges_what_it_is_asked(engine: Engine) -> None:
    status, _ = engine.answer("POST", "/x/_search", {"Accept": "?"}, b"")
    assert status == 400 and len(engine.wrong) == 1
    engine.wrong.clear()
