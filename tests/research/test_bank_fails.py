"""A run of the bank's pipeline that cannot go on: what it leaves, and that it goes on later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fhir_server.cli.research import run as command
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Problem, Unavailable, Unprocessable
from operations.deid.assembly import Work
from operations.deid.run import Run
from operations.deidentification import deidentification
from operations.research import sync as pipeline
from tests.research.test_bank import MANY, fill, found, observation, run
from tests.serving import Server, served
from tests.smart.bulk import consent, put


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served("sqlite", tmp_path / "data", open_=False, research="on") as server:
        fill(server)
        yield server


def test_the_command_cleans_texts_as_the_server_does(tmp_path: Path) -> None:
    """Words stay, names go; without a model nothing is taken in."""
    with served("sqlite", tmp_path / "data", open_=False, research="on") as server:
        fill(server)
        put(
            server,
            observation(
                "note", MANY[0], note=[{"text": "The patient slept well. Seen by Anna Schmidt."}]
            ),
        )
        settings = server.domain.settings
        deidentification(settings).cleaner = None
        outcome = server.run(command(settings, lambda done, of: None, full=False))
        assert outcome.held == 12 and deidentification(settings).cleaner is None
        told = [one["note"][0]["text"] for one in found(server, "Observation") if "note" in one]
        assert (
            len(told) == 1
            and told[0].startswith("The patient slept well. ")
            and "Schmidt" not in told[0]
        )
        put(
            server,
            observation(
                "note", MANY[0], note=[{"text": "The patient was noisy. Seen by Anna Schmidt."}]
            ),
        )
        server.headers = server.bearer("system/*.cruds __models")
        url = "/models/name-tagger/retire?version=1.0.0&reason=x"
        assert server.send("POST", url).status_code == 200
        with pytest.raises(Unavailable):
            server.run(command(settings, lambda done, of: None, full=False))
        assert "noisy" not in str(found(server, "Observation"))


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
