"""Chains end, begin anew and go in their time; what is told of them stays true."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fhir_server.access.audit import log
from fhir_server.access.audit.entry import Entry
from fhir_server.access.audit.heads import HeadKey
from fhir_server.access.audit.log import AuditLog, Heads
from fhir_server.access.audit.retention import expire
from fhir_server.access.audit.verify import Report, verify
from fhir_server.access.commit import committing
from fhir_server.model.fresh import micros
from tests.audit.trail import Clinic, entries, files
from tests.serving import Server, served


def aged(path: Path, days: float) -> None:
    then = time.time() - days * 86_400
    os.utime(path, (then, then))


def judged(server: Server, data: Path) -> Report:
    return server.run(verify(data, server.domain.store.ledger))


@pytest.fixture
def used(backend: str, tmp_path: Path) -> Path:
    """Two chains that are closed, of which the first is old."""
    for _ in range(2):
        with served(backend, tmp_path, open_=False) as server:
            Clinic(server, tmp_path)
    aged(files(tmp_path)[0], 31)
    return tmp_path


def test_a_server_removes_what_is_too_old(backend: str, used: Path) -> None:
    old, young = files(used)
    with served(backend, used, open_=False, audit_days=30) as server:
        clinic = Clinic(server, used)
        deadline = time.monotonic() + 10
        while old.exists() and time.monotonic() < deadline:
            clinic.server.run(_pause())
        assert not old.exists() and young.exists()
        rows = server.run(server.domain.store.ledger.scan("audit", old.stem))
        assert rows == []
        report = judged(server, used)
        assert report.faults == []
        assert "1 chains went after their time" in report.notes
        auditor = server.bearer("system/AuditEvent.rs", client="auditor")
        made = server.get("AuditEvent?subtype=create", headers=auditor).json()
        assert made["total"] == 4


async def _pause() -> None:
    import asyncio

    await asyncio.sleep(0.05)


def test_without_a_limit_everything_stays(backend: str, used: Path) -> None:
    with served(backend, used, open_=False) as server:
        server.run(_pause())
        assert len(files(used)) == 3


def test_who_removes_a_chain_by_hand_is_found(backend: str, used: Path) -> None:
    """Also if others went in their time, and if the head says so without its signature."""
    _, young = files(used)
    with served(backend, used, open_=False) as server:
        store = server.domain.store
        key, commit = HeadKey.of(used), committing(store)
        work = expire(used / "audit", key, store.ledger, commit, 30)
        assert server.run(work) == 1
        assert judged(server, used).faults == []
        young.unlink()
        assert any(f"chain {young.stem} is gone" in fault for fault in judged(server, used).faults)
        row = server.run(store.ledger.get("audit-head", young.stem))
        assert row is not None
        from fhir_server.store.ledger import LedgerWrite

        claimed = LedgerWrite("audit-head", young.stem, row.value | {"removed": True})
        server.run(commit((claimed,)))
        faults = judged(server, used).faults
        assert f"chain {young.stem}: its head in the ledger was changed" in faults


def test_a_crash_between_head_and_file_is_no_fault(
    backend: str, used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(backend, used, open_=False) as server:
        store = server.domain.store
        key, commit = HeadKey.of(used), committing(store)

        def killed(self: Path, missing_ok: bool = False) -> None:
            raise OSError("as if killed")

        monkeypatch.setattr(Path, "unlink", killed)
        with pytest.raises(OSError, match="as if killed"):
            server.run(expire(used / "audit", key, store.ledger, commit, 30))
        monkeypatch.undo()
        assert len(files(used)) == 3
        assert judged(server, used).faults == []
        assert server.run(expire(used / "audit", key, store.ledger, commit, 30)) == 1
        assert judged(server, used).faults == []


def test_a_chain_ends_when_it_is_large_or_old(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "LARGEST", 2_000)
    with served(backend, tmp_path, open_=False) as server:
        clinic = Clinic(server, tmp_path)
        for _ in range(12):
            server.get(f"Observation/{clinic.observation}", headers=clinic.all)
        paths = files(tmp_path)
        assert len(paths) > 2
        assert all(path.stat().st_size < 4_000 for path in paths)
        assert sum(1 for line in entries(tmp_path) if line["n"]) == 15
    with served(backend, tmp_path, open_=False) as server:
        assert judged(server, tmp_path).faults == []
        store, now = server.domain.store, [micros()]
        heads = Heads(store.ledger, committing(store), lambda: now[0])
        trail = AuditLog(tmp_path, heads)
        server.run(trail.start())
        before = len(files(tmp_path))
        trail.write(Entry(at=now[0], request="r", interaction="read", method="GET", status=200))
        trail._turn()
        assert len(files(tmp_path)) == before
        now[0] += log.LASTS + 1
        trail._turn()
        assert len(files(tmp_path)) == before + 1
        trail._turn()
        assert len(files(tmp_path)) == before + 1
        server.run(trail.close())
        assert judged(server, tmp_path).faults == []


def test_very_many_patients_are_several_lines(backend: str, tmp_path: Path) -> None:
    with served(backend, tmp_path, open_=False) as server:
        store = server.domain.store
        trail = AuditLog(tmp_path, Heads(store.ledger, committing(store), micros))
        server.run(trail.start())
        one = Entry(at=1, request="r", interaction="search-type", method="GET", status=200)
        names = tuple(f"p{n:05}" for n in range(2_500))
        trail.write(replace_patients(one, names))
        server.run(trail.close())
        lines = [line for line in entries(tmp_path) if line.get("patients")]
        assert [len(line["patients"]) for line in lines] == [1000, 1000, 500]
        assert [name for line in lines for name in line["patients"]] == list(names)
        assert judged(server, tmp_path).faults == []


def replace_patients(entry: Entry, patients: tuple[str, ...]) -> Entry:
    import msgspec

    return msgspec.structs.replace(entry, patients=patients)
