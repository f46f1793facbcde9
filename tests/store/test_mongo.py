"""What only the MongoDB store does: what it refuses, which index serves a query, what it sends."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from fhir_server.model.problem import TooLarge, Unavailable
from fhir_server.model.resource import Key
from fhir_server.search import plan
from fhir_server.search.plan import Scan, Search, SortKey
from fhir_server.search.values import DateValue, StringValue, TokenValue
from fhir_server.store.base import Change, ChangeSet
from fhir_server.store.ledger import LedgerWrite
from fhir_server.store.mongo.opening import database_name, open_store
from fhir_server.store.mongo.schema import MIGRATIONS
from fhir_server.store.mongo.store import MongoStore
from tests.mongodb import new_url, start
from tests.store.building import prepared_change, to, values
from tests.store.commands import sent, served_by

ROOT = Path(__file__).parents[2]
OPERATORS = frozenset(
    {"$and", "$or", "$nor", "$in", "$gt", "$gte", "$lt", "$lte", "$elemMatch", "$expr", "$size"}
    | {"$setIntersection", "$setIsSubset", "$match", "$limit", "$count"}
    | {"$set", "$inc", "$push", "$each", "$slice"}
)
"""All that the store ever says to MongoDB."""


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[MongoStore]:
    store = await open_store(url)
    try:
        yield store
    finally:
        await store.close()


async def administer(url: str, *commands: dict[str, Any]) -> None:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    for command in commands:
        await client[database_name(url)].command(command)
    await client.close()


def refusal(url: str) -> str:
    async def attempt() -> str:
        with pytest.raises(Unavailable) as problem:
            async with opened(url):
                pass
        return str(problem.value)

    return asyncio.run(attempt())


def test_a_standalone_server_is_refused(tmp_path: Path) -> None:
    process, port = start(tmp_path / "db", 0, "--standalone")
    try:
        text = refusal(f"mongodb://127.0.0.1:{port}/vehr")
        assert "standalone" in text and "\n" not in text
    finally:
        process.kill()
        process.wait()


def test_nobody_answers() -> None:
    text = refusal("mongodb://127.0.0.1:1/vehr?serverSelectionTimeoutMS=200")
    assert text == "the database does not answer"


def test_a_newer_schema_is_refused() -> None:
    async def scenario() -> None:
        url = new_url()
        async with opened(url):
            pass
        newer = {"q": {"_id": "schema"}, "u": {"$set": {"version": len(MIGRATIONS) + 1}}}
        await administer(url, {"update": "meta", "updates": [newer]})
        with pytest.raises(Unavailable, match="use the newer program"):
            await open_store(url)

    asyncio.run(scenario())


def test_a_lost_index_is_named_and_rebuilt() -> None:
    async def scenario() -> None:
        url = new_url()
        async with opened(url) as store:
            await store.apply(ChangeSet((prepared_change(Key("A", "1"), 1, values()),)))
            assert await store.trouble() is None
            await administer(url, {"dropIndexes": "resource", "index": "k_d_n"})
            assert "k_d_n of resource" in str(await store.trouble())
            with pytest.raises(Unavailable, match="index"):
                await store.run(Search((Scan("A"),)))
        async with opened(url) as store:
            assert await store.trouble() is None
            assert len((await store.run(Search((Scan("A"),)))).matches) == 1

    asyncio.run(scenario())


def test_a_different_index_is_refused() -> None:
    async def scenario() -> str:
        url = new_url()
        async with opened(url):
            pass
        other = {"key": {"k": 1}, "name": "k_d_n"}
        await administer(
            url,
            {"dropIndexes": "resource", "index": "k_d_n"},
            {"createIndexes": "resource", "indexes": [other]},
        )
        with pytest.raises(Unavailable) as problem:
            await open_store(url)
        return str(problem.value)

    text = asyncio.run(scenario())
    assert "k_d_n of resource" in text and "drop it" in text


def test_a_document_may_not_be_too_large() -> None:
    """And what arrived with it is stored."""

    async def scenario() -> None:
        async with opened(new_url()) as store:
            large = Change(
                Key("A", "1"), 1, 1, os.urandom(17 * 2**20), values(), method="PUT", expect=0
            )
            small = prepared_change(Key("A", "2"), 1, values())
            results = await asyncio.gather(
                *(store.apply(ChangeSet((c,))) for c in (large, small)), return_exceptions=True
            )
            assert isinstance(results[0], TooLarge) and results[0].status == 413
            assert await store.counts() == {"A": 1}

    asyncio.run(scenario())


def test_the_core_starts_without_the_driver() -> None:
    script = (
        "import sys, asyncio; sys.modules.update(pymongo=None, bson=None)\n"
        "import fhir_server.app, fhir_server.cli\n"
        "from fhir_server.config import Settings\n"
        "from fhir_server.store.opening import open_store\n"
        "asyncio.run(open_store(Settings(store='mongodb://h/d'), 'serve'))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.rstrip().endswith("install vehr[mongo]"), done.stderr


# --- what is sent -----------------------------------------------------------------------


HOSTILE = ('{"$gt": ""}', "$where", "$ne", "a.b", "x$y", ".*", "$k", "\x00", "\ud800")


def names_and_values(part: Any) -> Iterator[tuple[str, Any]]:
    """Every name of a command, with what is under it."""
    if isinstance(part, dict):
        for name, inner in part.items():
            yield name, inner
            yield from names_and_values(inner)
    elif isinstance(part, list | tuple):
        for inner in part:
            yield from names_and_values(inner)


def test_what_a_client_says_is_never_an_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operands are numbers and texts behind the hash of their parameter, names are ours."""
    commands: list[Any] = []

    async def scenario() -> None:
        async with opened(new_url()) as store:
            with sent(monkeypatch) as heard:
                for n, text in enumerate(HOSTILE):
                    plain = text.encode("utf-8", "replace").decode()
                    index = values(StringValue(plain, plain), TokenValue(plain, plain, plain))
                    change = prepared_change(Key("A", f"{n}"), 1, index)
                    row = LedgerWrite("kind", f"{n}", {"$set": {"a.b": 1}})
                    await store.apply(ChangeSet((change,), ledger=(row,)))
                    for leaf in (
                        plan.StringIs(plain, text),
                        plan.StringIs(plain, text, "contains"),
                        plan.TokenIs(plain, text, text),
                        plan.UriIs(plain, text, "below"),
                        plan.IdIn((text,)),
                        plan.Not(plan.ReferenceIs(plain, text, text)),
                    ):
                        found = (await store.run(Search((Scan("A", leaf),)))).matches
                        assert all(s.key.id == f"{n}" or isinstance(leaf, plan.Not) for s in found)
                commands.extend(heard)

    asyncio.run(scenario())
    for command in commands:
        for name, inner in names_and_values(command):
            if name.startswith("$") and name not in ("$db", "$clusterTime"):
                assert name in OPERATORS, command
            if isinstance(inner, str) and inner.startswith("$"):
                assert inner == "$k", command
    assert len(commands) > 50


