"""Which store the settings name."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from fhir_server.config import Settings
from fhir_server.model.problem import BadRequest, Unavailable
from fhir_server.store.base import Store
from fhir_server.store.blobs import Blobs, LocalBlobs, MemoryBlobs
from fhir_server.store.erase_log import Entry, EraseLog, EraseLogError
from fhir_server.store.memory import MemoryStore
from fhir_server.store.sqlite import opening as sqlite

PATIENT: Final = 0.75
"""Of the time of a request: what may pass while a search waits and runs."""


def bank_settings(settings: Settings) -> Settings:
    """Of the data bank for research: a second store of the same kind, beside that of the record,
    without a search engine."""
    store, data = settings.store, settings.data / "research"
    if settings.on_mongodb:
        store = _beside(store)
    return replace(settings, store=store, data=data, search="", blobs=None, erase_log=None)


def _beside(url: str) -> str:
    """The MongoDB of the data bank. Without ``authSource`` the database of a URL is also the one
    that knows its user; that stays the same:
    https://www.mongodb.com/docs/manual/reference/connection-string-options/"""
    scheme, _, rest = url.partition("://")
    place, _, options = rest.partition("?")
    host, _, database = place.rpartition("/")
    if scheme == "mongodb" and "@" in host and "authsource=" not in options.lower():
        options = "&".join(filter(None, (options, f"authSource={database}")))
    return f"{scheme}://{place}_research" + (f"?{options}" if options else "")


async def open_store(settings: Settings, role: str) -> Store:
    """``role``: "serve", or "command" beside or without a server. Raises Unavailable."""
    store = await _open_store(settings, role)
    if not settings.search:
        return store
    try:
        return search_opener()(store, settings)
    except Unavailable:
        await store.close()
        raise


async def _open_store(settings: Settings, role: str) -> Store:
    if settings.store == "memory:":
        return MemoryStore()
    if settings.on_mongodb:
        return await mongo_opener()(settings.store, _erased(settings))
    return await sqlite.open_store(
        settings.data,
        role,
        most_slow=settings.max_slow,
        patience=PATIENT * settings.request_seconds,
    )


def _erased(settings: Settings) -> list[Entry]:
    try:
        return EraseLog(settings.erased).entries()
    except (EraseLogError, OSError) as error:
        raise Unavailable(f"the erase log cannot be read: {error}") from None


def mongo_opener() -> Callable[[str, list[Entry]], Coroutine[Any, Any, Store]]:
    """Raises Unavailable without the driver, which only this store needs."""
    try:
        from fhir_server.store.mongo.opening import open_kept
    except ImportError:
        raise Unavailable("a MongoDB store needs its driver: install vehr[mongo]") from None
    return open_kept


def search_opener() -> Callable[[Store, Settings], Store]:
    """Raises Unavailable without the client, which only this needs."""
    try:
        from fhir_server.store.elastic.opening import over
    except ImportError:
        raise Unavailable("VEHR_SEARCH needs a client: install vehr[elastic]") from None
    return over


@runtime_checkable
class Followed(Protocol):
    """A store with a search engine beside it."""

    def following(self) -> AbstractAsyncContextManager[None]:
        """The engine follows the store by itself meanwhile."""
        ...

    async def rebuild(self, told: Callable[[int, int], None]) -> int:
        """Makes its index anew and waits for it. ``told``: the position of the change feed that
        it has come to, and the last one, again and again. The last one."""
        ...


def following(store: Store) -> AbstractAsyncContextManager[None]:
    """What a server does for the search engine, if it has one."""
    return store.following() if isinstance(store, Followed) else nullcontext()


async def rebuild_search(store: Store, told: Callable[[int, int], None]) -> int:
    """As of ``Followed.rebuild``. Raises BadRequest without a search engine."""
    if not isinstance(store, Followed):
        raise BadRequest("VEHR_SEARCH names no search engine", code="not-supported")
    return await store.rebuild(told)


def sole_server(settings: Settings) -> sqlite.Lock | None:
    """The lock that this server, with all its processes, holds while it is there; only the
    embedded store needs one.

    Raises Unavailable if another server has it.
    """
    return sqlite.server_lock(settings.data) if settings.store == "sqlite:" else None


def open_blobs(settings: Settings) -> Blobs:
    """Raises Unavailable: an object store without its client, or below a store in memory, which
    would sweep what others have stored there.
    """
    if settings.blobs is not None:
        if settings.store == "memory:":
            raise Unavailable("VEHR_STORE=memory: keeps contents in memory too: unset VEHR_BLOBS")
        try:
            from fhir_server.store.s3 import S3Blobs
        except ImportError:
            raise Unavailable("VEHR_BLOBS=s3://… needs its client: install vehr[s3]") from None
        return S3Blobs(settings.blobs, settings.data / "spool", settings.max_content)
    if settings.store == "memory:":
        return MemoryBlobs(settings.max_content)
    return LocalBlobs(settings.data / "blobs", settings.max_content)


@contextmanager
def data_folder(settings: Settings) -> Iterator[Path]:
    """Where the files of jobs and of the audit trail lie; those of a store that keeps nothing
    are not kept either.
    """
    if settings.store != "memory:":
        yield settings.data
        return
    with tempfile.TemporaryDirectory(prefix="vehr-") as folder:
        yield Path(folder)
