"""Running the tagger's graph: texts in, names and places out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from operations.deid.text.spans import Span
from operations.deid.text.tagging.features import PADDING, SLOTS, Token, features, tokens
from operations.deid.text.tagging.lexicon import Lexicon, stem
from operations.models.batching import Graph

FOLDER: Final = Path(__file__).resolve().parent
BATCH: Final = 3000
"""Tokens of one call."""


class Tags(Protocol):
    """From which probability on a word is taken for a name, a place."""

    @property
    def name(self) -> float: ...

    @property
    def place(self) -> float: ...


class Models(Protocol):
    """Which version is in use, and what runs it (``operations.deid.text.assembly.InUse``)."""

    async def version(self) -> tuple[Graph, Tags]:
        """Raises Unavailable (503), also where it does not answer its golden vector."""

    async def run(self, graph: Graph, inputs: dict[str, list[float]]) -> dict[str, list[float]]:
        """Raises Unavailable (503)."""


@dataclass(frozen=True)
class Tagger:
    """The version that is in use when texts come reads all of them."""

    models: Models
    lexicon: Lexicon

    async def tag(self, texts: Sequence[str]) -> list[list[Span]]:
        """The spans of each text. Raises Unavailable (503)."""
        graph, tags = await self.models.version()
        found: list[list[Span]] = []
        batch: list[list[Token]] = []
        size = 0
        for text in texts:
            document = tokens(text)
            if batch and size + len(document) > BATCH:
                found += await self._batch(batch, graph, tags)
                batch, size = [], 0
            batch.append(document)
            size += len(document) + PADDING
        return found + (await self._batch(batch, graph, tags) if batch else [])

    async def _batch(
        self, documents: Sequence[Sequence[Token]], graph: Graph, tags: Tags
    ) -> list[list[Span]]:
        outputs = await self.models.run(graph, columns(documents, self.lexicon))
        least = tags.name, tags.place
        found, at = [], 0
        for document in documents:
            end = at + len(document)
            found.append(spans_of(document, _odds(outputs, at, end), least, self.lexicon))
            at = end + PADDING
        return found


def columns(documents: Sequence[Sequence[Token]], lexicon: Lexicon) -> dict[str, list[float]]:
    """What the graph reads, by input."""
    rows = list(rows_of(documents, lexicon))
    return {f"f{slot:02}": [float(row[slot]) for row in rows] for slot in range(SLOTS)}


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
