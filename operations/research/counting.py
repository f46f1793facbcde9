"""Counts that tell nothing of a single person: small ones are withheld, others are blurred.

A count below ``least`` is not told at all, zero neither. Any other gets noise of a few units, by a
secret of the bank. One part of it depends on the question: the same one has the same answer, so
that asking again averages nothing out, and two that differ by one person differ by noise. The other
part depends on the count: what many questions that mean the same average to is not the count.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fhir_server.model.exchange import Json
from operations.deid.run import DATA_ABSENT_REASON

SPREAD: Final = (-2, -1, -1, 0, 0, 1, 1, 2)
"""What is added for the question, each as likely."""

STICKY: Final = (-2, -1, 1, 2)
"""What is added for the count, each as likely."""

WITHHELD: Final[Json] = {"extension": [{"url": DATA_ABSENT_REASON, "valueCode": "masked"}]}


@dataclass(frozen=True, slots=True)
class Blur:
    """``secret``: of the bank. ``least``: the smallest count that is told."""

    secret: bytes
    least: int

    def told(self, count: int, question: str) -> int | None:
        """The count as it may be told; None: it may not. ``question``: what was counted, in a
        form of its own."""
        if count < self.least:
            return None
        asked = self._drawn(f"question {question}", SPREAD)
        return max(self.least, count + asked + self._drawn(f"count {count}", STICKY))

    def _drawn(self, of: str, noise: Sequence[int]) -> int:
        return noise[hmac.digest(self.secret, of.encode(), "sha256")[0] % len(noise)]

    def shown(self, name: str, member: str, count: int, question: str) -> Json:
        """A parameter of an answer."""
        told = self.told(count, question)
        return (
            {"name": name, f"_{member}": WITHHELD} if told is None else {"name": name, member: told}
        )
