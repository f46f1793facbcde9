"""What is erased leaves no byte, and stays erased after a restore of an older backup: R19, T06."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.access.ports import EraseLog, EraseLogError
from fhir_server.app import opened
from fhir_server.cli.archives import take_backup, use_backup
from fhir_server.config import Settings
from fhir_server.model.problem import Unavailable
from fhir_server.store.erase_log import Entry
from tests.cli.test_backup import vehr
from tests.faults.running import running
from tests.serving import Server, served

CANARY = "Canary7f3a"
LARGE = (CANARY.encode() + bytes(range(256))) * 400
EVERYTHING = "$expunge?expungeEverything=true"


def body(type_: str, id_: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": type_, "id": id_, **more}


def record() -> list[dict[str, Any]]:
    """A patient with a document, and another patient."""
    subject = {"reference": "Patient/p"}
    document = {
        "status": "current",
        "subject": subject,
        "description": f"of {CANARY}",
        "content": [{"attachment": {"url": "Binary/b", "title": CANARY}}],
    }
    note = {
        "status": "final",
        "code": {"text": CANARY},
        "subject": subject,
        "valueString": f"{CANARY} is well",
    }
    data = base64.b64encode(LARGE).decode()
    return [
        body("Patient", "p", name=[{"family": CANARY, "given": ["A", f"{CANARY}b"]}]),
        body("Patient", "q", name=[{"family": "Doe"}]),
        body("Binary", "b", contentType="image/png", data=data),
        body("DocumentReference", "d", **document),
        body("Observation", "o", **note),
    ]


def holds(*places: Path) -> bool:
    """Is the canary in any file?"""
    for place in places:
        for path in [place, *place.rglob("*")] if place.is_dir() else [place]:
            content = path.read_bytes() if path.is_file() else b""
            if CANARY.encode() in content or CANARY.lower().encode() in content:
                return True
    return False


def loaded(folder: Path) -> None:
    lines = "\n".join(json.dumps(resource) for resource in record())
    (folder / "in.ndjson").write_text(lines)
    done = vehr("load", folder / "in.ndjson", "--data", folder / "data")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_r19_an_erased_patient_stays_erased_after_a_restore(tmp_path: Path) -> None:
    loaded(tmp_path)
    data, log = tmp_path / "data", tmp_path / "data.erased.ndjson"
    assert holds(data)
    assert vehr("backup", tmp_path / "b.tar", "--data", data).returncode == 0
    with running(data, "--open") as server:
        beside = vehr(
            "expunge", "Patient/p", "--compartment", "--purpose", "PATRQT", "--data", data
        )
        assert beside.returncode == 0, beside.stderr
        assert beside.stdout.splitlines() == ["count: 4", "resources: 4", "more: False"]
        assert httpx.get(f"{server.base}/Patient/p").status_code == 404
        assert not holds(data, log)
    assert not holds(data, log)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(e["type"] for e in entries) == [
        "Binary",
        "DocumentReference",
        "Observation",
        "Patient",
    ]
    assert {e["purpose"] for e in entries} == {"PATRQT"}
    # Beside the log, without it, and by a log that is named.
    data.rename(tmp_path / "old")
    done = vehr("restore", tmp_path / "b.tar", "--data", data)
    assert done.returncode == 0 and "4 resources and 4 versions stay erased" in done.stdout
    assert not holds(data)
    other = tmp_path / "other"
    done = vehr("restore", tmp_path / "b.tar", "--data", other)
    assert done.returncode == 0 and "no erase log" in done.stdout and holds(other)
    third = tmp_path / "third"
    done = vehr("restore", tmp_path / "b.tar", "--erased", log, "--data", third)
    assert done.returncode == 0 and not holds(third)
    assert EraseLog(tmp_path / "third.erased.ndjson").entries() == EraseLog(log).entries()
    with running(data, "--open") as again:
        for place in ("Patient/p", "Observation/o", "DocumentReference/d", "Binary/b"):
            assert httpx.get(f"{again.base}/{place}").status_code == 404
        assert httpx.get(f"{again.base}/Patient/q").status_code == 200
    done = vehr("doctor", "--full", "--scrub", "--data", data)
    assert done.returncode == 0, done.stdout
    missing = vehr(
        "restore", tmp_path / "b.tar", "--erased", tmp_path / "x", "--data", tmp_path / "y"
    )
    assert missing.returncode == 2 and "there is no erase log" in missing.stderr


# --- what a restore takes from the log --------------------------------------------------


def settings(folder: Path, name: str) -> Settings:
    return Settings(data=folder / name)


def put(server: Server, id_: str, family: str) -> None:
    found = server.put(f"Patient/{id_}", body("Patient", id_, name=[{"family": family}]))
    assert found.status_code in (200, 201)


async def families(where: Settings) -> dict[str, str]:
    """Family names by id, of what is there after a restore."""
    async with opened(where) as domain:
        found = {}
        async for stored in domain.store.changes(0):
            resource = json.loads(stored.body)
            found[f"{stored.key.id}/{stored.version}"] = resource["name"][0]["family"]
        return found


def test_what_came_later_stays(tmp_path: Path) -> None:
    """An id that is used again after the erase is another resource."""
    with served("sqlite", tmp_path / "data") as server:
        put(server, "p", CANARY)
        take_backup(settings(tmp_path, "data"), tmp_path / "before")
        server.post(f"Patient/p/{EVERYTHING}")
        put(server, "p", "Other")
        take_backup(settings(tmp_path, "data"), tmp_path / "after")
    log = tmp_path / "data.erased.ndjson"
    for name, expected in (("before", {}), ("after", {"p/1": "Other"})):
        where = settings(tmp_path, f"{name}-new")
        use_backup(where, tmp_path / name, log)
        assert asyncio.run(families(where)) == expected
        # The log goes on with the restored data: a backup of it knows what was erased.
        take_backup(where, tmp_path / f"{name}-again")
        last = settings(tmp_path, f"{name}-last")
        assert use_backup(last, tmp_path / f"{name}-again", log).reapplied.entries == 0


def test_a_restore_of_a_restore(tmp_path: Path) -> None:
    """What was written after the erase, in data that did not know of it, stays."""
    with served("sqlite", tmp_path / "data") as server:
        put(server, "p", CANARY)
        take_backup(settings(tmp_path, "data"), tmp_path / "one")
        server.post(f"Patient/p/{EVERYTHING}")
    log = tmp_path / "data.erased.ndjson"
    use_backup(settings(tmp_path, "again"), tmp_path / "one")
    with served("sqlite", tmp_path / "again") as server:
        put(server, "p", "Later")
        take_backup(settings(tmp_path, "again"), tmp_path / "two")
    where = settings(tmp_path, "last")
    done = use_backup(where, tmp_path / "two", log)
    assert asyncio.run(families(where)) == {"p/2": "Later"}
    assert (done.reapplied.resources, done.reapplied.versions) == (0, 1)


def test_old_versions_that_are_current_in_the_backup_are_named(tmp_path: Path) -> None:
    with served("sqlite", tmp_path / "data") as server:
        put(server, "p", "One")
        put(server, "p", CANARY)
        take_backup(settings(tmp_path, "data"), tmp_path / "one")
        put(server, "p", "Three")
        server.post("Patient/p/$expunge?expungePreviousVersions=true")
    where = settings(tmp_path, "again")
    done = use_backup(where, tmp_path / "one", tmp_path / "data.erased.ndjson")
    assert done.reapplied.current == ("Patient/p/_history/2",)
    assert asyncio.run(families(where)) == {"p/2": CANARY}


def test_an_erase_log_that_was_cut_or_changed(tmp_path: Path) -> None:
    log = EraseLog(tmp_path / "log")
    assert log.entries() == []
    entries = [Entry(f"2026-01-01T00:00:0{n}.000Z", "Patient", "p", "me") for n in range(3)]
    log.append(entries[:1])
    with log.path.open("ab") as file:
        file.write(b'{"at":"2026-01-0')
    log.append(entries[:2])
    log.append(entries[2:])
    assert log.entries() == entries
    whole = log.path.read_bytes()
    for wrong in (b"[]", b'{"at":"2026","type":"Patient","id":"p","by":""}', b'{"at":1}', b"x"):
        log.path.write_bytes(whole + wrong + b"\n")
        with pytest.raises(EraseLogError, match="line 6"):
            log.entries()


# --- killed in between ------------------------------------------------------------------


@pytest.mark.parametrize("instant", ["log", "blob", "scrub"])
def test_what_was_left_to_do_is_done_by_the_next_start(tmp_path: Path, instant: str) -> None:
    """After the commit of an erase, before its log, its blobs or its files are settled."""
    data = tmp_path / "data"
    with served("sqlite", data) as server:
        for resource in record():
            assert server.put(f"{resource['resourceType']}/{resource['id']}", resource).is_success
        engine = server.domain.engine
        assert engine.blobs is not None and engine.erase_log is not None
        target = {"log": engine.erase_log, "blob": engine.blobs, "scrub": engine.store}[instant]
        name = {"log": "append", "blob": "discard", "scrub": "scrub"}[instant]

        def killed(*_: Any) -> Any:
            raise Unavailable("as if killed")

        setattr(target, name, killed)
        answer = server.post("Patient/p/$expunge?compartment=true")
        assert answer.status_code == 503
        assert server.get("Patient/p").status_code == 404
        delattr(target, name)
    with served("sqlite", data) as server:
        for _ in range(500):
            if not server.run(server.domain.store.ledger.scan("erase-due")):
                break
            server.run(asyncio.sleep(0.01))
        assert not holds(data)
        assert len(EraseLog(tmp_path / "data.erased.ndjson").entries()) == 4
