"""A labelled corpus through the cleaner of free text, printed as Markdown tables."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from operations.deid.text.assembly import shipped, text_cleaner
from operations.deid.text.corpora import read
from operations.deid.text.evaluation import Document, Gold, Scores
from operations.models.runtime import Limits, Runtime

WARMING: Final = "Olena."
"""It starts the worker and loads the lists, which is no part of the speed."""


async def evaluated(
    corpus: Path, renamed: Mapping[str, str], tell: Callable[[str], None] = print
) -> Scores:
    """``renamed``: other names of labels. Raises CorpusError; Unavailable without the model."""
    documents = [_renamed(document, renamed) for document in read(corpus)]
    runtime = Runtime(Limits(seconds=60, start=60))
    cleaner = text_cleaner(shipped(runtime))
    try:
        await cleaner.find([WARMING])
        started, spent = time.perf_counter(), _spent()
        found = await cleaner.find([document.text for document in documents])
        seconds = time.perf_counter() - started
    finally:
        await runtime.close()
    spent = _spent() - spent
    scores = Scores()
    for document, spans in zip(documents, found, strict=True):
        scores.add(document, spans)
    for line in scores.lines():
        tell(line)
    tell("")
    rates = f"{scores.tokens / seconds:.0f} words/s, {scores.tokens / spent:.0f} of processor time"
    tell(f"{len(documents)} documents, {scores.tokens} words, {rates}.")
    tell("Rules and model alone, without a record that tells the names. Say what the corpus is of:")
    tell("figures of news, fiction or synthetic notes are no figures of clinical text.")
    return scores


def _spent() -> float:
    """Seconds of processor time of this process and of those that have ended."""
    return sum(os.times()[:4])


def _renamed(document: Document, renamed: Mapping[str, str]) -> Document:
    gold = [Gold(g.start, g.end, renamed.get(g.label, g.label)) for g in document.gold]
    return Document(document.text, gold)