PATIENT = plan.ReferenceIs("subject", "Patient", "p1")
CODE = plan.TokenIs("code", "http://loinc.org", "1")
NAME = plan.StringIs("family", "smi")
QUERIES: list[tuple[str, Search, list[str]]] = [
    ("read", Search((Scan("Patient", plan.IdIn(("p1",))),)), ["resource _id"]),
    (
        "patient, code, newest first",
        Search((Scan("Observation", plan.All((PATIENT, CODE))),), count=5, total="none"),
        ["k_d_n k= sorted"],
    ),
    (
        "the next page of it",
        Search(
            (Scan("Observation", plan.All((PATIENT, CODE))),), count=5, after=(9, 9), total="none"
        ),
        ["k_d_n k= d< sorted"],
    ),
    ("code, newest first", Search((Scan("Observation", CODE),), total="none"), ["k_d_n k= sorted"]),
    (
        "family and birthdate",
        Search((Scan("Patient", plan.All((NAME, plan.DateIs("birthdate", "eq", 0, 9)))),)),
        ["s s<", "r r.p= r.a<", "s s<"],
    ),
    (
        "chain",
        Search(
            (Scan("Observation", plan.Chain("subject", (Scan("Patient", NAME),))),), total="none"
        ),
        ["s s<", "s s<", "k_d_n k= sorted"],
    ),
    (
        "_has",
        Search((Scan("Patient", plan.Has(Scan("Observation", CODE), "subject")),), total="none"),
        ["k_d_n k= sorted", "_id_ _id="],
    ),
    (
        "everything of a patient",
        Search((Scan("Observation", plan.InPatient(("p1",))),), count=100),
        ["k_d_n k= sorted"],
    ),
    (
        "what a patient refers to, of two types",
        Search((Scan("Patient", plan.IdIn(("p1", "p2"))), Scan("Observation", plan.IdIn(("1",))))),
        ["_id_ _id="],
    ),
    (
        "everything of a patient, of two types",
        Search(
            (Scan("Patient", plan.InPatient(("p1",))), Scan("Observation", plan.InPatient(("p1",))))
        ),
        ["k_d_n k= sorted"],
    ),
    (
        "last updated",
        Search((Scan("Observation"),), (SortKey("_lastUpdated", "updated", True),), total="none"),
        ["y_u_n y= sorted"],
    ),
    ("a type's count", Search((Scan("Patient"),), count=0, total="exact"), ["meta _id"]),
    (
        "a code's count",
        Search((Scan("Observation", CODE),), count=0, total="exact"),
        ["k_d_n k="],
    ),
]


@pytest.fixture(scope="module")
def filled() -> Iterator[tuple[asyncio.Runner, MongoStore]]:
    with asyncio.Runner() as runner:
        store = runner.run(open_store(new_url()))
        patients = [
            prepared_change(
                Key("Patient", f"p{n}"),
                1,
                values(StringValue("family", "smith"), DateValue("birthdate", 0, 9)),
            )
            for n in range(3)
        ]
        observations = [
            prepared_change(
                Key("Observation", str(n)),
                1,
                values(
                    to("subject", f"Patient/p{n % 3}"),
                    TokenValue("code", "http://loinc.org", str(n % 2)),
                    date=n,
                    patients=(f"p{n % 3}",),
                ),
            )
            for n in range(30)
        ]
        runner.run(store.apply(ChangeSet((*patients, *observations))))
        yield runner, store
        runner.run(store.close())


@pytest.mark.parametrize(
    ("search", "expected"), [(s, e) for _, s, e in QUERIES], ids=[n for n, *_ in QUERIES]
)
def test_the_index_that_serves_a_query(
    filled: tuple[asyncio.Runner, MongoStore],
    search: Search,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the commands that are sent; ``DESIGN``'s flat costs hang on these prefixes."""
    runner, store = filled
    store._tables.counts._known.clear()

    async def served() -> list[str]:
        with sent(monkeypatch) as commands:
            await store.run(search)
        return [served_by(command) for command in commands]

    assert runner.run(served()) == expected
