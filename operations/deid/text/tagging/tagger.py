"""Running the tagger's graph: texts in, names and places out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

from operations.deid.text.spans import Kind, Span
from operations.deid.text.tagging.features import PADDING, SLOTS, Token, features, tokens
from operations.deid.text.tagging.lexicon import Lexicon

FOLDER: Final = Path(__file__).resolve().parents[3] / "models" / "name_tagger"
BATCH: Final = 6000
"""Tokens of one call."""


class Runner(Protocol):
    """What runs graphs: ``operations.models.runtime.Runtime``."""

    async def run(
        self, package: TaggerGraph, inputs: Mapping[str, list[float]]
    ) -> dict[str, list[float]]: ...


@dataclass(frozen=True)
class TaggerGraph:
    """The graph as the runtime knows it."""

    id: str
    graph: Path

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.graph.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Tagger:
    """``thresholds``: from which probability on a token is taken for a name, a place."""

    runner: Runner
    graph: TaggerGraph
    lexicon: Lexicon
    thresholds: tuple[float, float]

    async def tag(self, texts: Sequence[str]) -> list[list[Span]]:
        """The spans of each text. Raises Unavailable (503)."""
        found: list[list[Span]] = []
        batch: list[list[Token]] = []
        size = 0
        for text in texts:
            document = tokens(text)
            if batch and size + len(document) > BATCH:
                found += await self._batch(batch)
                batch, size = [], 0
            batch.append(document)
            size += len(document) + PADDING
        return found + (await self._batch(batch) if batch else [])

    async def _batch(self, documents: Sequence[Sequence[Token]]) -> list[list[Span]]:
        rows = list(rows_of(documents, self.lexicon))
        inputs = {f"f{slot:02}": [float(row[slot]) for row in rows] for slot in range(SLOTS)}
        outputs = await self.runner.run(self.graph, inputs)
        found, at = [], 0
        for document in documents:
            end = at + len(document)
            found.append(
                spans_of(
                    document, outputs["name"][at:end], outputs["place"][at:end], self.thresholds
                )
            )
            at = end + PADDING
        return found


def rows_of(documents: Iterable[Sequence[Token]], lexicon: Lexicon) -> Iterable[tuple[int, ...]]:
    """The rows of all documents, each followed by ``PADDING`` empty ones."""
    for document in documents:
        yield from features(document, lexicon)
        yield from ((0,) * SLOTS,) * PADDING


def spans_of(
    document: Sequence[Token],
    names: Sequence[float],
    places: Sequence[float],
    thresholds: tuple[float, float],
) -> list[Span]:
    """One span per token that begins with a letter and is probably a name or a place."""
    result: list[Span] = []
    for token, name, place in zip(document, names, places, strict=True):
        if not token.text[0].isalpha():
            continue
        kind: Kind | None = None
        if name >= thresholds[0] and name >= place:
            kind = "NAME"
        elif place >= thresholds[1]:
            kind = "LOCATION"
        elif name >= thresholds[0]:
            kind = "NAME"
        if kind is not None:
            result.append(Span(token.start, token.end, kind, 1))
    return result
