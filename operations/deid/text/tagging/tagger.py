"""Running the tagger's graph: texts in, names and places out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

from fhir_server.model.problem import Unavailable
from operations.deid.text.spans import Span
from operations.deid.text.tagging.features import PADDING, SLOTS, Token, features, tokens
from operations.deid.text.tagging.lexicon import Lexicon, stem

FOLDER: Final = Path(__file__).resolve().parent
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
class Golden:
    """What the graph must answer to ``text``: probabilities of names, one per token."""

    text: str
    names: tuple[float, ...]
    tolerance: float

    @classmethod
    def read(cls, path: Path) -> Golden:
        found = json.loads(path.read_text("utf-8"))
        return cls(found["text"], tuple(found["names"]), found["tolerance"])


@dataclass
class Tagger:
    """``thresholds``: from which probability on a token is taken for a name, a place. Without
    ``golden`` the graph is not tried first."""

    runner: Runner
    graph: TaggerGraph
    lexicon: Lexicon
    thresholds: tuple[float, float]
    golden: Golden | None = None

    async def tag(self, texts: Sequence[str]) -> list[list[Span]]:
        """The spans of each text. Raises Unavailable (503), also where the graph does not answer
        its golden vector."""
        if self.golden is not None:
            await self._try(self.golden)
            self.golden = None
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

    async def _try(self, golden: Golden) -> None:
        document = tokens(golden.text)
        outputs = await self._outputs([document])
        pairs = zip(golden.names, outputs["name"][: len(document)], strict=True)
        if any(abs(expected - got) > golden.tolerance for expected, got in pairs):
            raise Unavailable(f"Model {self.graph.id} does not answer its golden vector")

    async def _outputs(self, documents: Sequence[Sequence[Token]]) -> dict[str, list[float]]:
        rows = list(rows_of(documents, self.lexicon))
        inputs = {f"f{slot:02}": [float(row[slot]) for row in rows] for slot in range(SLOTS)}
        return await self.runner.run(self.graph, inputs)

    async def _batch(self, documents: Sequence[Sequence[Token]]) -> list[list[Span]]:
        outputs = await self._outputs(documents)
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
    """One span per word that is probably a name or a place.

    A word that the document surely uses as a name somewhere is one wherever it has a capital.
    """
    sure = _sure(document, names, places)
    result: list[Span] = []
    for token, name, place in zip(document, names, places, strict=True):
        if not token.text[0].isalpha():
            continue
        least = thresholds[0]
        if token.capital and stem(token.form) in sure:
            least = min(least, REPEATED)
        if name >= least and (name >= place or place < thresholds[1]):
            result.append(Span(token.start, token.end, "NAME", 1))
        elif place >= thresholds[1]:
            result.append(Span(token.start, token.end, "LOCATION", 1))
    return result


def _sure(
    document: Sequence[Token], names: Sequence[float], places: Sequence[float]
) -> frozenset[str]:
    """The stems of words that are names in at least one place, and nowhere more surely places."""
    best: dict[str, tuple[float, float]] = {}
    for token, name, place in zip(document, names, places, strict=True):
        if token.capital and len(token.form) > 2:
            key = stem(token.form)
            before = best.get(key, (0.0, 0.0))
            best[key] = (max(before[0], name), max(before[1], place))
    return frozenset(key for key, (name, place) in best.items() if name >= SURE and name > place)


SURE: Final = 0.7
REPEATED: Final = 0.02
"""Of a word that is surely a name elsewhere in the document, this probability is enough."""
