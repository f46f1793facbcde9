"""A whole server in this process, without sockets: for tests of HTTP and interactions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from fhir_server.app import Domain, assemble, serving
from fhir_server.auth.clients import Client, hashed_secret
from fhir_server.auth.relations import Relation
from fhir_server.config import Settings
from fhir_server.http.respond import Asgi
from fhir_server.store.base import Store
from fhir_server.store.memory import MemoryStore
from fhir_server.store.mongo.opening import open_store as open_mongo
from fhir_server.store.opening import search_opener
from fhir_server.store.sqlite.opening import open_store
from tests.mongodb import new_url

T = TypeVar("T")
Json = dict[str, Any]
BASE = "http://127.0.0.1:8080/fhir"
FHIR_JSON = "application/fhir+json"


async def _memory(_: Path) -> Store:
    return MemoryStore()


async def _sqlite(path: Path) -> Store:
    return await open_store(path, "serve")


async def _mongo(path: Path) -> Store:
    return await open_mongo(database(path))


@cache
def database(folder: Path) -> str:
    """The URL of the MongoDB that belongs to a data directory, as an embedded database does."""
    return new_url()


BACKENDS: tuple[str, ...] = tuple(
    os.environ.get("VEHR_TEST_BACKENDS", "memory,sqlite").replace(" ", "").split(",")
)
"""The stores that every suite runs on; the contract and conformance suites always run on all."""
ONLY: str = BACKENDS[0] if len(BACKENDS) == 1 else ""
"""Where one store is asked for, every server of every suite is on it, whatever its test names."""
_OPENERS: dict[str, Callable[[Path], Coroutine[None, None, Store]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "mongo": _mongo,
}
STORES: dict[str, Callable[[Path], Coroutine[None, None, Store]]] = {
    name: _OPENERS[ONLY or name] for name in _OPENERS
}


def backends(usual: str) -> tuple[str, ...]:
    """For suites that take long: the ``usual`` store, or those that are asked for."""
    return BACKENDS if "VEHR_TEST_BACKENDS" in os.environ else (usual,)


looks_into_sqlite = pytest.mark.skipif(
    ONLY not in ("", "sqlite"),
    reason="looks into the files of SQLite, and another store is asked for",
)


class Server:
    """Sends requests as a client with the given headers."""

    def __init__(self, domain: Domain, app: Asgi, runner: asyncio.Runner) -> None:
        self.domain = domain
        self.app = app
        self.headers: dict[str, str] = {}
        self._runner = runner

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def tasks(self) -> set[asyncio.Task[Any]]:
        """What is under way beside requests."""
        return asyncio.all_tasks(self._runner.get_loop())

    def send(self, method: str, url: str, **options: Any) -> httpx.Response:
        """``url`` relative to the FHIR base, or absolute, or with a leading slash from the root."""
        name, place, whole = self._request((method, url, options))

        async def sent() -> httpx.Response:
            async with self._client() as client:
                return await client.request(name, place, **whole)

        return self.run(sent())

    def send_all(self, requests: list[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
        """Several requests at the same time."""

        async def sent() -> list[httpx.Response]:
            async with self._client() as client:
                return await asyncio.gather(
                    *(client.request(m, u, **o) for m, u, o in map(self._request, requests))
                )

        return self.run(sent())

    def _client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app)  # type: ignore[arg-type]
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080")

    def _request(self, request: tuple[str, str, dict[str, Any]]) -> tuple[str, str, dict[str, Any]]:
        method, url, given = request
        options = dict(given)
        if not url.startswith(("http:", "/")):
            url = f"{BASE}/{url}"
        headers = self.headers | options.pop("headers", {})
        body = options.pop("json", None)
        if body is not None:
            options["content"] = _dumps(body)
            headers = {"content-type": FHIR_JSON} | headers
        return method, url, options | {"headers": headers}

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.send("GET", url, **options)

    def post(self, url: str, body: Json | None = None, **options: Any) -> httpx.Response:
        return self.send("POST", url, json=body, **options)

    def put(self, url: str, body: Json | None = None, **options: Any) -> httpx.Response:
        return self.send("PUT", url, json=body, **options)

    def delete(self, url: str, **options: Any) -> httpx.Response:
        return self.send("DELETE", url, **options)

    def create(self, body: Json, **options: Any) -> Json:
        """The stored resource of a create that must succeed."""
        answer = self.post(body["resourceType"], body, **options)
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    def token(self, scope: str, *, minutes: int = 5, **holder: Any) -> str:
        holder = {"client": "test"} | holder
        return self.run(self.domain.tokens.issue(scope=scope, minutes=minutes, **holder))

    def user(self, name: str, role: str, fhir_user: str = "", password: str = "") -> None:
        """A user of this domain."""
        users = self.domain.identities.users
        self.run(users.add(name, role, fhir_user=fhir_user, password=password))

    def relation(self, user: str, patient: str, seconds: float = 3600) -> None:
        """The user cares for the patient from now on."""
        now = self.domain.identities.records.now()
        relation = Relation(user, patient, "care-team", now, now + seconds)
        self.run(self.domain.identities.relations.add(relation))

    def client(self, id_: str, **given: Any) -> Client:
        """A registered client; public unless ``secret`` or ``keys`` is given."""
        secret, keys = given.pop("secret", ""), given.pop("keys", None)
        made = Client(
            id=id_,
            name=given.pop("name", id_),
            method="secret" if secret else "keys" if keys else "public",
            redirects=given.pop("redirects", ()),
            scope=given.pop("scope", ""),
            secret=hashed_secret(secret) if secret else "",
            keys=keys,
            disabled=False,
        )
        self.run(self.domain.identities.clients.add(made))
        return made

    def bearer(self, scope: str, **holder: Any) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token(scope, **holder)}"}


def _dumps(body: Any) -> bytes:
    import json

    return json.dumps(body).encode()


@contextmanager
def served(
    backend: str, folder: Path, *, open_: bool = True, at: str = "", **settings: Any
) -> Iterator[Server]:
    """A server over a new store, the database that is in ``folder``, or the MongoDB ``at``."""
    with asyncio.Runner() as runner:
        store = runner.run(open_mongo(at) if at else STORES[backend](folder))
        whole = _settings(ONLY or backend, folder, **{"store": at, **settings} if at else settings)
        if whole.search:
            store = search_opener()(store, whole)
        domain = runner.run(assemble(whole, store))
        parts = serving(domain, open_=open_)
        yield Server(domain, runner.run(parts.__aenter__()), runner)
        runner.run(parts.__aexit__(None, None, None))
        runner.run(store.close())


def settings(folder: Path) -> Settings:
    """Of commands on what ``served("sqlite", folder)`` has left."""
    return _settings(ONLY or "sqlite", folder)


def _settings(backend: str, folder: Path, **settings: Any) -> Settings:
    kind = database(folder) if backend == "mongo" else f"{backend}:"
    return replace(Settings(store=kind, data=folder, research="off"), **settings)


def issue(answer: httpx.Response) -> Json:
    """The first issue of an OperationOutcome, which the answer must be."""
    assert answer.headers["content-type"] == "application/fhir+json; charset=utf-8", answer.text
    body = answer.json()
    assert body["resourceType"] == "OperationOutcome", body
    first: Json = body["issue"][0]
    assert first["severity"] and first["code"] and first["diagnostics"]
    return first
