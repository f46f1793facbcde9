"""A run of the bank's pipeline that cannot go on: what it leaves, and that it goes on later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fhir_server.model.exchange import Json
from fhir_server.model.problem import Problem, Unavailable, Unprocessable
from operations.deid.assembly import Work
from operations.deid.run import Run
from operations.deidentification import deidentification
from operations.research import sync as pipeline
from tests.research.test_bank import MANY, fill, found, observation, run
from tests.serving import Server, served
from tests.smart.test_h_bulk import consent, put


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served("sqlite", tmp_path / "data", open_=False, research="on") as server:
        fill(server)
        yield server


@pytest.mark.parametrize(
    "fault", [Unavailable("Model name-tagger-1.0.0 is down"), Unprocessable("a rule fails")]
)
def test_in_the_middle(server: Server, monkeypatch: pytest.MonkeyPatch, fault: Problem) -> None:
    """Whole patients or nothing of them; who has withdrawn is out although nobody gets in."""
    prepare, done = Work.prepare, []

    async def failing(self: Work, resources: Sequence[Json], run: Run) -> None:
        done.append(run)
        if len(done) > 4:
            raise fault
        await prepare(self, resources, run)

    monkeypatch.setattr(Work, "prepare", failing)
    with pytest.raises(type(fault)):
        run(server)
    assert len(found(server, "Patient")) == len(found(server, "Observation")) == 4
    held = [id_ for id_ in MANY if server.run(server.domain.store.ledger.get(pipeline.HELD, id_))]
    put(server, consent(held[0], "deny"), observation("more", held[1], effectiveDateTime="2021"))
    with pytest.raises(type(fault)):
        run(server)
    assert len(found(server, "Patient")) == len(found(server, "Observation")) == 3
    monkeypatch.undo()
    assert run(server).held == 11
    assert len(found(server, "Patient")) == 11 and len(found(server, "Observation")) == 12


def test_the_key_is_lost(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other is made: by that nobody would be found who withdraws."""
    run(server)
    keys = deidentification(server.domain.settings).keys
    whole = keys.path.read_bytes()
    settle = Work.settle

    async def losing(self: Work, run: Run) -> None:
        keys.path.unlink(missing_ok=True)
        await settle(self, run)

    put(server, observation("more", MANY[0], effectiveDateTime="2021"))
    monkeypatch.setattr(Work, "settle", losing)
    with pytest.raises(Unavailable):
        run(server)
    monkeypatch.undo()
    assert len(found(server, "Observation")) == 12
    for text in (None, b"{}"):
        if text is not None:
            keys.path.write_bytes(text)
        with pytest.raises(Unavailable):
            run(server)
        assert (keys.path.read_bytes() if keys.path.exists() else None) == text
    keys.path.write_bytes(whole)
    assert run(server).renewed == 1 and len(found(server, "Observation")) == 13
