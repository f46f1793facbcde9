"""T13: a principal's budget is its share of the threads for slow searches."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from fhir_server.config import Settings
from fhir_server.store.opening import open_store
from fhir_server.store.sqlite import store as sqlite
from tests.serving import STORES, issue, served

SECONDS = 0.05


def test_t13_one_asks_dear_queries_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every search is dear here; 40 of one client come before the one of another."""
    monkeypatch.setattr(sqlite, "INLINE", 0)
    monkeypatch.setattr(sqlite, "CROWDED", 0)
    real, order = sqlite.SqliteStore._run_slowly, list[str]()

    def slowly(self: sqlite.SqliteStore, search: Any, *more: Any) -> Any:
        time.sleep(SECONDS)
        return real(self, search, *more)

    monkeypatch.setattr(sqlite.SqliteStore, "_run_slowly", slowly)

    async def opened(folder: Path) -> Any:
        return await open_store(Settings(data=folder, max_slow=10), "serve")

    monkeypatch.setitem(STORES, "sqlite", opened)
    with served("sqlite", tmp_path, open_=False) as server:
        greedy = server.bearer("system/*.rs", client="greedy")
        other = server.bearer("system/*.rs", client="other")
        made = server.create(
            {"resourceType": "Patient", "name": [{"family": "a"}]},
            headers=server.bearer("system/*.cruds"),
        )
        asked = [("greedy", greedy)] * 40 + [("other", other)]

        async def ask(name: str, headers: dict[str, str]) -> Any:
            async with server._client() as client:
                answer = await client.get("/fhir/Patient?name=a", headers=headers)
            order.append(name)
            return answer

        async def all_at_once() -> list[Any]:
            return await asyncio.gather(*(ask(*one) for one in asked))

        answers = server.run(all_at_once())
        statuses = [answer.status_code for answer in answers]
        assert statuses[-1] == 200 and answers[-1].json()["entry"][0]["resource"] == made
        assert set(statuses) == {200, 429} and 12 <= statuses.count(200) <= 20
        # Of the greedy ones at most those that ran already were answered before.
        served_first = [name for name in order if name == "other"]
        ended = order.index(served_first[0])
        assert ended - statuses.count(429) <= 4
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert issue(refused)["code"] == "throttled"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        # What is no search of the lane goes on for the greedy one too.
        assert server.get(f"Patient/{made['id']}", headers=greedy).status_code == 200
