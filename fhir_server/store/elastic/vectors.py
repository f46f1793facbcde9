"""The port of an embedding model: what turns text into vectors, if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from fhir_server.model.problem import NotSupported
from fhir_server.search.words import Words

LETTERS: Final = 8_000
"""Of the text of a resource that a model reads."""


class Embedder(Protocol):
    """A model of sentences. ``name`` changes when its vectors do; the index is then made anew."""

    @property
    def name(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each; none is all zeros."""
        ...


def text_of(words: Words) -> str:
    """What a model reads of a resource: the narrative first."""
    return " ".join(f"{words.narrative} {words.rest}".split())[:LETTERS]


def required(embedder: Embedder | None) -> Embedder:
    """Raises NotSupported without a model."""
    if embedder is None:
        raise NotSupported("similarity search needs an embedding model, and none is configured")
    return embedder
