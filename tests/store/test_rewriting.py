"""A database is written anew while no server runs, however large it is."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fhir_server.access.drafts import Draft
from fhir_server.app import opened
from fhir_server.cli import app
from fhir_server.config import Settings
from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Key
from fhir_server.search.values import IndexValues, TokenValue
from fhir_server.store.sqlite import erasing
from fhir_server.store.sqlite.examination import alike
from fhir_server.store.sqlite.opening import server_lock
from fhir_server.store.sqlite.rewriting import rewritten
from fhir_server.store.sqlite.schema import FILE
from tests.audit.trail import entries


async def filled(data: Path) -> None:
    """With free pages, which a large database keeps after an erase."""
    async with opened(Settings(data=data)) as domain:
        session = domain.system_session("test")
        text = {"status": "generated", "div": "<div xmlns='http://www.w3.org/1999/xhtml'>x</div>"}
        drafts = [
            Draft("PUT", Key("Patient", f"p{n}"), {"resourceType": "Patient", "text": text})
            for n in range(300)
        ]
        await session.write(drafts)
    with sqlite3.connect(data / FILE) as connection:
        connection.execute("CREATE TABLE filler (a)")
        connection.executemany("INSERT INTO filler VALUES (?)", [("x" * 1000,)] * 500)
        connection.execute("DROP TABLE filler")
    connection.close()


def free(data: Path) -> int:
    connection = sqlite3.connect(data / FILE)
    try:
        return int(connection.execute("PRAGMA freelist_count").fetchone()[0])
    finally:
        connection.close()


async def test_nothing_unused_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "MOST_REWRITTEN", 0)
    await filled(tmp_path)
    assert free(tmp_path) > 100
    done = rewritten(tmp_path)
    assert done.after < done.before and free(tmp_path) == 0
    async with opened(Settings(data=tmp_path)) as domain:
        assert await domain.store.counts() == {"Patient": 300}
        assert await domain.store.trouble() is None


async def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no database"):
        rewritten(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    await filled(tmp_path)
    lock = server_lock(tmp_path)
    with pytest.raises(Unavailable, match="another server"):
        rewritten(tmp_path)
    lock.release()
    reader = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM resource").fetchone()
    with pytest.raises(Unavailable, match="reads from the database"):
        rewritten(tmp_path)
    reader.close()
    rewritten(tmp_path)


def test_the_command(tmp_path: Path) -> None:
    asyncio.run(filled(tmp_path))
    done = CliRunner().invoke(app, ["doctor", "--rewrite", "--data", str(tmp_path)])
    assert done.exit_code == 0 and "bytes became" in done.output, done.output
    assert entries(tmp_path)[-1]["interaction"] == "command-rewrite"


def test_the_order_of_index_values_is_no_fault() -> None:
    one, two = TokenValue("_security", "s", "R"), TokenValue("status", "", "final")
    kept = IndexValues(tokens=[one, two])
    assert alike(kept, IndexValues(tokens=[two, one]))
    assert not alike(kept, IndexValues(tokens=[one]))
    assert not alike(kept, IndexValues(tokens=[one, two], patients=("p",)))
