"""An engine that fails: 503 with Retry-After, never an empty answer, never a hang, and all else
goes on. https://hl7.org/fhir/R4/http.html#Status-Codes"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from fhir_server.config import Settings, SettingsError, read
from fhir_server.model.problem import BadRequest, Unavailable
from fhir_server.search.plan import Scan, Search
from fhir_server.store.elastic import cluster, follower, searching
from fhir_server.store.elastic.cluster import Breaker, connect
from fhir_server.store.elastic.opening import over, secret
from fhir_server.store.memory import MemoryStore
from fhir_server.store.opening import rebuild_search
from tests.elastic.building import Told
from tests.elastic.engine import MEDIA, Engine, started
from tests.elastic.test_following import follow, say, search, searched
from tests.serving import Server, issue, served
from tests.store.building import Bench
from tests.workers.test_tls import pair

FAULTS = ("broken", "overloaded", "cut", "shard", "timed-out", "another product")


@pytest.mark.parametrize("fault", FAULTS)
def test_never_an_empty_answer(bench: Bench, engine: Engine, fault: str) -> None:
    say(bench, "a", "bone")
    follow(bench)
    engine.fault = fault
    with pytest.raises(Unavailable) as caught:
        bench.found(search())
    assert int(caught.value.headers["Retry-After"]) > 0
    assert len(bench.found(Search((Scan("Condition"),)))) == 1
    say(bench, "b", "bone")
    engine.fault = ""
    searched(bench)._cluster._breaker.succeeded()
    assert len(bench.found(search())) == 2


HTML = "text/html"
GOOD = b'{"timed_out": false, "_shards": {"failed": 0}, "hits": {"hits": %s}}'
HIT = b'{"_id": "Condition/%s", "_version": 1, "sort": [%d, "Condition/%s"]}'
SEARCHES = {
    "a page of a proxy": (200, HTML, b"<html>Welcome</html>"),
    "nothing": (200, MEDIA, b""),
    "cut off": (200, MEDIA, b'{"hits": {"hits": ['),
    "no object": (200, MEDIA, b"[]"),
    "no members": (200, MEDIA, b"{}"),
    "no shards": (200, MEDIA, b'{"timed_out": false, "hits": {"hits": []}}'),
    "no hits": (200, MEDIA, b'{"timed_out": false, "_shards": {"failed": 0}}'),
    "null hits": (200, MEDIA, GOOD % b"null"),
    "hits without names": (200, MEDIA, GOOD % b'[{"_version": 1, "sort": [1, "x"]}]'),
    "hits of another index": (
        200,
        MEDIA,
        GOOD % b'[{"_id": "17", "_version": 1, "sort": [1, "17"]}]',
    ),
    "hits without versions": (
        200,
        MEDIA,
        GOOD % b'[{"_id": "Condition/a", "sort": [1, "Condition/a"]}]',
    ),
    "hits without places": (200, MEDIA, GOOD % b'[{"_id": "Condition/a", "_version": 1}]'),
    "hits out of order": (
        200,
        MEDIA,
        GOOD % b"[%s, %s]" % (HIT % (b"a", 1, b"a"), HIT % (b"b", 2, b"b")),
    ),
    "a shard failed": (200, MEDIA, b'{"timed_out": false, "_shards": {"failed": 1}, "hits": 1}'),
    "time was over": (200, MEDIA, b'{"timed_out": true, "_shards": {"failed": 0}, "hits": 1}'),
    "moved": (301, HTML, b""),
    "no such page": (404, HTML, b"<html>404</html>"),
    "no such page, said in JSON": (404, MEDIA, b'{"error": "no handler found for uri"}'),
    "too large": (413, HTML, b"<html>413</html>"),
    "too many requests": (429, MEDIA, b'{"error": {"type": "circuit_breaking_exception"}}'),
    "no shard": (503, MEDIA, b'{"error": {"root_cause": ["?"], "type": "no_shard_available"}}'),
    "a gateway": (502, HTML, b"<html>Bad Gateway</html>"),
    "closed": (400, MEDIA, b'{"error": {"root_cause": [{"type": "index_closed_exception"}]}}'),
    "another mapping": (400, MEDIA, b'{"error": {"type": "query_shard_exception"}}'),
    "an older release": (406, MEDIA, b'{"error": "Content-Type header is not supported"}'),
}


@pytest.mark.parametrize("said", SEARCHES.values(), ids=SEARCHES)
def test_no_answer_but_its_own_is_believed(
    bench: Bench, engine: Engine, said: tuple[int, str, bytes]
) -> None:
    say(bench, "a", "bone")
    follow(bench)
    engine.says["_search"] = said
    with pytest.raises(Unavailable) as caught:
        bench.found(search())
    assert int(caught.value.headers["Retry-After"]) > 0
    assert len(engine.indices) == 1
    engine.says.clear()
    searched(bench)._cluster._breaker.succeeded()
    assert bench.found(search()) == ["Condition/a"]


WRITES = {
    "a page of a proxy": (200, HTML, b"<html>Welcome</html>"),
    "no members": (200, MEDIA, b"{}"),
    "fewer answers": (200, MEDIA, b'{"errors": false, "items": []}'),
    "an item without a status": (200, MEDIA, b'{"errors": true, "items": [{"index": {}}]}'),
    "no item": (200, MEDIA, b'{"errors": true, "items": [null]}'),
    "an item that waits": (
        200,
        MEDIA,
        b'{"errors": true, "items": [{"index": {"status": 429, "error": {"type": "rejected"}}}]}',
    ),
    "no such page": (404, HTML, b"<html>404</html>"),
    "a document that is too large": (413, HTML, b"<html>413</html>"),
    "read only": (
        403,
        MEDIA,
        b'{"error": {"root_cause": [{"type": "cluster_block_exception"}]}}',
    ),
}


@pytest.mark.parametrize("said", WRITES.values(), ids=WRITES)
def test_only_what_is_written_counts_as_followed(
    bench: Bench, engine: Engine, said: tuple[int, str, bytes]
) -> None:
    say(bench, "a", "bone")
    follow(bench)
    say(bench, "b", "bone")
    engine.says["_bulk"] = said
    with pytest.raises(Unavailable):
        follow(bench)
    assert bench.do(searched(bench).follower.states.read()).state.seq == 1
    engine.says.clear()
    searched(bench)._cluster._breaker.succeeded()
    assert len(bench.found(search())) == 2


@pytest.mark.parametrize("body", [b'{"_shards": {"failed": 1}}', b"{}"])
def test_what_is_not_seen_everywhere_is_not_followed(
    bench: Bench, engine: Engine, body: bytes
) -> None:
    say(bench, "a", "bone")
    follow(bench)
    say(bench, "b", "bone")
    engine.says["_refresh"] = 200, MEDIA, body
    with pytest.raises(Unavailable):
        follow(bench)
    assert bench.do(searched(bench).follower.states.read()).state.seq == 1
    assert len(bench.found(search())) == 2


def test_what_is_left_in_the_files_of_a_shard_is_not_gone(bench: Bench, engine: Engine) -> None:
    say(bench, "a", "bone")
    follow(bench)
    engine.says["_forcemerge"] = 200, MEDIA, b'{"_shards": {"failed": 1}}'
    assert not bench.do(bench.store.scrub())
    engine.says.clear()
    assert bench.do(bench.store.scrub())


@pytest.mark.parametrize(
    "said",
    [
        (200, MEDIA, b'{"acknowledged": false, "index": "x"}'),
        (404, HTML, b"<html>404</html>"),
        (404, MEDIA, b'{"error": {"type": "index_not_found_exception"}}'),
        (400, MEDIA, b'{"error": {"root_cause": [{"type": "mapper_parsing_exception"}]}}'),
    ],
)
def test_an_index_that_is_not_made(
    bench: Bench, engine: Engine, said: tuple[int, str, bytes]
) -> None:
    say(bench, "a", "bone")
    with mock.patch("fhir_server.store.elastic.follower.new_name", lambda: "vehr-x"):
        engine.says["vehr-x-1"] = said
        with pytest.raises(Unavailable):
            bench.found(search())
        engine.says.clear()
    searched(bench)._cluster._breaker.succeeded()
    assert bench.found(search()) == ["Condition/a"]


def test_a_piece_that_is_too_large_is_written_in_parts(bench: Bench, engine: Engine) -> None:
    """What stands before the engine may take less than it does."""
    for number in range(9):
        say(bench, str(number), "bone " + "x" * 1000)
    engine.largest = 1200
    follow(bench)
    assert engine.asked.count(("PUT", "/{index}/_bulk")) > 3
    assert len(bench.found(search())) == 9


def test_the_follower_lives_on(bench: Bench, engine: Engine) -> None:
    """Whatever it is answered, it tries again."""
    store = searched(bench)
    engine.says["_bulk"] = 404, MEDIA, b'{"error": {"type": "index_not_found_exception"}}'

    async def told() -> None:
        async with store.following(), asyncio.timeout(60):
            while engine.asked.count(("PUT", "/{index}")) < 3:
                await asyncio.sleep(0.01)
            engine.says.clear()
            while not (state := (await store.follower.states.read()).state) or not state.seq:
                await asyncio.sleep(0.01)

    say(bench, "a", "bone")
    with mock.patch.multiple(follower, QUIET=0.0, AGAIN=0.0):
        bench.do(told())
    assert bench.found(search()) == ["Condition/a"]


@pytest.mark.parametrize("fault", ["silent", "trickling"])
def test_nobody_waits_for_an_engine_that_does_not_answer(
    bench: Bench, engine: Engine, fault: str
) -> None:
    """It says nothing, or never ends."""
    say(bench, "a", "bone")
    follow(bench)
    engine.fault = fault
    with pytest.raises(Unavailable, match="does not answer"):
        bench.do(searched(bench)._cluster.ask(lambda client: client.info(), 0.2))


def test_the_breaker_refuses_at_once_and_tries_again(bench: Bench, engine: Engine) -> None:
    say(bench, "a", "bone")
    follow(bench)
    now = 0.0
    searched(bench)._cluster._breaker = Breaker(lambda: now)
    engine.fault = "broken"
    for _ in range(cluster.FAILURES):
        with pytest.raises(Unavailable):
            bench.found(search())
    asked = len(engine.asked)
    engine.fault = ""
    with pytest.raises(Unavailable, match="does not answer"):
        bench.found(search())
    assert len(engine.asked) == asked
    now = cluster.PAUSE
    assert bench.found(search()) == ["Condition/a"]
    assert not searched(bench)._cluster._breaker.open


def test_nothing_is_there(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        bench = Bench(Told(MemoryStore(), connect("http://127.0.0.1:9")), runner)
        say(bench, "a", "bone")
        with pytest.raises(Unavailable, match="does not answer"):
            bench.found(search())
        assert bench.do(bench.store.trouble()) == (
            "text cannot be searched: the search engine does not answer"
        )
        runner.run(bench.store.close())


def test_a_document_that_is_refused_is_not_passed_over(bench: Bench, engine: Engine) -> None:
    say(bench, "a", "bone")
    follow(bench)
    say(bench, "b", "bone")
    del engine.index.fields["labels"]
    with pytest.raises(Unavailable, match="refuses a document"):
        follow(bench)
    assert len(bench.found(search())) == 2


def test_too_many_candidates_are_refused(bench: Bench) -> None:
    for number in range(8):
        say(bench, str(number), "bone")
    follow(bench)
    with mock.patch.object(searching, "LOOKED", 7), pytest.raises(BadRequest) as caught:
        bench.found(search())
    assert caught.value.issues[0].code == "too-costly"


# --- secrets ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "header"),
    [("a2V5OmlkZW50", "ApiKey a2V5OmlkZW50"), ("vehr:p:w", "Basic dmVocjpwOnc=")],
)
def test_it_shows_its_secret(engine: Engine, tmp_path: Path, given: str, header: str) -> None:
    engine.secret = header
    place = tmp_path / "secret"
    place.write_text(given + "\n", encoding="utf-8")
    whole = Settings(search=engine.url, search_secret_file=place)
    with asyncio.Runner() as runner:
        for settings in (whole, Settings(search=engine.url, search_secret=given)):
            store = over(MemoryStore(), settings)
            assert runner.run(store.trouble()) is None
            runner.run(store.close())
        store = over(MemoryStore(), Settings(search=engine.url))
        assert "credentials" in str(runner.run(store.trouble()))
        runner.run(store.close())


def test_what_cannot_be_used_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="SEARCH_SECRET_FILE cannot be read"):
        secret(Settings(search_secret_file=tmp_path / "none"))
    with pytest.raises(Unavailable, match="cannot be used"):
        connect("https://e.example", "", tmp_path / "none")
    with pytest.raises(SettingsError, match="credentials"):
        read({"VEHR_SEARCH": "http://user:word@e.example"})
    with asyncio.Runner() as runner, pytest.raises(BadRequest, match="no search engine"):
        runner.run(rebuild_search(MemoryStore(), lambda *_: None))


def test_certificates_are_judged(tmp_path: Path) -> None:
    cert, key = pair(tmp_path)
    with started((cert, key)) as engine, asyncio.Runner() as runner:
        for ca, answers in ((cert, True), (None, False)):
            store = over(MemoryStore(), Settings(search=engine.url, search_ca=ca))
            assert (runner.run(store.trouble()) is None) is answers
            runner.run(store.close())


# --- on a server ------------------------------------------------------------------------


@contextmanager
def server(engine: Engine, folder: Path) -> Iterator[Server]:
    with served("memory", folder, search=engine.url) as found:
        yield found


def test_on_a_server(engine: Engine, tmp_path: Path) -> None:
    with server(engine, tmp_path) as found:
        found.put("Condition/a", {**_condition("a"), "note": [{"text": "a bone"}]})
        assert found.get("Condition?_content=bone").json()["total"] == 1
        engine.fault = "broken"
        answer = found.get("Condition?_content=bone")
        assert answer.status_code == 503 and answer.headers["retry-after"]
        assert issue(answer)["code"] == "transient"
        assert found.get("Condition").json()["total"] == 1
        assert found.get("/health").text.startswith("degraded: text cannot be searched")
        stated = found.get("metadata").json()["rest"][0]["searchParam"]
        texts = [row for row in stated if row["name"] in ("_text", "_content")]
        assert all("not against a real server" in row["documentation"] for row in texts)


def _condition(id_: str) -> dict[str, object]:
    return {"resourceType": "Condition", "id": id_, "subject": {"display": "x"}}
