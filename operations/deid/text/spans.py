"""Pieces of text that identify: what they are, and how the finds of several searches are united."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal[
    "NAME", "LOCATION", "ADDRESS", "DATE", "AGE", "PHONE", "EMAIL", "URL", "IP", "CARD", "ID",
    "FILE",
]  # fmt: skip

KINDS: Final[tuple[Kind, ...]] = (
    "NAME", "LOCATION", "ADDRESS", "DATE", "AGE", "PHONE", "EMAIL", "URL", "IP", "CARD", "ID",
    "FILE",
)  # fmt: skip


class Span(NamedTuple):
    """``text[start:end]`` is a ``kind``. ``weight``: who wins where two overlap; what the record
    tells (3) before rules (2) before the model (1)."""

    start: int
    end: int
    kind: Kind
    weight: int = 2


Finder: TypeAlias = Callable[[str], Iterable[Span]]

WORD: Final = re.compile(r"[^\W\d_]+(?:['’ʼ‘`´][^\W\d_]+)*(?:\u0301)?", re.UNICODE)
"""A word; hyphens divide, apostrophes do not."""


def union(spans: Iterable[Span]) -> list[Span]:
    """Disjoint spans in the order of the text that cover all of ``spans``.

    Spans that overlap become one, with the kind of the weightiest (then longest) of them.
    """
    result: list[Span] = []
    best: Span | None = None
    for span in sorted(spans):
        if best is not None and result and span.start < result[-1].end:
            if (span.weight, span.end - span.start) > (best.weight, best.end - best.start):
                best = span
            last = result[-1]
            result[-1] = Span(last.start, max(last.end, span.end), best.kind, best.weight)
        else:
            result.append(span)
            best = span
    return result


def joined(text: str, spans: Iterable[Span]) -> list[Span]:
    """Names with nothing but a space, a hyphen or an initial's dot between them are one name."""
    result: list[Span] = []
    for span in spans:
        last = result[-1] if result else None
        if (
            last is not None
            and last.kind == span.kind == "NAME"
            and _BETWEEN.fullmatch(text, last.end, span.start)
        ):
            result[-1] = Span(last.start, span.end, "NAME", max(last.weight, span.weight))
        else:
            result.append(span)
    return result


_BETWEEN: Final = re.compile(r"\.?[ \u00a0]{0,2}|\.?-|, ?(?=[^\W\d_]\.)")
