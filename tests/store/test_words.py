"""The index of words follows the change feed, and nobody notices."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from fhir_server.formats.json import dumps
from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Key
from fhir_server.search.explain import Trace
from fhir_server.search.plan import Any as AnyOf
from fhir_server.search.plan import IdIn, Not, Scan, Search, TextHas, TokenIs
from fhir_server.search.values import TokenValue
from fhir_server.store.base import EraseSet, Erasure, Guard, Stale
from fhir_server.store.sqlite import follower, store, text
from fhir_server.store.sqlite.opening import open_store
from fhir_server.store.sqlite.prepared import PreparedSet
from tests.store.building import Bench, values

BONE = TextHas("_content", ("bone",))


def body(id: str, said: str) -> bytes:
    return dumps({"resourceType": "Condition", "id": id, "note": [{"text": said}]})


def search(where: Any = BONE, count: int = 50) -> Search:
    return Search((Scan("Condition", where),), count=count, total="exact")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        opened = runner.run(open_store(tmp_path, "serve"))
        yield Bench(opened, runner)
        runner.run(opened.close())


def say(bench: Bench, id: str, said: str, **other: Any) -> None:
    bench.apply(bench.change(f"Condition/{id}", body=body(id, said), **other))


def follow(bench: Bench, most: int = 1000) -> int:
    writer: Any = bench.store.writer  # type: ignore[attr-defined]
    return int(bench.do(writer.write(PreparedSet((), follow=most))).followed)


def connection(bench: Bench) -> Any:
    return bench.store._reader.connection  # type: ignore[attr-defined]


@pytest.mark.parametrize("most", [0, 1, 3, 1000])
def test_it_does_not_matter_how_far_it_has_followed(bench: Bench, most: int) -> None:
    def steps() -> Iterator[list[str]]:
        say(bench, "a", "bone")
        say(bench, "b", "liver")
        yield ["a"]
        say(bench, "b", "a bone")
        yield ["a", "b"]
        say(bench, "a", "liver")
        yield ["b"]
        bench.delete("Condition/b")
        yield []
        say(bench, "b", "bone again")
        yield ["b"]

    for expected in steps():
        if most:
            follow(bench, most)
        assert sorted(bench.found(search())) == [f"Condition/{id}" for id in expected]
        assert bench.page(search()).total == len(expected)
    while follow(bench, 2):
        pass
    assert bench.found(search()) == ["Condition/b"]


def test_a_search_has_the_index_catch_up(bench: Bench) -> None:
    for number in range(30):
        say(bench, str(number), "bone" if number % 3 == 0 else "liver")
    with mock.patch.object(text, "UNREAD", 5), mock.patch.object(store, "PIECE", 4):
        assert len(bench.found(search())) == 10
        assert 0 < text.position(connection(bench)) <= 30


def test_it_is_not_waited_for_long(bench: Bench) -> None:
    for number in range(30):
        say(bench, str(number), "bone")
    with (
        mock.patch.object(text, "UNREAD", 5),
        mock.patch.object(store, "PIECE", 1),
        mock.patch.object(store, "CAUGHT_UP", -1.0),
        pytest.raises(Unavailable) as caught,
    ):
        bench.found(search())
    assert caught.value.headers["Retry-After"] == "10"


def test_it_follows_by_itself(bench: Bench) -> None:
    with mock.patch.object(follower, "QUIET", 0.01):
        for number in range(5):
            say(bench, str(number), "bone")
        bench.do(asyncio.sleep(1.5))
    assert text.position(connection(bench)) == 5


def test_another_revision_is_made_anew(bench: Bench) -> None:
    say(bench, "a", "bone")
    follow(bench)
    with mock.patch.object(text, "REVISION", 2):
        assert text.position(connection(bench)) == 0
        assert bench.found(search()) == ["Condition/a"]
        follow(bench)
        assert text.miscounted(connection(bench), bench.store._reader.codec) == 0  # type: ignore[attr-defined]
        assert bench.found(search()) == ["Condition/a"]


def test_the_rarer_side_drives(bench: Bench) -> None:
    for number in range(600):
        found = values(TokenValue("code", "", "common"))
        said = "bone" if number == 7 else "liver liver"
        bench.apply(bench.change(f"Condition/{number}", found, body=body(str(number), said)))
    follow(bench)
    trace = Trace()
    both = (TokenIs("code", None, "common"), BONE)
    page = bench.do(bench.store.run(search(AnyOf((both[1],))), trace))
    assert [m.key.id for m in page.matches] == ["7"]
    assert any("1 collected resources drive" in step for step in trace.texts())
    assert bench.found(search(Not(TextHas("_content", ("liver",))))) == ["Condition/7"]


def test_a_guard_reads_what_is_written(bench: Bench) -> None:
    guard = Guard(Scan("Condition", BONE), ())
    say(bench, "a", "liver")
    bench.apply(bench.change("Condition/b", body=body("b", "bone")), guards=(guard,))
    with (
        mock.patch.object(text, "UNREAD", 0),
        pytest.raises(Stale),
    ):
        bench.apply(bench.change("Condition/c", body=body("c", "bone")), guards=(guard,))


def test_text_of_one_named_resource(bench: Bench) -> None:
    say(bench, "a", "bone")
    named = search(AnyOf((BONE,)))
    assert bench.found(named) == ["Condition/a"]
    where = Search((Scan("Condition", IdIn(("a",))),), count=1)
    assert bench.found(where) == ["Condition/a"]


def erase(bench: Bench, id: str, expect: int, versions: tuple[int, ...] | None = None) -> None:
    erasure = Erasure(Key("Condition", id), expect, versions)
    bench.do(bench.store.erase(EraseSet((erasure,))))


@pytest.mark.parametrize("followed", [0, 1, 2, 3])
@pytest.mark.parametrize("versions", [None, (1,), (1, 2), (2,)])
def test_what_is_erased_leaves_the_index(
    bench: Bench, followed: int, versions: tuple[int, ...] | None
) -> None:
    for number, said in enumerate(("bone", "liver", "heart"), 1):
        say(bench, "a", said)
        if number == followed:
            follow(bench)
    say(bench, "b", "lung")
    erase(bench, "a", 3, versions)
    connection_, codec = connection(bench), bench.store._reader.codec  # type: ignore[attr-defined]
    assert text.miscounted(connection_, codec) == 0
    heart = search(TextHas("_content", ("heart",)))
    assert bench.found(heart) == ([] if versions is None else ["Condition/a"])
    follow(bench)
    assert text.miscounted(connection_, codec) == 0
    assert bench.found(heart) == ([] if versions is None else ["Condition/a"])
    assert bench.found(search()) == []


def test_a_damaged_version_that_is_erased(bench: Bench, tmp_path: Path) -> None:
    say(bench, "a", "bone")
    say(bench, "b", "bone")
    follow(bench)
    other = sqlite3.connect(tmp_path / "vehr.sqlite")
    other.execute("UPDATE version SET frame = x'00' WHERE seq = 1")
    other.commit()
    other.close()
    erase(bench, "a", 1)
    assert bench.found(search()) == ["Condition/b"]
    follow(bench)
    assert text.miscounted(connection(bench), bench.store._reader.codec) == 0  # type: ignore[attr-defined]


def test_a_scrub_leaves_no_word(bench: Bench, tmp_path: Path) -> None:
    say(bench, "a", "canarybird")
    say(bench, "b", "other")
    follow(bench)
    erase(bench, "a", 1)
    assert bench.do(bench.store.scrub())  # type: ignore[attr-defined]
    files = [path.read_bytes() for path in tmp_path.iterdir() if path.is_file()]
    assert not any(b"canarybird" in content for content in files)
