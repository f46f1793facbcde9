"""A source of one code system, whose concepts are had apart from it."""

from __future__ import annotations

from collections.abc import Sequence

from terminology.concepts import Concepts, Json


class Sole:
    """Knows no value set and no map."""

    def __init__(self, resource: Json, concepts: Concepts) -> None:
        self._resource = {**resource, "content": "not-present"}
        self._concepts = concepts

    async def find(self, type_: str, url: str, version: str) -> Json | None:
        named = type_, url
        return self._resource if named == ("CodeSystem", self._resource["url"]) else None

    async def filed(self, code_system: Json) -> Concepts:
        return self._concepts

    async def maps(self, system: str, reverse: bool) -> Sequence[Json]:
        return []
