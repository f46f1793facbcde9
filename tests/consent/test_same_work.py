"""L53: the store is asked the same for what is hidden and for what was never there: there is
nothing in the time of an answer but what the same statements take on other rows.

A statement here is a call of the store or its ledger, with its arguments but for the id.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.consent.worlds import Json, Twin, observation, to, twins

CALLS = ("run", "current", "version", "versions", "apply")
ROWS = ("get", "scan")
VERSION = re.compile(r"^(version \(Key\([^)]*\)), \d+\)")
JOBS = (("job-slot",), ("job",))
PATCH = {"content-type": "application/json-patch+json"}


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    with twins("memory", tmp_path_factory.mktemp("work")) as (whole, _):
        whole.put(observation("gone", "25836-8", 5, "06"))
        whole.server.delete("Observation/gone", headers=whole.system)
        for id_ in ("v2", "u"):
            whole.ask("GET", f"Observation/{id_}")
        yield whole


def work(twin: Twin, method: str, url: str, body: Any = None, **headers: str) -> list[str]:
    """The statements of one request of D."""
    done: list[str] = []
    store = twin.server.domain.store
    others = twin.server.tasks()
    with pytest.MonkeyPatch.context() as patch:
        for owner, names in ((store, CALLS), (store.ledger, ROWS)):
            for name in names:
                patch.setattr(owner, name, _told(name, getattr(owner, name), done, others))
        twin.ask(method, url, body, **headers)
    return done


def _told(name: str, call: Any, done: list[str], others: set[Any]) -> Any:
    """``others``: tasks of the server that serve no request."""

    async def told(*given: Any, **named: Any) -> Any:
        if asyncio.current_task() not in others and given[:1] not in JOBS:
            done.append(VERSION.sub(r"\1, *)", f"{name} {given!r} {named!r}"))
        return await call(*given, **named)

    return told


UNUSED = "u1"
HIDDEN = {
    "Observation": ("h1", "gone"),
    "Condition": ("h2",),
    "DocumentReference": ("h3",),
    "Encounter": ("h4",),
    "Flag": ("hf",),
    "Provenance": ("hp",),
    "Binary": ("b3",),
}
PAIRS = [(type_, id_) for type_, ids in HIDDEN.items() for id_ in ids]
READS = ("{}", "{}/_history", "{}/_history/1", "{}/$meta")


def same(twin: Twin, id_: str, method: str, url: str, body: Any = None, **headers: str) -> None:
    """``url`` has ``ID`` in the place of the id."""

    def about(name: str) -> list[str]:
        filled = _filled(body, name)
        made = work(twin, method, url.replace("ID", name), filled, **headers)
        made = [line.replace(f"/{name}'", "/ID'") for line in made]
        return [line.replace(f"'{name}'", "ID").replace("'h3'", "'-'") for line in made]

    hidden, unused = about(id_), about(UNUSED)
    assert hidden == unused


def _filled(body: Any, name: str) -> Any:
    if isinstance(body, dict):
        return {key: _filled(value, name) for key, value in body.items()}
    if isinstance(body, list):
        return [_filled(value, name) for value in body]
    return body.replace("ID", name) if isinstance(body, str) else body


@pytest.mark.parametrize(("type_", "id_"), PAIRS)
@pytest.mark.parametrize("url", READS)
def test_l53_reads(twin: Twin, type_: str, id_: str, url: str) -> None:
    same(twin, id_, "GET", url.format(f"{type_}/ID"))


@pytest.mark.parametrize(("type_", "id_"), PAIRS)
@pytest.mark.parametrize(
    "headers", [{}, {"If-None-Match": 'W/"1"'}, {"X-Purpose-Of-Use": "ETREAT"}]
)
def test_l53_heads(twin: Twin, type_: str, id_: str, headers: dict[str, str]) -> None:
    same(twin, id_, "HEAD", f"{type_}/ID", **headers)


@pytest.mark.parametrize(
    "url",
    [
        "Observation?_id=ID",
        "Observation?_id=ID,v2",
        "Condition?encounter=Encounter/ID",
        "DiagnosticReport?result=Observation/ID",
        "DiagnosticReport?_id=ID&_include=DiagnosticReport:result",
        "Patient?_has:Observation:patient:_id=ID",
        "Encounter?diagnosis:Condition._id=ID",
        "Encounter/ID/Condition",
        "List?item=Condition/ID",
        "_history?_list=ID",
    ],
)
@pytest.mark.parametrize("id_", ["h1", "h2", "h4"])
def test_l53_searches(twin: Twin, url: str, id_: str) -> None:
    same(twin, id_, "GET", url)


BODY: Json = {**observation("ID", "2093-3", 1, "09")}
REFERRING: Json = {
    n: v
    for n, v in observation("", "2093-3", 1, "09", encounter=to("Encounter/ID")).items()
    if n != "id"
}
WRITES: dict[str, tuple[str, str, str, Any, dict[str, str]]] = {
    "put": ("h1", "PUT", "Observation/ID", BODY, {}),
    "put if-match": ("h1", "PUT", "Observation/ID", BODY, {"If-Match": 'W/"1"'}),
    "put deleted": ("gone", "PUT", "Observation/ID", BODY, {}),
    "delete": ("h1", "DELETE", "Observation/ID", None, {}),
    "patch": (
        "h1",
        "PATCH",
        "Observation/ID",
        [{"op": "add", "path": "/issued", "value": "2024-01-01T00:00:00Z"}],
        PATCH,
    ),
    "delete by condition": ("h1", "DELETE", "Observation?_id=ID", None, {}),
    "referring": ("h4", "POST", "Observation", REFERRING, {}),
}


@pytest.mark.parametrize("name", WRITES)
def test_l53_writes(twin: Twin, name: str) -> None:
    id_, method, url, body, headers = WRITES[name]
    same(twin, id_, method, url, body, **headers)


def test_l53_the_test_can_fail(twin: Twin) -> None:
    """What is seen is not answered with the work for what is not there."""
    with pytest.raises(AssertionError):
        same(twin, "v3", "GET", "Observation/ID")
