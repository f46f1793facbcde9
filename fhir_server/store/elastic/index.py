"""One index of the cluster: made, written, read, removed."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Key
from fhir_server.search.plan import TOTAL_LIMIT
from fhir_server.store.elastic.cluster import RETRY, SECONDS, Cluster, Missing, Work
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

    async def _ask(self, work: Work, seconds: float = SECONDS) -> Any:
        try:
            return await self._cluster.ask(work, seconds)
        except Missing:
            raise Missing(self.name) from None

    @property
    def concrete(self) -> str:
        return self.name + "-1"

    async def create(self, dimensions: int | None = None) -> None:
        made = mapping(dimensions)
        await self._ask(
            lambda client: client.indices.create(
                index=self.concrete,
                aliases={self.name: {}},
                settings=made["settings"],
                mappings=made["mappings"],
            ),
            SLOWLY,
        )

    async def write(self, changes: Sequence[Put | Remove], *, refresh: bool = False) -> None:
        """What is newer stays. ``refresh``: searches see it when this returns."""
        if not changes:
            if refresh:
                await self.refresh()
            return
        lines = [line for change in changes for line in _lines(change)]
        answer = await self._ask(
            lambda client: client.bulk(
                index=self.name, operations=lines, refresh=refresh, require_alias=True
            ),
            SLOWLY,
        )
        self._check(answer)

    def _check(self, answer: Json) -> None:
        """Each is done, or something newer is there. Raises Unavailable."""
        if not answer["errors"]:
            return
        for item in answer["items"]:
            (result,) = item.values()
            status = result["status"]
            if status in (200, 201, 409) or (status == 404 and "error" not in result):
                continue
            kind = result.get("error", {}).get("type", "")
            if kind == "index_not_found_exception":
                raise Missing(self.name)
            log.error("a document is refused", name=result.get("_id"), status=status, kind=kind)
            raise Unavailable("the search engine refuses a document", headers=RETRY)

    async def refresh(self) -> None:
        """What was written is seen by searches."""
        await self._ask(lambda client: client.indices.refresh(index=self.name), SLOWLY)

    async def hits(
        self, query: Json, order: tuple[str, bool], after: tuple[Any, ...] | None
    ) -> list[Hit]:
        """Up to ``PAGE`` names behind ``after``. ``order``: (field, descending)."""
        field, descending = order
        sort = [{field: {"order": "desc" if descending else "asc"}}, {"name": {"order": "asc"}}]
        answer = await self._ask(
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
            )
        )
        return _hits(answer)

    async def nearest(self, vector: Sequence[float], query: Json, k: int, most: int) -> list[Hit]:
        """The ``k`` nearest by cosine that ``query`` finds, of at most ``most`` per shard."""
        knn: Json = {
            "field": "vector",
            "query_vector": list(vector),
            "k": k,
            "num_candidates": most,
            "filter": query,
        }
        answer = await self._ask(
            lambda client: client.search(
                index=self.name,
                knn=knn,
                size=k,
                sort=[{"_score": {"order": "desc"}}, {"name": {"order": "asc"}}],
                version=True,
                source=False,
                track_total_hits=False,
                allow_partial_search_results=False,
            )
        )
        return _hits(answer)

    async def drop(self) -> None:
        """The index goes, if it is there."""
        await self._ask(
            lambda client: client.indices.delete(index=self.concrete, ignore_unavailable=True),
            SLOWLY,
        )

    async def merge(self) -> None:
        """Leaves nothing in the files of what was removed."""
        await self._ask(
            lambda client: client.indices.forcemerge(
                index=self.name, only_expunge_deletes=True, flush=True
            ),
            SLOWLY,
        )


def _lines(change: Put | Remove) -> Iterable[Json]:
    about: Json = {"_id": str(change.key), "version": change.seq}
    match change:
        case Put(document=document):
            return ({"index": {**about, "version_type": "external"}}, document)
        case Remove():
            return ({"delete": {**about, "version_type": "external_gte"}},)


def _hits(answer: Json) -> list[Hit]:
    """Raises Unavailable unless every shard has answered to the end."""
    if answer["timed_out"] or answer["_shards"]["failed"]:
        raise Unavailable("the search engine has not looked everywhere", headers=RETRY)
    found = []
    for hit in answer["hits"]["hits"]:
        type_, _, id_ = hit["_id"].partition("/")
        found.append(Hit(Key(type_, id_), int(hit["_version"]), tuple(hit["sort"])))
    return found
