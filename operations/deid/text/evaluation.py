"""How well texts are cleaned: recall and precision per type against a labelled corpus.

Recall is of whole spans: a name counts as found only if every letter and digit of it is replaced,
by whatever kind. Precision is of words: of those replaced as a kind, how many lie in a span of
such a kind (or, in the last column, in any span that the corpus calls an identifier). Intervals
are Wilson's at 95 %. What a corpus labels that is no identifier (``KINDS_OF``) counts as text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Final, NamedTuple

from operations.deid.text.spans import WORD, Kind, Span

_LABELS: Final[tuple[tuple[str, tuple[Kind, ...]], ...]] = (
    ("name per pers person patient doctor username hcpname relative", ("NAME",)),
    ("loc location locorg gpe geo city state country county", ("LOCATION", "ADDRESS")),
    ("address street street_address zip zip_code postcode", ("ADDRESS", "LOCATION")),
    ("date date_time dob birthdate", ("DATE",)),
    ("age", ("AGE", "DATE")),
    ("phone phone_number fax tel", ("PHONE",)),
    ("email email_address e-mail", ("EMAIL",)),
    ("url domain_name ip ip_address mac", ("URL", "IP", "EMAIL")),
    ("card credit_card iban_code iban account bank us_bank_number", ("CARD", "ID")),
    ("ssn us_ssn id idnum mrn medicalrecord license us_driver_license", ("ID", "PHONE", "CARD")),
    ("health_plan device vehicle passport us_passport license_plate us_itin", ("ID", "PHONE")),
    ("inn snils rnokpp nhs biometric other", ("ID", "PHONE", "CARD")),
    ("photo file", ("FILE",)),
)

KINDS_OF: Final = {label: frozenset(kinds) for labels, kinds in _LABELS for label in labels.split()}
"""Labels of corpora (in lower case) that name identifiers, and the kinds that answer them. Ages
under 90 are no identifiers: ``age`` counts in corpora that label those over 89."""


class Gold(NamedTuple):
    """A labelled span: ``text[start:end]`` is a ``label``."""

    start: int
    end: int
    label: str


class Document(NamedTuple):
    text: str
    gold: Sequence[Gold]


class Rate(NamedTuple):
    """``hits`` of ``n``."""

    hits: int
    n: int

    def __str__(self) -> str:
        if not self.n:
            return "-"
        low, high = wilson(self.hits, self.n)
        return f"{self.hits / self.n:.3f} ({low:.3f}-{high:.3f}, n={self.n})"


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The score interval: Wilson, J Am Stat Assoc 1927;22:209-212."""
    if n == 0:
        return 0.0, 1.0
    share, zz = hits / n, z * z
    middle = (share + zz / (2 * n)) / (1 + zz / n)
    half = z * sqrt(share * (1 - share) / n + zz / (4 * n * n)) / (1 + zz / n)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(slots=True)
class Scores:
    """Counts per label of the corpus (``whole``, ``words``) and per kind (``right``, ``any``)."""

    whole: dict[str, Counter[bool]] = field(default_factory=dict)
    words: dict[str, Counter[bool]] = field(default_factory=dict)
    right: dict[Kind, Counter[bool]] = field(default_factory=dict)
    any: dict[Kind, Counter[bool]] = field(default_factory=dict)
    tokens: int = 0

    def add(self, document: Document, found: Sequence[Span]) -> None:
        """One document and what was found in it (disjoint)."""
        text = document.text
        gold = [g for g in document.gold if g.label.lower() in KINDS_OF]
        covered = bytearray(len(text))
        for span in found:
            covered[span.start : span.end] = b"\1" * (span.end - span.start)
        for g in gold:
            inside = [bool(covered[at]) for at in range(g.start, g.end) if text[at].isalnum()]
            self.whole.setdefault(g.label, Counter())[all(inside)] += 1
            for word in WORD.finditer(text, g.start, g.end):
                hit = all(covered[word.start() : word.end()])
                self.words.setdefault(g.label, Counter())[hit] += 1
        for span in found:
            self._judge(text, span, gold)
        self.tokens += sum(1 for _ in WORD.finditer(text))

    def _judge(self, text: str, span: Span, gold: Iterable[Gold]) -> None:
        near = [g for g in gold if g.start < span.end and span.start < g.end]
        for word in WORD.finditer(text, span.start, span.end):
            over = [g for g in near if g.start < word.end() and word.start() < g.end]
            fits = any(span.kind in KINDS_OF[g.label.lower()] for g in over)
            self.right.setdefault(span.kind, Counter())[fits] += 1
            self.any.setdefault(span.kind, Counter())[bool(over)] += 1

    def recall(self, label: str) -> Rate:
        """Whole spans of a label."""
        return _rate(self.whole.get(label))

    def precision(self, kind: Kind) -> Rate:
        """Words of a kind."""
        return _rate(self.right.get(kind))

    def recalls(self) -> Iterator[str]:
        """Rows of a Markdown table: label, whole spans, words."""
        for label in sorted(self.whole):
            yield f"| {label} | {self.recall(label)} | {_rate(self.words.get(label))} |"

    def precisions(self) -> Iterator[str]:
        """Rows: kind, words of a label that answers it, words of any label. Kinds that the corpus
        does not label are left out."""
        labelled = {kind for label in self.whole for kind in KINDS_OF[label.lower()]}
        for kind in sorted(labelled & set(self.right)):
            yield f"| {kind} | {_rate(self.right[kind])} | {_rate(self.any[kind])} |"

    def lines(self) -> Iterator[str]:
        """Two Markdown tables."""
        yield "| label of the corpus | whole spans replaced | words replaced |"
        yield "|---|---|---|"
        yield from self.recalls()
        yield ""
        yield "| replaced as | words of such a label | words of any identifier |"
        yield "|---|---|---|"
        yield from self.precisions()


def _rate(counts: Counter[bool] | None) -> Rate:
    return Rate(counts[True], counts.total()) if counts else Rate(0, 0)
