"""``vehr doctor`` and ``vehr reindex``: what is wrong is found, named and mended."""

from __future__ import annotations

import asyncio
import base64
import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.drafts import Draft
from fhir_server.app import opened
from fhir_server.cli.doctor import examined
from fhir_server.cli.reindex import run
from fhir_server.config import Settings
from fhir_server.model.resource import Key
from fhir_server.store.sqlite.prepared import PreparedSet
from tests.cli.test_commands import serving, vehr
from tests.search.test_custom import BY_EYES, parameter, patient

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data directory with 60 patients of several versions and a large Binary."""
    settings = replace(Settings(), store="sqlite:", data=tmp_path / "d")

    async def fill() -> None:
        async with opened(settings) as domain:
            session = domain.system_session("test")
            for gender in ("male", "female"):
                await session.write(
                    [
                        Draft(
                            "PUT",
                            Key("Patient", f"p{n}"),
                            patient("blue", id=f"p{n}", gender=gender),
                        )
                        for n in range(60)
                    ]
                )
            await session.write([Draft("DELETE", Key("Patient", "p9"))])
            content = base64.b64encode(os.urandom(400_000)).decode()
            binary = {"resourceType": "Binary", "contentType": "text/plain", "data": content}
            await session.write([Draft("POST", Key("Binary", "b"), binary)])

    asyncio.run(fill())
    return settings


def look(
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
    *,
    full: bool = False,
    scrub: bool = False,
) -> tuple[bool, str]:
    well = asyncio.run(examined(settings, full=full, scrub=scrub))
    return well, capsys.readouterr().out


def change(settings: Settings, sql: str, *params: object) -> None:
    connection = sqlite3.connect(settings.data / "vehr.sqlite")
    assert connection.execute(sql, params).rowcount
    connection.commit()
    connection.close()


def test_all_is_well(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    well, said = look(settings, capsys, full=True, scrub=True)
    assert well, said
    names = [line[6:].partition(":")[0] for line in said.splitlines() if line.startswith("ok  ")]
    assert names == [
        "directory", "disk", "keys", "schema", "integrity", "counters", "bodies", "definitions",
        "index", "blobs", "audit",
    ]  # fmt: skip
    assert "122 versions are sound" in said


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DELETE FROM posting WHERE rid = 7", "p6: is not completely in the index"),
        ("DELETE FROM string WHERE rid = 7", "p6: is not completely"),
        ("INSERT INTO posting VALUES (1, 2, 3, 4)", "postings in the index"),
        ("UPDATE counter SET live = live + 1", "counter"),
        ("UPDATE resource SET date = 5 WHERE rid = 3", "p2: is indexed by other values"),
    ],
)  # fmt: skip
def test_a_wrong_index_is_found(
    settings: Settings, capsys: pytest.CaptureFixture[str], sql: str, said: str
) -> None:
    if "string" in sql:
        sql = "DELETE FROM posting WHERE rid = 7"
    change(settings, sql)
    well, text = look(settings, capsys, full=True)
    assert not well and said in text, text


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "INSERT INTO words (words, rowid, narrative, rest) VALUES ('delete', 7, '', 'female')",
            "p6: is not completely in the index of words",
        ),
        ("INSERT INTO words (rowid, narrative, rest) VALUES (7, '', 'ghost')", "words are in"),
    ],
)
def test_a_wrong_index_of_words_is_found(
    settings: Settings, capsys: pytest.CaptureFixture[str], sql: str, said: str
) -> None:
    asyncio.run(_followed(settings))
    assert look(settings, capsys, full=True)[0]
    change(settings, sql)
    well, text = look(settings, capsys, full=True)
    assert not well and said in text, text
    if "delete" in sql:
        assert asyncio.run(run(settings, (), lambda state: None)).renewed
        asyncio.run(_followed(settings))
        assert look(settings, capsys, full=True)[0]


async def _followed(settings: Settings) -> None:
    """The index of words catches up."""
    async with opened(settings) as domain:
        writer: Any = domain.store.writer  # type: ignore[attr-defined]
        while (await writer.write(PreparedSet((), follow=50))).followed:
            pass


def test_what_waits_for_a_reindex_is_no_fault(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those before the SearchParameter are not indexed by it, those after it are."""

    async def post() -> None:
        async with opened(settings) as domain:
            session = domain.system_session("test")
            eyes = parameter("eyes", BY_EYES)
            await session.write([Draft("POST", Key("SearchParameter", "eyes"), eyes)])
        async with opened(settings) as domain:
            session = domain.system_session("test")
            await session.write([Draft("POST", Key("Patient", "later"), patient("brown"))])

    asyncio.run(post())
    well, said = look(settings, capsys, full=True)
    assert well and "not indexed yet (vehr reindex): Patient:eyes" in said, said
    change(settings, "DELETE FROM posting WHERE rid = 7")
    well, said = look(settings, capsys, full=True)
    assert not well and "p6: is not completely in the index" in said, said


