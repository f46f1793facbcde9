"""A labelled corpus through the cleaner of free text, printed as Markdown tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from operations.deid.text.assembly import shipped, text_cleaner
from operations.deid.text.corpora import read
from operations.deid.text.evaluation import Document, Gold, Scores
from operations.models.runtime import Limits, Runtime


async def evaluated(
    corpus: Path, renamed: Mapping[str, str], tell: Callable[[str], None] = print
) -> Scores:
    """``renamed``: other names of labels. Raises CorpusError; Unavailable without the model."""
    documents = [_renamed(document, renamed) for document in read(corpus)]
    runtime = Runtime(Limits(seconds=60, start=60))
    started = time.perf_counter()
    try:
        found = await text_cleaner(shipped(runtime)).find([document.text for document in documents])
    finally:
        await runtime.close()
    seconds = time.perf_counter() - started
    scores = Scores()
    for document, spans in zip(documents, found, strict=True):
        scores.add(document, spans)
    for line in scores.lines():
        tell(line)
    tell("")
    tell(
        f"{len(documents)} documents, {scores.tokens} words, {scores.tokens / seconds:.0f} words/s."
    )
    tell("Rules and model alone, without a record that tells the names. Say what the corpus is of:")
    tell("figures of news, fiction or synthetic notes are no figures of clinical text.")
    return scores


def _renamed(document: Document, renamed: Mapping[str, str]) -> Document:
    gold = [Gold(g.start, g.end, renamed.get(g.label, g.label)) for g in document.gold]
    return Document(document.text, gold)
