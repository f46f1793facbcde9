"""A large transaction leaves turns of the loop to others: work is counted per turn, not timed."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.writing import PAUSE
from fhir_server.http import arriving
from fhir_server.http.bodies import Bodies
from fhir_server.store.mongo import writer
from fhir_server.store.sqlite import prepared
from fhir_server.validation.validate import Validator
from tests.serving import ONLY, served

ENTRIES = 300


def _bundle() -> dict[str, Any]:
    patient = {"resourceType": "Patient", "active": True, "name": [{"family": "x" * 900}]}
    entry = {"resource": patient, "request": {"method": "POST", "url": "Patient"}}
    return {"resourceType": "Bundle", "type": "transaction", "entry": [entry] * ENTRIES}


def test_a_large_transaction_is_cut_into_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = 0
    done: dict[str, Counter[int]] = {"validate": Counter(), "prepare": Counter()}
    parsers: set[int] = set()

    def counted(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            done[name][turn] += 1
            return work(*arguments)

        return run

    async def turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    resource = Bodies.resource

    def parsed(self: Bodies, header: str | None, data: bytes) -> Any:
        assert len(data) > arriving.LARGE
        parsers.add(threading.get_ident())
        return resource(self, header, data)

    monkeypatch.setattr(Validator, "check", counted("validate", Validator.check))
    where, name = (writer, "made") if ONLY == "mongo" else (prepared, "prepare_change")
    monkeypatch.setattr(where, name, counted("prepare", getattr(where, name)))
    monkeypatch.setattr(Bodies, "resource", parsed)
    with served("sqlite", tmp_path) as server:

        async def start() -> asyncio.Task[None]:
            return asyncio.create_task(turns())

        ticking = server.run(start())
        assert server.post("", _bundle()).status_code == 200
        ticking.cancel()
    assert parsers and threading.get_ident() not in parsers
    for name, most in (("validate", PAUSE), ("prepare", where.SLICE)):
        assert done[name].total() >= ENTRIES
        assert max(done[name].values()) <= most, name
