"""What clinicians make of drafts, kept for monitoring: a row per decision, without the patient.

The row commits with the decision. It names the version of the model, the values before and after,
and the role of who decided; neither the resource nor the person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from fhir_server.access.ports import Ledger, LedgerWrite

KIND: Final = "model-feedback"
DECISIONS: Final = ("accept", "edit", "reject")


@dataclass(frozen=True, slots=True)
class Feedback:
    """``model``: ``name-version``. ``at``: microseconds since the epoch. ``before``, ``after``:
    the value of ``output``; None where there is none, or nothing was edited."""

    model: str
    decision: str
    at: int
    role: str
    output: str = ""
    before: float | None = None
    after: float | None = None

    def row(self, id_: str) -> LedgerWrite:
        """``id_``: unused."""
        value = {
            "decision": self.decision,
            "at": self.at,
            "role": self.role,
            "output": self.output,
            "before": self.before,
            "after": self.after,
        }
        return LedgerWrite(KIND, f"{self.model}/{self.at:016d}/{id_}", value, 0)


async def feedback(ledger: Ledger, model: str, since: int = 0) -> list[Feedback]:
    """Of one version of a model, from a moment on, in their order."""
    rows = await ledger.scan(KIND, f"{model}/")
    found = [Feedback(model, **row.value) for row in rows]
    return [one for one in found if one.at >= since]


def agreement(found: Iterable[Feedback]) -> float | None:
    """The share that was accepted as it was; None where nobody has decided."""
    counts = Counter(one.decision for one in found)
    total = sum(counts.values())
    return counts["accept"] / total if total else None
