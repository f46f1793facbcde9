"""The evaluation in words: a Markdown table per alarm and threshold, and the same as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .replay import Replay, Stay
from .scoring import DAY, Scored, Share, quartiles, scored
from .spec import Spec

HEAD: Final = (
    "| alarm | from | alerts | per patient-day | PPV | sensitivity | lead time (h) | "
    "calm stays without outcome |\n|---|---|---|---|---|---|---|---|"
)
MOST: Final = 8
"""Reasons that are told."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """``silent``: stays without any answer; they are in none of the figures."""

    spec: Spec
    models: tuple[str, ...]
    stays: tuple[Stay, ...]
    silent: int
    skipped: dict[str, int]
    rows: tuple[Scored, ...] = field(default=())

    @classmethod
    def of(cls, replay: Replay, stays: Sequence[Stay]) -> Evaluation:
        rows = tuple(
            scored(replay.spec, alarm, threshold, stays)
            for alarm in replay.spec.alarm
            for threshold in alarm.thresholds
        )
        models = tuple(package.id for package in replay.packages)
        skipped = dict(replay.skipped.most_common())
        return cls(replay.spec, models, tuple(stays), replay.silent, skipped, rows)

    @property
    def events(self) -> Counter[str]:
        return Counter(stay.event[1] for stay in self.stays if stay.event)

    @property
    def days(self) -> float:
        return sum(stay.end - stay.start for stay in self.stays) / DAY

    def text(self) -> str:
        return "\n".join([*self._told(), "", HEAD, *map(_row, self.rows)])

    def _told(self) -> Iterator[str]:
        spec = self.spec
        moments = sum(len(stay.said) for stay in self.stays)
        patients = len({stay.patient for stay in self.stays})
        yield (
            f"{spec.title}: {', '.join(self.models)}; {len(self.stays)} stays of {patients} "
            f"patients, {self.days:.1f} patient-days, {moments} moments."
        )
        titles = {outcome.name: outcome.title for outcome in spec.outcome}
        counts = "; ".join(f"{title}: {self.events[name]}" for name, title in titles.items())
        yield f"First outcome of a stay: {counts}."
        yield (
            f"An alert is right within {spec.horizon} h before the outcome; after an alert an "
            f"alarm is silent for {spec.refractory} h; 95 % intervals by Wilson."
        )
        if self.silent:
            yield f"Left out: {self.silent} stays in which no model could answer."
        if self.skipped:
            listed = [f"{why} ({n})" for why, n in list(self.skipped.items())[:MOST]]
            yield f"Moments without an answer: {', '.join(listed)}."

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.spec.title,
            "models": list(self.models),
            "stays": len(self.stays),
            "silent": self.silent,
            "patient_days": round(self.days, 3),
            "events": dict(self.events),
            "skipped": self.skipped,
            "rows": [_json(row) for row in self.rows],
        }


def _row(row: Scored) -> str:
    lead = quartiles(row.leads)
    told = f"{lead[1]:.1f} ({lead[0]:.1f} to {lead[2]:.1f})" if lead else "-"
    cells = (
        row.alarm.title,
        f"{row.threshold:g}",
        str(row.alerts),
        f"{row.per_day:.2f}",
        _share(row.right),
        _share(row.warned),
        told,
        _share(row.calm),
    )
    return f"| {' | '.join(cells)} |"


def _share(share: Share) -> str:
    if share.value is None:
        return "-"
    low, high = share.bounds
    return f"{share.hits}/{share.of} {share.value:.2f} ({low:.2f} to {high:.2f})"


def _json(row: Scored) -> dict[str, Any]:
    lead = quartiles(row.leads)
    return {
        "alarm": row.alarm.title,
        "model": row.alarm.model,
        "threshold": row.threshold,
        "alerts": row.alerts,
        "alerts_per_patient_day": round(row.per_day, 4),
        "ppv": _numbers(row.right),
        "sensitivity": _numbers(row.warned),
        "calm": _numbers(row.calm),
        "lead_hours": None if lead is None else [round(hours, 2) for hours in lead],
    }


def _numbers(share: Share) -> dict[str, Any]:
    low, high = share.bounds if share.of else (0.0, 1.0)
    return {"hits": share.hits, "of": share.of, "low": round(low, 4), "high": round(high, 4)}
