"""Whatever is done to the trail is found and named; what a crash leaves is not taken for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from fhir_server.access.audit.verify import Report
from fhir_server.access.commit import committing
from fhir_server.store.ledger import LedgerWrite
from tests.audit.trail import Clinic, files
from tests.serving import served

Edit = Callable[[list[bytes]], list[bytes]]


@pytest.fixture
def closed(backend: str, tmp_path: Path) -> Path:
    """A data directory with two chains that are closed."""
    for _ in range(2):
        with served(backend, tmp_path, open_=False) as server:
            clinic = Clinic(server, tmp_path)
            for _ in range(3):
                server.get(f"Observation/{clinic.observation}", headers=clinic.all)
    assert len(files(tmp_path)) == 2
    return tmp_path


def verified(backend: str, data: Path, *, first: Callable[[Clinic], None] | None = None) -> Report:
    """By another process, which begins a chain of its own."""
    with served(backend, data, open_=False) as server:
        clinic = Clinic(server, data)
        if first is not None:
            first(clinic)
        return clinic.verified()


def test_what_nobody_touched_is_whole(backend: str, closed: Path) -> None:
    report = verified(backend, closed)
    assert report.faults == []
    assert (report.chains, report.writes) == (3, 6)
    assert report.lines == 2 * 8 + 4


def edited(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], lines[4].replace(b'"status":200', b'"status":404'), *lines[5:]]


def rehashed(lines: list[bytes]) -> list[bytes]:
    """An edit by somebody who knows how hashes are made."""
    line = lines[4].replace(b'"status":200', b'"status":404').partition(b',"hash"')[0]
    before = json.loads(lines[3])["hash"].encode()
    digest = sha256(before + line).hexdigest().encode()
    return [*lines[:4], line + b',"hash":"' + digest + b'"}\n', *lines[5:]]


def forged(lines: list[bytes]) -> list[bytes]:
    """A line at the end with the right hash."""
    last = json.loads(lines[-1])
    line = lines[-1].replace(b'{"n":%d' % last["n"], b'{"n":%d' % (last["n"] + 1))
    line = line.partition(b',"hash"')[0]
    digest = sha256(last["hash"].encode() + line).hexdigest().encode()
    return [*lines, line + b',"hash":"' + digest + b'"}\n']


def twice(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], lines[3], *lines[4:]]


TAMPERED: dict[str, tuple[Edit, str]] = {
    "edit": (edited, "line 5 or the one before it was changed"),
    "edit with its hash": (rehashed, "line 6 or the one before it was changed"),
    "delete": (lambda lines: lines[:3] + lines[4:], "line 4 has number 4: 3 to 3 are missing"),
    "reorder": (
        lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
        "line 5 has number 3, which was before",
    ),
    "truncate": (
        lambda lines: lines[:-2],
        "ends with number 5: line 1 of",
    ),
    "cut": (lambda lines: [*lines[:-1], lines[-1][:40]], "ends with number 6"),
    "empty": (lambda lines: [], "ends with number -1"),
    "first": (lambda lines: lines[1:], "line 1 has number 1: 0 to 0 are missing"),
    "add": (twice, "line 5 has number 3, which was before"),
    "forge": (forged, "goes on after it was closed"),
    "noise": (lambda lines: [*lines[:2], b"{}\n", *lines[2:]], "line 3 is not a line of a chain"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_file_that_was_tampered_with(backend: str, closed: Path, name: str) -> None:
    edit, expected = TAMPERED[name]
    path = files(closed)[0]
    path.write_bytes(b"".join(edit(path.read_bytes().splitlines(keepends=True))))
    faults = verified(backend, closed).faults
    assert any(path.stem in fault and expected in fault for fault in faults), faults


def test_a_chain_that_is_gone(backend: str, closed: Path) -> None:
    path = files(closed)[0]
    path.unlink()
    faults = verified(backend, closed).faults
    assert [fault for fault in faults if f"chain {path.stem} is gone" in fault]


def test_a_chain_that_is_gone_with_its_head(backend: str, closed: Path) -> None:
    """The chain after it names it."""
    path = files(closed)[0]
    path.unlink()

    def behead(clinic: Clinic) -> None:
        commit = committing(clinic.server.domain.store)
        clinic.server.run(commit((LedgerWrite("audit-head", path.stem, None),)))

    faults = verified(backend, closed, first=behead).faults
    assert [fault for fault in faults if f"chain {path.stem} is gone: line 1 of" in fault]


def test_a_chain_that_nobody_anchored(backend: str, closed: Path) -> None:
    path = files(closed)[0]
    opening = b'{"n":0,"at":1,"chain":"20200101T000000.000000-1-0","known":[]'
    digest = sha256(opening).hexdigest().encode()
    forged = opening + b',"hash":"' + digest + b'"}\n'
    path.with_name("20200101T000000.000000-1-0.ndjson").write_bytes(forged)
    faults = verified(backend, closed).faults
    assert "chain 20200101T000000.000000-1-0: the ledger has no head of it" in faults


def test_a_head_that_was_changed(backend: str, closed: Path) -> None:
    chain = files(closed)[0].stem

    def change(clinic: Clinic) -> None:
        store = clinic.server.domain.store
        row = clinic.server.run(store.ledger.get("audit-head", chain))
        assert row is not None
        changed = row.value | {"n": row.value["n"] - 1}
        clinic.server.run(committing(store)((LedgerWrite("audit-head", chain, changed),)))

    assert (
        f"chain {chain}: its head in the ledger was changed"
        in verified(backend, closed, first=change).faults
    )


@pytest.mark.parametrize("what", ["changed", "gone", "new"])
def test_a_row_of_a_write(backend: str, closed: Path, what: str) -> None:
    chain = files(closed)[0].stem

    def change(clinic: Clinic) -> None:
        store = clinic.server.domain.store
        row = clinic.server.run(store.ledger.scan("audit", chain))[0]
        value = {"changed": row.value | {"client": "other"}, "gone": None, "new": row.value}[what]
        key = f"{chain}/000000000009/1" if what == "new" else row.key
        clinic.server.run(committing(store)((LedgerWrite("audit", key, value),)))

    [fault] = verified(backend, closed, first=change).faults
    expected = {"changed": "was changed", "gone": "is gone", "new": "no line names the write"}
    assert chain in fault and expected[what] in fault


def test_what_a_killed_server_leaves_is_no_fault(backend: str, tmp_path: Path) -> None:
    """A write whose line was not written yet, and a line that was cut."""
    with served(backend, tmp_path, open_=False) as server:
        clinic = Clinic(server, tmp_path)
        path = files(tmp_path)[0]
        lines = path.read_bytes().splitlines(keepends=True)
        assert clinic.verified().faults == []
        path.write_bytes(b"".join([*lines[:-1], lines[-1][:50]]))
        report = clinic.verified()
    assert report.faults == []
    assert any("1 writes were never answered" in note for note in report.notes)
