"""One index of the cluster: made, written, read, removed."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Final

import structlog

from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Key
from fhir_server.search.plan import TOTAL_LIMIT
from fhir_server.store.elastic.cluster import (
    GONE,
    RETRY,
    SECONDS,
    Cluster,
    Large,
    Missing,
    Read,
    Work,
)
from fhir_server.store.elastic.documents import mapping

log = structlog.get_logger("vehr")

PAGE: Final = TOTAL_LIMIT + 1
"""Names that one request reads: whether a total is told is known after one."""
SLOWLY: Final = 60.0
"""Seconds that a request may take which nobody waits for."""


@dataclass(frozen=True, slots=True)
class Put:
    """The document of a version; ``seq``: its position in the change feed."""

    key: Key
    seq: int
    document: Json


@dataclass(frozen=True, slots=True)
class Remove:
    """Nothing of this resource up to ``seq``, also of what is written late."""

    key: Key
    seq: int


@dataclass(frozen=True, slots=True)
class Hit:
    """``seq``: of the version that was found; ``after``: where the next page begins."""

    key: Key
    seq: int
    after: tuple[Any, ...]

    @property
    def place(self) -> int:
        return int(self.after[0])


def new_name() -> str:
    """Of an index that no other server of the cluster has."""
    return f"vehr-{secrets.token_hex(8)}"


class Index:
    """It is written and read by an alias, ``name``: else a write to an index that somebody has
    removed would make one that knows no mapping. Raises Unavailable when the engine does not
    answer, Missing when it has no such index."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self.name = name

    async def _ask(self, work: Work, read: Read, seconds: float = SECONDS) -> Any:
        try:
            return await self._cluster.ask(work, seconds, read)
        except Missing:
            raise Missing(self.name) from None

    @property
    def concrete(self) -> str:
        return self.name + "-1"

    async def create(self, dimensions: int | None = None) -> None:
        made = mapping(dimensions)
        try:
            await self._ask(
                lambda client: client.indices.create(
                    index=self.concrete,
                    aliases={self.name: {}},
                    settings=made["settings"],
                    mappings=made["mappings"],
                ),
                _acknowledged,
                SLOWLY,
            )
        except Missing:  # of what is made now: somebody else answers
            raise Unavailable("the search engine makes no index", headers=RETRY) from None

    async def write(self, changes: Sequence[Put | Remove], *, refresh: bool = False) -> None:
        """What is newer stays. ``refresh``: searches see it when this returns."""
        if changes:
            await self._write(changes)
        if refresh:
            await self.refresh()

    async def _write(self, changes: Sequence[Put | Remove]) -> None:
        """In requests as large as it takes."""
        lines = [line for change in changes for line in _lines(change)]
        try:
            await self._ask(
                lambda client: client.bulk(index=self.name, operations=lines, require_alias=True),
                partial(self._check, len(changes)),
                SLOWLY,
            )
        except Large:
            if len(changes) == 1:
                raise
            half = len(changes) // 2
            await self._write(changes[:half])
            await self._write(changes[half:])

    def _check(self, count: int, answer: Json) -> None:
        """Each is done, or something newer is there. Raises Unavailable."""
        if len(answer["items"]) != count:
            raise ValueError("not an answer to each document")
        if answer["errors"] is False:
            return
        for item in answer["items"]:
            (result,) = item.values()
            status = result["status"]
            if status in (200, 201, 409) or (status == 404 and "error" not in result):
                continue
            kind = result.get("error", {}).get("type", "")
            if kind == GONE:
                raise Missing(self.name)
            log.error("a document is refused", name=result.get("_id"), status=status, kind=kind)
            raise Unavailable("the search engine refuses a document", headers=RETRY)

    async def refresh(self) -> None:
        """What was written is seen by searches."""
        await self._ask(lambda client: client.indices.refresh(index=self.name), _whole, SLOWLY)

    async def hits(
        self, query: Json, order: tuple[str, bool], after: tuple[Any, ...] | None
    ) -> list[Hit]:
        """Up to ``PAGE`` names behind ``after``. ``order``: (field, descending)."""
        field, descending = order
        sort = [{field: {"order": "desc" if descending else "asc"}}, {"name": {"order": "asc"}}]
        found: list[Hit] = await self._ask(
            lambda client: client.search(
                index=self.name,
                query={"bool": {"filter": [query]}},
                sort=sort,
                size=PAGE,
                search_after=None if after is None else list(after),
                version=True,
                source=False,
                track_total_hits=False,
                allow_partial_search_results=False,
            ),
            lambda answer: _ordered(_hits(answer, PAGE), descending=descending),
        )
        return found

    async def nearest(self, vector: Sequence[float], query: Json, k: int, most: int) -> list[Hit]:
        """The ``k`` nearest by cosine that ``query`` finds, of at most ``most`` per shard."""
        knn: Json = {
            "field": "vector",
            "query_vector": list(vector),
            "k": k,
            "num_candidates": most,
            "filter": query,
        }
        found: list[Hit] = await self._ask(
            lambda client: client.search(
                index=self.name,
                knn=knn,
                size=k,
                sort=[{"_score": {"order": "desc"}}, {"name": {"order": "asc"}}],
                version=True,
                source=False,
                track_total_hits=False,
                allow_partial_search_results=False,
            ),
            lambda answer: _hits(answer, k),
        )
        return found

    async def drop(self) -> None:
        """The index goes, if it is there."""
        with suppress(Missing):
            await self._ask(
                lambda client: client.indices.delete(index=self.concrete, ignore_unavailable=True),
                _acknowledged,
                SLOWLY,
            )

    async def merge(self) -> None:
        """Leaves nothing in the files of what was removed."""
        await self._ask(
            lambda client: client.indices.forcemerge(
                index=self.name, only_expunge_deletes=True, flush=True
            ),
            _whole,
            SLOWLY,
        )


def _lines(change: Put | Remove) -> Iterable[Json]:
    about: Json = {"_id": str(change.key), "version": change.seq}
    match change:
        case Put(document=document):
            return ({"index": {**about, "version_type": "external"}}, document)
        case Remove():
            return ({"delete": {**about, "version_type": "external_gte"}},)


def _acknowledged(answer: Json) -> None:
    """Raises Unavailable if it is not done yet."""
    if answer["acknowledged"] is not True:
        raise Unavailable("the search engine has not done it in time", headers=RETRY)


def _whole(answer: Json) -> None:
    """Raises Unavailable unless it is done in every shard."""
    if answer["_shards"]["failed"] != 0:
        raise Unavailable("the search engine has not done it everywhere", headers=RETRY)


def _hits(answer: Json, most: int) -> list[Hit]:
    """Raises Unavailable unless every shard has answered to the end."""
    if answer["timed_out"] is not False or answer["_shards"]["failed"] != 0:
        raise Unavailable("the search engine has not looked everywhere", headers=RETRY)
    found = [_hit(hit) for hit in answer["hits"]["hits"]]
    if len(found) > most:
        raise ValueError("more than was asked for")
    return found


def _hit(hit: Json) -> Hit:
    type_, _, id_ = hit["_id"].partition("/")
    place, name = hit["sort"]
    if not id_ or name != hit["_id"]:
        raise ValueError("not a name of this index")
    return Hit(Key(type_, id_), int(hit["_version"]), (place, name))


def _ordered(found: list[Hit], *, descending: bool) -> list[Hit]:
    """The same, in the order that was asked for; else pages would leave something out."""
    keys = [(-hit.place if descending else hit.place, str(hit.key)) for hit in found]
    if any(later <= key for key, later in pairwise(keys)):
        raise ValueError("not in order")
    return found
