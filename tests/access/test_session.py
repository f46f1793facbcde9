"""The Session over the memory store: what each principal may read and write, and that hidden
and absent look the same."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from fhir_server.access.drafts import Draft
from fhir_server.access.engine import Engine
from fhir_server.access.policy import PermitAll, ScopePolicy
from fhir_server.access.principal import Principal
from fhir_server.access.scopes import parse_scopes
from fhir_server.access.session import Session
from fhir_server.definitions.registry import load
from fhir_server.formats.json import loads
from fhir_server.model.problem import (
    Forbidden,
    Gone,
    MethodNotAllowed,
    NotFound,
    PreconditionFailed,
    Problem,
    Unprocessable,
)
from fhir_server.model.resource import Key
from fhir_server.search.extract import compile_extract
from fhir_server.search.match import matches
from fhir_server.search.plan import History, Scan, Search, TokenIs
from fhir_server.search.schema import SearchSchema
from fhir_server.store.memory import MemoryStore

DEFINITIONS = load()
SCHEMA = SearchSchema(DEFINITIONS)
EXTRACT = compile_extract(SCHEMA)


def engine() -> Engine:
    ids, clock = itertools.count(1), itertools.count(1_700_000_000_000_000, 1_000)
    return Engine(
        store=MemoryStore(),
        definitions=DEFINITIONS,
        validate=lambda resource: None,
        extract=EXTRACT,
        matches=matches,
        now=lambda: next(clock),
        new_id=lambda: f"n{next(ids)}",
    )


def system(made: Engine) -> Session:
    return Session(made, Principal("hospital", system=True), PermitAll())


def patient(made: Engine, scope: str = "patient/*.cruds", id_: str = "p1") -> Session:
    principal = Principal("app", parse_scopes(scope, DEFINITIONS.resource_types), patient=id_)
    compartment = DEFINITIONS.compartment("Patient")
    return Session(
        made,
        principal,
        ScopePolicy(
            principal, compartment, lambda t, f: TokenIs("status", None, dict(f)["status"])
        ),
    )


def observation(subject: str = "Patient/p1", status: str = "final", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": status,
        "code": {"text": "x"},
        "subject": {"reference": subject},
        **more,
    }


async def world() -> Engine:
    made = engine()
    session = system(made)
    for draft in (
        Draft("PUT", Key("Patient", "p1"), {"resourceType": "Patient", "id": "p1"}),
        Draft("PUT", Key("Patient", "p2"), {"resourceType": "Patient", "id": "p2"}),
        Draft("PUT", Key("Observation", "o1"), observation()),
        Draft("PUT", Key("Observation", "o2"), observation("Patient/p2")),
    ):
        await session.write([draft])
    return made


async def problem(awaitable: Any) -> tuple[type, str]:
    with pytest.raises(Problem) as raised:
        await awaitable
    text = str(raised.value.outcome()) + str(raised.value.headers)
    for id_ in ("o2", "unused", "p2", "p9"):
        text = text.replace(id_, "ID")
    return raised.type, text


async def test_versions_and_deletion() -> None:
    made = await world()
    session, key = system(made), Key("Observation", "o1")
    [changed] = await session.write([Draft("PUT", key, observation(status="amended"))])
    assert changed.stored is not None and changed.stored.version == 2 and not changed.created
    assert loads((await session.vread(key, 1)).body)["status"] == "final"
    assert loads((await session.read(key)).body)["meta"]["versionId"] == "2"
    [deleted] = await session.write([Draft("DELETE", key)])
    assert deleted.stored is not None and deleted.stored.version == 3
    with pytest.raises(Gone) as gone:
        await session.read(key)
    assert gone.value.headers == {"ETag": 'W/"3"'}
    assert (await problem(session.vread(key, 3)))[0] is Gone
    assert (await session.vread(key, 2)).version == 2
    assert [e.method for e in (await session.history(History(key.type, key.id))).entries] == [
        "DELETE",
        "PUT",
        "PUT",
    ]
    [again] = await session.write([Draft("DELETE", key)])
    assert again.stored is None
    [revived] = await session.write([Draft("PUT", key, observation())])
    assert revived.stored is not None and revived.stored.version == 4


async def test_hidden_and_absent_are_the_same() -> None:
    made = await world()
    session = patient(made)
    hidden, unused = Key("Observation", "o2"), Key("Observation", "unused")
    for ask in (
        session.read,
        lambda key: session.vread(key, 1),
        lambda key: session.history(History(key.type, key.id)),
        lambda key: session.write([Draft("PUT", key, observation())]),
        lambda key: session.write([Draft("PUT", key, observation(), if_match="1")]),
        lambda key: session.write([Draft("DELETE", key, if_match="1")]),
    ):
        assert await problem(ask(hidden)) == await problem(ask(unused))
    for key in (hidden, unused):
        [nothing] = await session.write([Draft("DELETE", key)])
        assert nothing.stored is None
    await system(made).write([Draft("DELETE", hidden)])
    assert await problem(session.read(hidden)) == await problem(session.read(unused))
    found = await session.search(Search((Scan("Observation"),), total="exact"))
    assert [m.key.id for m in found.matches] == ["o1"] and found.total == 1


async def test_end_users_write_only_their_own_and_what_resolves() -> None:
    made = await world()
    session = patient(made)
    [created] = await session.write([Draft("POST", Key("Observation", "x"), observation())])
    assert created.created
    foreign = Draft("POST", Key("Observation", "y"), observation("Patient/p2"))
    assert (await problem(session.write([foreign])))[0] in (Forbidden, Unprocessable)
    moved = Draft("PUT", Key("Observation", "o1"), observation("Patient/p2"))
    assert (await problem(session.write([moved])))[0] in (Forbidden, Unprocessable)
    answers = [
        await problem(
            session.write(
                [Draft("POST", Key("Observation", "z"), observation(focus=[{"reference": to}]))]
            )
        )
        for to in ("Patient/p2", "Patient/p9")
    ]
    assert answers[0] == answers[1] and answers[0][0] is Unprocessable
    assert (await problem(session.write([Draft("PUT", Key("Observation", "new"), observation())])))[
        0
    ] is MethodNotAllowed


async def test_granular_scopes_hold_before_and_after_a_write() -> None:
    made = await world()
    session = patient(made, "patient/Observation.rus?status=final")
    key = Key("Observation", "o1")
    assert (await problem(session.write([Draft("PUT", key, observation(status="amended"))])))[
        0
    ] is Forbidden
    await system(made).write([Draft("PUT", key, observation(status="amended"))])
    assert (await problem(session.read(key)))[0] is NotFound
    assert (await problem(session.vread(key, 1)))[0] is NotFound
    assert (await problem(session.read(Key("Patient", "p1"))))[0] is Forbidden
    assert (await problem(session.write([Draft("DELETE", key)])))[0] is Forbidden


async def test_all_or_nothing() -> None:
    made = await world()
    session = system(made)
    drafts = [
        Draft("POST", Key("Observation", "a"), observation()),
        Draft("PUT", Key("Observation", "o1"), observation(), if_match="7"),
    ]
    assert (await problem(session.write(drafts)))[0] is PreconditionFailed
    assert (await problem(session.read(Key("Observation", "a"))))[0] is NotFound


async def test_concurrent_updates_lose_nothing() -> None:
    made = await world()
    session, key = system(made), Key("Observation", "o1")

    async def once(turn: int) -> bool:
        version = (await session.read(key)).version
        try:
            changed = observation(language=f"x-{turn}")
            await session.write([Draft("PUT", key, changed, if_match=str(version))])
        except PreconditionFailed:
            return False
        return True

    done = await asyncio.gather(*(once(turn) for turn in range(32)))
    assert (await session.read(key)).version == 1 + sum(done)
    changes = [Draft("PUT", key, observation(language=f"y-{turn}")) for turn in range(8)]
    await asyncio.gather(*(session.write([change]) for change in changes))
    assert (await session.read(key)).version == 9 + sum(done)


async def test_everything_is_the_compartment() -> None:
    made = await world()
    own = [str(s.key) async for s in patient(made).everything("p1")]
    assert own == ["Patient/p1", "Observation/o1"]
    with pytest.raises(NotFound):
        [s async for s in patient(made).everything("p2")]
