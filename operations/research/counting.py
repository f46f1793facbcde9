"""Counts that tell nothing of a single person: small ones are withheld, others are blurred.

A count below ``least`` is not told at all, zero neither. Any other gets noise of a few units, which
the plan of the query determines by a secret of the bank: the same question has the same answer, so
that asking again averages nothing out, and two questions that differ by one person differ by noise.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

from fhir_server.model.exchange import Json
from operations.deid.run import DATA_ABSENT_REASON

SPREAD: Final = (-2, -1, -1, 0, 0, 1, 1, 2)
"""What is added, each as likely."""

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
        digest = hmac.digest(self.secret, question.encode(), "sha256")
        return max(self.least, count + SPREAD[digest[0] % len(SPREAD)])

    def shown(self, name: str, member: str, count: int, question: str) -> Json:
        """A parameter of an answer."""
        told = self.told(count, question)
        return (
            {"name": name, f"_{member}": WITHHELD} if told is None else {"name": name, member: told}
        )
