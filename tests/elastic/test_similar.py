"""Similarity: refused without a model; with one, nearest first, of what may be seen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from unittest import mock

import pytest

from fhir_server.model.problem import BadRequest, NotSupported
from fhir_server.search import plan
from fhir_server.search.plan import Scan
from fhir_server.search.words import Words
from fhir_server.store.elastic import similar
from fhir_server.store.elastic.cluster import connect
from fhir_server.store.elastic.vectors import LETTERS, text_of
from fhir_server.store.memory import MemoryStore
from tests.elastic.building import Told, inner
from tests.elastic.engine import Engine
from tests.elastic.test_following import body, follow, say
from tests.store.building import Bench, values

THEMES = ("bone", "liver", "heart")


class Themes:
    """Counts three words."""

    def __init__(self, name: str = "themes") -> None:
        self.name = name
        self.dimensions = len(THEMES)
        self.read: list[str] = []

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.read += texts
        return [[text.split().count(theme) + 0.1 for theme in THEMES] for text in texts]


@pytest.fixture
def themed(engine: Engine) -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        store = Told(MemoryStore(), connect(engine.url), embedder=Themes())
        yield Bench(store, runner)
        runner.run(store.close())


def nearest(bench: Bench, text: str, count: int, where: plan.Predicate = plan.TRUE) -> list[str]:
    store = bench.store
    assert isinstance(store, Told)
    return [s.key.id for s in bench.do(store.similar(Scan("Condition", where), text, count))]


def test_without_a_model_it_is_refused(bench: Bench, engine: Engine) -> None:
    say(bench, "a", "bone")
    follow(bench)
    with pytest.raises(NotSupported, match="needs an embedding model"):
        nearest(bench, "bone", 1)
    assert "vector" not in engine.index.fields


def test_the_nearest_first(themed: Bench, engine: Engine) -> None:
    for id_, said in (("a", "bone bone"), ("b", "bone liver"), ("c", "heart"), ("d", "bone")):
        say(themed, id_, said)
    follow(themed)
    assert engine.index.fields["vector"]["dims"] == 3
    found = nearest(themed, "bone", 3)
    assert set(found[:2]) == {"a", "d"} and found[2] == "b"
    assert nearest(themed, "heart", 1) == ["c"]
    say(themed, "c", "liver")
    assert nearest(themed, "heart", 4)[0] != "c"  # what it said is not what it says
    themed.delete("Condition/a")
    assert "a" not in nearest(themed, "bone", 4)


def test_what_is_hidden_neither_comes_nor_takes_a_place(themed: Bench) -> None:
    for number in range(20):
        patient = "own" if number >= 18 else "other"
        said = body(str(number), "bone" if patient == "other" else "bone liver")
        found = values(patients=(patient,))
        themed.apply(themed.change(f"Condition/{number}", found, body=said))
    follow(themed)
    assert set(nearest(themed, "bone", 5, plan.InPatient(("own",)))) == {"18", "19"}
    # What only the store can say costs more neighbours, up to a limit.
    odd = plan.Not(plan.DateIs("date", "ge", 0, 1))
    hidden = plan.All((odd, plan.Any((plan.InPatient(("own",)), plan.DateIs("x", "ge", 0, 1)))))
    assert set(nearest(themed, "bone", 2, hidden)) == {"18", "19"}
    with mock.patch.object(similar, "MOST", 10), pytest.raises(BadRequest) as caught:
        nearest(themed, "bone", 2, hidden)
    assert caught.value.issues[0].code == "too-costly"


def test_another_model_makes_the_index_anew(themed: Bench, engine: Engine) -> None:
    say(themed, "a", "bone")
    follow(themed)
    name = set(engine.indices)
    other = Themes("other")
    store = Told(inner(themed.store), connect(engine.url), embedder=other)
    assert themed.do(store.follower.follow())
    assert other.read == ["bone"] and set(engine.indices) != name
    themed.do(store.close())


def test_what_a_model_reads() -> None:
    assert text_of(Words(" a \n b ", " c ")) == "a b c"
    assert len(text_of(Words(" x" * 9000, ""))) == LETTERS
