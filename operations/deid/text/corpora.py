"""Reading labelled corpora: IOB files, span JSON, and folders in the form of factRuEval-2016.

IOB: a token and its label a line, divided by a blank or tab, sentences by empty lines, documents
by ``-DOCSTART-``. Span JSON: an array or one object a line, each with ``text`` (or ``full_text``)
and ``spans`` of ``start``/``end``/``type`` (also ``start_position``, ``end_position``,
``entity_type``, ``label``), or ``phi`` of ``value``/``category``, each value wherever it stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from operations.deid.text.evaluation import Document, Gold

SENTENCES: Final = 50
"""An IOB file does not say where documents end: after so many sentences one is taken to."""

_NO_SPACE_BEFORE: Final = frozenset(".,;:!?)]}»”…%")
_NO_SPACE_AFTER: Final = frozenset("([{«“")


class CorpusError(ValueError):
    """A corpus that cannot be read; the text says where and why."""


def read(path: Path) -> list[Document]:
    """The documents of a corpus. Raises CorpusError."""
    try:
        if path.is_dir():
            return list(_folder(path))
        text = path.read_text("utf-8")
        if path.suffix in (".json", ".jsonl", ".ndjson") or text.lstrip()[:1] in ("{", "["):
            return [_spans(entry) for entry in _entries(text)]
        return list(_iob(text))
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"{path.name} cannot be read: {error}") from None


def _iob(text: str) -> Iterator[Document]:
    sentences: list[list[tuple[str, str]]] = [[]]
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("-DOCSTART-"):
            yield from _joined(sentences)
            sentences = [[]]
        elif not line.strip():
            if sentences[-1]:
                sentences.append([])
            if len(sentences) > SENTENCES:
                yield from _joined(sentences)
                sentences = [[]]
        else:
            token, *_, label = line.split() if "\t" not in line else line.split("\t")
            if not (label == "O" or label[:2] in ("B-", "I-", "E-", "S-")):
                raise CorpusError(f"line {number} has no IOB label")
            sentences[-1].append((token, label))
    yield from _joined(sentences)


def _joined(sentences: Iterable[list[tuple[str, str]]]) -> Iterator[Document]:
    text, gold = "", list[Gold]()
    for sentence in filter(None, sentences):
        before = ""
        for token, label in sentence:
            if before and token[0] not in _NO_SPACE_BEFORE and before not in _NO_SPACE_AFTER:
                text += " "
            start = len(text)
            text += token
            before = token
            if label[:2] in ("B-", "S-"):
                gold.append(Gold(start, len(text), label[2:]))
            elif label != "O":
                first = gold.pop() if gold and gold[-1].label == label[2:] else None
                gold.append(Gold(first.start if first else start, len(text), label[2:]))
        text += "\n"
    if text.strip():
        yield Document(text, gold)


def _entries(text: str) -> Iterator[Any]:
    if text.lstrip().startswith("["):
        yield from json.loads(text)
    else:
        yield from (json.loads(line) for line in text.splitlines() if line.strip())


def _spans(entry: dict[str, Any]) -> Document:
    text = str(entry["full_text"] if "full_text" in entry else entry["text"])
    gold = [
        Gold(
            int(span.get("start", span.get("start_position"))),
            int(span.get("end", span.get("end_position"))),
            str(span.get("type") or span.get("entity_type") or span["label"]),
        )
        for span in entry.get("spans") or ()
    ]
    for item in entry.get("phi") or ():
        value, at = str(item["value"]), text.find(str(item["value"]))
        while at >= 0:
            gold.append(Gold(at, at + len(value), str(item["category"])))
            at = text.find(value, at + len(value))
    return Document(text, gold)


_PARTS: Final = {
    "Person": ("name", "surname", "patronymic", "nickname"),
    "Location": ("loc_name",),
    "LocOrg": ("loc_name",),
    "Org": ("org_name",),
}


def _folder(path: Path) -> Iterator[Document]:
    """``X.txt``, ``X.spans`` (id type start length), ``X.objects`` (id type span ids).

    A person is one span, from the first of its names that are next to each other to the last.
    """
    for source in sorted(path.glob("*.txt")):
        parts: dict[str, tuple[str, int, int]] = {}
        for fields in _lines(source.with_suffix(".spans")):
            parts[fields[0]] = (fields[1], int(fields[2]), int(fields[2]) + int(fields[3]))
        gold: list[Gold] = []
        for _, type_, *ids in _lines(source.with_suffix(".objects")):
            own = sorted(
                parts[i][1:] for i in ids if i in parts and parts[i][0] in _PARTS.get(type_, ())
            )
            for start, end in own:
                if gold and gold[-1].label == type_ and 0 <= start - gold[-1].end <= 2:
                    gold[-1] = Gold(gold[-1].start, end, type_)
                else:
                    gold.append(Gold(start, end, type_))
        yield Document(source.read_text("utf-8"), sorted(set(gold)))


def _lines(path: Path) -> Iterator[list[str]]:
    for line in path.read_text("utf-8").splitlines():
        fields = line.partition("#")[0].split()
        if fields:
            yield fields
