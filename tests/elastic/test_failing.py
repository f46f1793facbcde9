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
from fhir_server.store.elastic import cluster, searching
from fhir_server.store.elastic.cluster import Breaker, connect
from fhir_server.store.elastic.opening import over, secret
from fhir_server.store.memory import MemoryStore
from fhir_server.store.opening import rebuild_search
from tests.elastic.building import Told
from tests.elastic.engine import Engine, started
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


def test_nobody_waits_for_an_engine_that_says_nothing(bench: Bench, engine: Engine) -> None:
    say(bench, "a", "bone")
    follow(bench)
    engine.fault = "silent"
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
