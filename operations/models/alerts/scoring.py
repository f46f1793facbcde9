"""From what an alarm said to its alerts, and how often they were right and how early.

Intervals are Wilson's at 95 % and take alerts for independent; those of one stay are not, so they
are somewhat too narrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from operations.deid.text.evaluation import wilson

from .replay import Stay
from .spec import Alarm, Spec

HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR


class Share(NamedTuple):
    """``hits`` of ``of``, with the bounds of its interval."""

    hits: int
    of: int

    @property
    def value(self) -> float | None:
        return self.hits / self.of if self.of else None

    @property
    def bounds(self) -> tuple[float, float]:
        return wilson(self.hits, self.of)


@dataclass(frozen=True, slots=True)
class Scored:
    """One alarm at one threshold. ``leads``: hours from the first alert within the horizon to the
    outcome, of the outcomes that were warned of. ``calm``: of the stays without an outcome those
    without any alert."""

    alarm: Alarm
    threshold: float
    alerts: int
    days: float
    right: Share
    warned: Share
    calm: Share
    leads: tuple[float, ...]

    @property
    def per_day(self) -> float:
        return self.alerts / self.days if self.days else 0.0


def alerts(said: Iterable[tuple[int, float]], threshold: float, refractory: int) -> list[int]:
    """When it sounds: at the threshold or over, and not within ``refractory`` after it did.
    Microseconds."""
    found: list[int] = []
    for at, value in said:
        if value >= threshold and (not found or at - found[-1] >= refractory):
            found.append(at)
    return found


def scored(spec: Spec, alarm: Alarm, threshold: float, stays: Sequence[Stay]) -> Scored:
    """All stays must have an answer of some model."""
    count = right = warned = events = calm = 0
    leads: list[float] = []
    for stay in stays:
        times = alerts(_values(alarm, stay), threshold, spec.refractory * HOUR)
        count += len(times)
        if stay.event is None:
            calm += not times
            continue
        events += 1
        early = [at for at in times if stay.event[0] - at <= spec.horizon * HOUR]
        right += len(early)
        if early:
            warned += 1
            leads.append((stay.event[0] - early[0]) / HOUR)
    return Scored(
        alarm,
        threshold,
        count,
        sum(stay.end - stay.start for stay in stays) / DAY,
        Share(right, count),
        Share(warned, events),
        Share(calm, len(stays) - events),
        tuple(sorted(leads)),
    )


def _values(alarm: Alarm, stay: Stay) -> list[tuple[int, float]]:
    return [
        (at, max(said[alarm.model][name] for name in alarm.outputs))
        for at, said in stay.said
        if alarm.model in said
    ]


def quartiles(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Lower quartile, median, upper quartile of sorted values, interpolated; None of none."""
    if not values:
        return None
    return _at(values, 0.25), _at(values, 0.5), _at(values, 0.75)


def _at(values: Sequence[float], share: float) -> float:
    place = share * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)
