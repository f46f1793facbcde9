"""Running the tagger's graph: texts in, names and places out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from fhir_server.model.problem import Unavailable
from operations.deid.text.spans import Span
from operations.deid.text.tagging.features import PADDING, SLOTS, Token, features, tokens
from operations.deid.text.tagging.lexicon import Lexicon, stem

FOLDER: Final = Path(__file__).resolve().parent
BATCH: Final = 3000
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
            found.append(spans_of(document, _odds(outputs, at, end), self.thresholds, self.lexicon))
            at = end + PADDING
        return found


def rows_of(documents: Iterable[Sequence[Token]], lexicon: Lexicon) -> Iterable[tuple[int, ...]]:
    """The rows of all documents, each followed by ``PADDING`` empty ones."""
    for document in documents:
        yield from features(document, lexicon)
        yield from ((0,) * SLOTS,) * PADDING


OUTPUTS: Final = ("name", "place", "organisation")


class Odds(NamedTuple):
    """What the model says of a token."""

    name: float
    place: float
    organisation: float


def _odds(outputs: Mapping[str, list[float]], at: int, end: int) -> list[Odds]:
    return [Odds(*odds) for odds in zip(*(outputs[o][at:end] for o in OUTPUTS), strict=True)]


def spans_of(
    document: Sequence[Token],
    odds: Sequence[Odds],
    thresholds: tuple[float, float],
    lexicon: Lexicon,
) -> list[Span]:
    """One span per word that is probably a name or a place.

    A word that the document surely uses as a name somewhere is one wherever it has a capital.
    """
    least_of = _repeated(document, odds, lexicon)
    result: list[Span] = []
    for token, (name, place, _) in zip(document, odds, strict=True):
        if not token.text[0].isalpha():
            continue
        least = thresholds[0]
        if token.capital:
            least = min(least, least_of.get(stem(token.form), least))
        if name >= least and (name >= place or place < thresholds[1]):
            result.append(Span(token.start, token.end, "NAME", 1))
        elif place >= thresholds[1]:
            result.append(Span(token.start, token.end, "LOCATION", 1))
    return result


def _repeated(
    document: Sequence[Token], odds: Sequence[Odds], lexicon: Lexicon
) -> dict[str, float]:
    """The probability that is enough, by stem: of words that are surely names elsewhere in the
    document, and of Cyrillic words that have a capital again and again where the sentence asks
    for none (in English so have headings and brands)."""
    best: dict[str, Odds] = {}
    capitals: Counter[str] = Counter()
    lower: set[str] = set()
    for token, own in zip(document, odds, strict=True):
        if not token.text[0].isalpha() or len(token.form) < 3:
            continue
        key = stem(token.form)
        if token.capital:
            best[key] = Odds(*map(max, own, best.get(key, own)))
            capitals[key] += not token.fresh and not token.text.isupper()
        else:
            lower.add(key)
    found: dict[str, float] = {}
    for key, most in best.items():
        if most.name >= SURE and most.name > most.place:
            found[key] = REPEATED
        often = key > CYRILLIC and capitals[key] >= OFTEN and key not in lower
        if often and max(most[1:]) < UNLIKELY and "place" not in lexicon.lists(key):
            found[key] = 0.0
    return found


SURE: Final = 0.7
REPEATED: Final = 0.02
"""Of a word that is surely a name elsewhere in the document, this probability is enough."""
CYRILLIC: Final = "\u0400"
OFTEN: Final = 2
UNLIKELY: Final = 0.3
