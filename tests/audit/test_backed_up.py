"""A backup holds the audit trail, and what is restored is whole by ``vehr audit verify``."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from fhir_server.access.audit import backup
from fhir_server.access.audit.verify import Report, verify
from fhir_server.access.commit import committing
from fhir_server.app import opened
from fhir_server.cli.archives import take_backup, use_backup
from fhir_server.cli.doctor import examined
from fhir_server.store import archive
from fhir_server.store.ledger import LedgerWrite
from tests.audit.trail import Clinic, entries, files
from tests.serving import served, settings


def report(data: Path) -> Report:
    async def verified() -> Report:
        async with opened(settings(data)) as domain:
            return await verify(data, domain.store.ledger)

    return asyncio.run(verified())


def backed_up(data: Path, place: Path, monkeypatch: pytest.MonkeyPatch, *, later: int) -> int:
    """Lines of the trail, of which ``later`` writes came after the copy of the database."""
    with served("sqlite", data, open_=False) as server:
        clinic = Clinic(server, data)
        real = archive._copy_database

        def copied(source: Path, copy: Path) -> None:
            real(source, copy)
            for _ in range(later):
                server.get(f"Patient/{clinic.patient}", headers=clinic.all)
                server.create({"resourceType": "Patient"}, headers=clinic.all)

        monkeypatch.setattr(archive, "_copy_database", copied)
        take_backup(settings(data), place)
        monkeypatch.undo()
        assert clinic.verified().faults == []
        return len(clinic.lines())


@pytest.mark.parametrize("name", ["backup.tar", "backup"])
def test_r19_a_restored_trail_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data, new = tmp_path / "data", tmp_path / "new"
    lines = backed_up(data, tmp_path / name, monkeypatch, later=3)
    use_backup(settings(new), tmp_path / name)
    found = report(new)
    assert found.faults == []
    # The start, two writes before, the read after; the first row that the copy does not have
    # ends it.
    assert (found.chains, found.lines, lines) == (1, 5, 9)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files(new))


def test_lines_ahead_of_the_copy_would_be_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test above can fail."""
    monkeypatch.setattr(backup, "_borne_out", lambda path, _: path.stat().st_size)
    with monkeypatch.context() as inner:
        backed_up(tmp_path / "data", tmp_path / "backup", inner, later=1)
    use_backup(settings(tmp_path / "new"), tmp_path / "backup")
    assert any("is gone" in fault for fault in report(tmp_path / "new").faults)


def test_what_is_done_to_a_restored_trail_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, new = tmp_path / "data", tmp_path / "new"
    backed_up(data, tmp_path / "backup", monkeypatch, later=0)
    with served("sqlite", data, open_=False):
        pass
    shutil.rmtree(tmp_path / "backup")
    take_backup(settings(data), tmp_path / "backup")
    use_backup(settings(new), tmp_path / "backup")
    assert report(new).faults == [] and len(files(new)) == 2
    path = files(new)[0]
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"status":201', b'"status":200', 1))
    assert any("was changed" in fault for fault in report(new).faults)
    assert asyncio.run(examined(settings(new), full=False, scrub=False))
    assert not asyncio.run(examined(settings(new), full=False, scrub=True))
    assert "FAIL  audit: chain" in capsys.readouterr().out
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    assert any("ends with number" in fault for fault in report(new).faults)
    path.unlink()
    assert any("is gone" in fault for fault in report(new).faults)


def test_a_head_that_was_changed_in_a_restored_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, new = tmp_path / "data", tmp_path / "new"
    backed_up(data, tmp_path / "first", monkeypatch, later=0)
    take_backup(settings(data), tmp_path / "backup")
    use_backup(settings(new), tmp_path / "backup")

    async def shortened() -> None:
        async with opened(settings(new)) as domain:
            [row] = await domain.store.ledger.scan("audit-head")
            value = row.value | {"n": 1}
            await committing(domain.store)((LedgerWrite("audit-head", row.key, value),))

    asyncio.run(shortened())
    assert any("was changed" in fault for fault in report(new).faults)


def test_it_goes_on_and_is_backed_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restored directory has a key of its own and knows the former one."""
    data, new, newest = tmp_path / "data", tmp_path / "new", tmp_path / "newest"
    backed_up(data, tmp_path / "one", monkeypatch, later=0)
    use_backup(settings(new), tmp_path / "one")
    with served("sqlite", new, open_=False) as server:
        assert Clinic(server, new).verified().faults == []
    assert (data / "audit.key").read_bytes() != (new / "audit.key").read_bytes()
    take_backup(settings(new), tmp_path / "two.tar")
    use_backup(settings(newest), tmp_path / "two.tar")
    found = report(newest)
    assert (found.faults, found.chains) == ([], 2)
    assert not any("other data directories" in note for note in found.notes)
    assert len({line["key"] for line in entries(newest) if line["n"] == 0}) == 2
