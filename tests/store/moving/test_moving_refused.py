"""What is not moved, and copies that differ."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pymongo
import pytest

from fhir_server.model.problem import Unavailable
from fhir_server.store.mongo.moving import MongoTarget
from fhir_server.store.mongo.opening import open_store as open_mongo
from fhir_server.store.moving import MoveError
from fhir_server.store.sqlite.moving import SqliteTarget
from fhir_server.store.sqlite.schema import FILE
from tests.mongodb import new_url
from tests.serving import served
from tests.store.moving.copies import copy, patient, twin_of


def test_a_target_that_holds_something_is_refused(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with served("sqlite", other) as server:
        server.create(patient(1))
    kept = (other / FILE).read_bytes()
    with pytest.raises(MoveError, match="not empty"):
        copy(f"sqlite:{source}", f"sqlite:{other}", tmp_path)
    assert (other / FILE).read_bytes() == kept
    url = new_url()
    with served("mongo", tmp_path / "m", at=url) as server:
        server.create(patient(1))
    with pytest.raises(MoveError, match="not empty"):
        copy(f"sqlite:{source}", url, tmp_path, (None, tmp_path / "b"))
    (tmp_path / "x.part").mkdir()
    (tmp_path / "x.part" / "mine").write_text("mine")
    with pytest.raises(MoveError, match="something else"):
        copy(f"sqlite:{source}", f"sqlite:{tmp_path / 'x'}", tmp_path)


def test_a_newer_or_older_schema_is_refused(source: Path, tmp_path: Path) -> None:
    for version, said in ((99, "use the newer program"), (2, "older program")):
        twin = twin_of(source, tmp_path / str(version))
        with closing(sqlite3.connect(twin / FILE)) as connection:
            connection.execute(" ".join(("PRAGMA user_version =", str(version))))
        with pytest.raises((Unavailable, MoveError), match=said):
            copy(f"sqlite:{twin}", f"sqlite:{tmp_path / 'new'}", tmp_path)
    url = new_url()
    with pytest.raises(MoveError, match="empty or of an older"):
        copy(url, f"sqlite:{tmp_path / 'new'}", tmp_path, (tmp_path, None))
    with pymongo.MongoClient(url) as client:
        name = urlsplit(url).path[1:]
        client[name].meta.insert_one({"_id": "schema", "version": 99})
        for pair in ((url, f"sqlite:{tmp_path / 'new'}"), (f"sqlite:{source}", url)):
            with pytest.raises(Unavailable, match="use the newer program"):
                copy(*pair, tmp_path, (tmp_path, tmp_path))
    assert not (tmp_path / "new").exists()


def test_itself_or_nothing_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(MoveError, match="the same"):
        copy(f"sqlite:{source}", f"sqlite:{source}", tmp_path)
    with pytest.raises(MoveError, match="no database"):
        copy(f"sqlite:{tmp_path / 'none'}", f"sqlite:{tmp_path / 'new'}", tmp_path)


def test_two_at_once_are_refused(source: Path, tmp_path: Path) -> None:
    target = SqliteTarget(tmp_path / "new")
    with pytest.raises(MoveError, match="running"):
        copy(f"sqlite:{source}", f"sqlite:{tmp_path / 'new'}", tmp_path)
    asyncio.run(target.close())


def test_a_missing_or_damaged_content_is_named(source: Path, tmp_path: Path) -> None:
    twin = twin_of(source, tmp_path)
    (file,) = (p for p in (twin / "blobs").rglob("*") if len(p.name) == 64)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(MoveError, match=file.name):
        copy(f"sqlite:{twin}", f"sqlite:{tmp_path / 'new'}", tmp_path)
    assert not (tmp_path / "new").exists()


Change = dict[str, Any]


@pytest.fixture(params=["drop", "body", "order", "row"])
def mutant(request: pytest.FixtureRequest) -> str:
    """What a target does not do as it should."""
    return str(request.param)


def broken(monkeypatch: pytest.MonkeyPatch, target: Any, mutant: str) -> None:
    add, rows = target.add, target.add_rows

    async def wrong(self: Any, versions: list[Any], mark: Any) -> None:
        one = versions[1]
        change: Change = {
            "body": {"raw": one.raw.replace(b"Ann", b"Eve")},
            "order": {"rid": one.rid + 1000},
        }.get(mutant, {})
        versions = [versions[0], one._replace(**change), *versions[2:]]
        if mutant == "drop":
            del versions[1]
        await add(self, versions, mark)

    async def fewer(self: Any, batch: list[Any]) -> None:
        await rows(self, batch[1:])

    if mutant == "row":
        monkeypatch.setattr(target, "add_rows", fewer)
    else:
        monkeypatch.setattr(target, "add", wrong)


def test_what_differs_is_found(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    broken(monkeypatch, SqliteTarget, mutant)
    with pytest.raises(MoveError, match="differs"):
        copy(f"sqlite:{source}", f"sqlite:{tmp_path / 'new'}", tmp_path)
    assert not (tmp_path / "new").exists()


def test_what_differs_on_mongodb_is_found(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    """And no server serves it."""
    url = new_url()
    broken(monkeypatch, MongoTarget, mutant)
    with pytest.raises(MoveError, match="differs"):
        copy(f"sqlite:{source}", url, tmp_path, (None, tmp_path / "blobs"))
    with pytest.raises(Unavailable, match="has not ended"):
        asyncio.run(open_mongo(url))