def test_a_reindex_mends_what_was_found(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    change(settings, "DELETE FROM posting WHERE rid % 3 = 1")
    assert not look(settings, capsys)[0]
    state = asyncio.run(run(settings, (), lambda state: None))
    assert state.counts == {"Binary": 1, "Patient": 59} and state.renewed > 15
    assert look(settings, capsys, full=True)[0]


def test_a_flipped_bit_is_found_and_its_resource_named(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the disk, behind SQLite's back, in an old version that no search looks at."""
    file = settings.data / "vehr.sqlite"
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (frame,) = connection.execute(
        "SELECT v.frame FROM version v JOIN resource r ON r.rid = v.rid"
        " WHERE r.id = 'p41' AND v.version = 1"
    ).fetchone()
    connection.close()
    content = bytearray(file.read_bytes())
    at = content.index(frame) + len(frame) // 2
    content[at] ^= 0x10
    file.write_bytes(content)
    well, said = look(settings, capsys)
    assert well, said
    well, said = look(settings, capsys, scrub=True)
    assert not well and "Patient/p41 version 1 is damaged" in said, said
    assert said.count("Patient/") == 1


def test_a_damaged_blob_is_found(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    (blob,) = [p for p in (settings.data / "blobs").rglob("*") if p.is_file() and len(p.name) == 64]
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    well, said = look(settings, capsys, scrub=True)
    assert not well and "Binary/b version 1" in said, said


def test_a_body_under_another_name_is_found(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    change(settings, "UPDATE resource SET id = 'other' WHERE id = 'p5'")
    well, said = look(settings, capsys, scrub=True)
    assert not well and "Patient/other" in said, said


def test_what_cannot_be_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = replace(Settings(), store="sqlite:", data=tmp_path / "none")
    well, said = look(absent, capsys)
    assert not well and "is not there" in said
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "vehr.sqlite").write_bytes(b"no database at all" * 1000)
    well, said = look(replace(absent, data=tmp_path / "g"), capsys)
    assert not well and "FAIL  database" in said
    newer = tmp_path / "n"
    newer.mkdir()
    with sqlite3.connect(newer / "vehr.sqlite") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    well, said = look(replace(absent, data=newer), capsys)
    assert not well and "newer program" in said


def test_beside_a_running_server(tmp_path: Path) -> None:
    data = tmp_path / "d"
    with serving(data, "--open") as root:
        import httpx

        def post(type_: str, body: object) -> httpx.Response:
            return httpx.post(
                f"{root}/fhir/{type_}", json=body, headers={"content-type": "application/fhir+json"}
            )

        assert post("Patient", patient("blue")).status_code == 201
        assert post("SearchParameter", parameter("eyes", BY_EYES)).status_code == 201
        assert httpx.get(f"{root}/fhir/Patient?eyes=blue").status_code == 400
        done = vehr("doctor", "--scrub", "--full", "--data", data)
        assert done.returncode == 0, done.stdout
        assert "not indexed yet (vehr reindex): Patient:eyes" in done.stdout
        done = vehr("reindex", "Patient", "--data", data)
        assert done.returncode == 0, done.stderr
        assert "1 indexed, 1 renewed" in done.stdout
        assert httpx.get(f"{root}/fhir/Patient?eyes=blue").json()["total"] == 1
        done = vehr("doctor", "--scrub", "--full", "--data", data)
        assert done.returncode == 0, done.stdout
    assert vehr("reindex", "Nothing", "--data", data).returncode == 2
