"""Writes the table of ``ig/pagecontent/deidentification-text.md``: the cleaning of free text
against corpora on this machine.

``python scripts/evaluate_text.py NAME=PATH ...``; a corpus that was also trained on is evaluated
on the part that was not (``NAME=PATH#3``: every third document, from the first).
"""

from __future__ import annotations

import asyncio
import sys
from datetime import date
from pathlib import Path

from operations.deid.text.assembly import shipped, text_cleaner
from operations.deid.text.corpora import read
from operations.deid.text.evaluation import Scores
from operations.models.runtime import Limits, Runtime

PAGE = Path(__file__).resolve().parents[1] / "ig" / "pagecontent" / "deidentification-text.md"
BEGIN, END = "<!-- evaluation -->", "<!-- /evaluation -->"


async def scores(path: Path, step: int) -> tuple[int, Scores]:
    runtime = Runtime(Limits(seconds=120, start=120))
    documents = read(path)[::step]
    try:
        found = await text_cleaner(shipped(runtime)).find([document.text for document in documents])
    finally:
        await runtime.close()
    result = Scores()
    for document, spans in zip(documents, found, strict=True):
        result.add(document, spans)
    return len(documents), result


def table(corpora: list[str]) -> str:
    recall = ["| corpus | label | whole spans replaced | words replaced |", "|---|---|---|---|"]
    precision = ["| corpus | replaced as | words of such a label | words of any identifier |"]
    precision.append("|---|---|---|---|")
    for corpus in corpora:
        name, _, rest = corpus.partition("=")
        path, _, step = rest.partition("#")
        count, result = asyncio.run(scores(Path(path), int(step or 1)))
        title = f"{name} ({count} documents)"
        recall += [f"| {title} {line}" for line in result.recalls()]
        precision += [f"| {title} {line}" for line in result.precisions()]
    return "\n".join([f"Measured {date.today()}.", "", *recall, "", *precision])


def main() -> None:
    text = PAGE.read_text("utf-8")
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n{table(sys.argv[1:])}\n{END}{tail}", "utf-8")


if __name__ == "__main__":
    main()
