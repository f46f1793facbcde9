"""The statistics of $stats: https://hl7.org/fhir/R4/codesystem-observation-statistics.html"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Context, Decimal
from typing import Final, Literal, NamedTuple

SYSTEM: Final = "http://terminology.hl7.org/CodeSystem/observation-statistics"
ALIASES: Final = {"max": "maximum", "min": "minimum"}
"""Names that the operation's own documentation uses."""

_EXACT: Final = Context(prec=40)
_SHOWN: Final = Context(prec=12)
"""Digits of a result."""

Values = Sequence[Decimal]
"""In ascending order."""
Figure = Callable[[Values], Decimal | None]


class Statistic(NamedTuple):
    """``of``: the figure, None if so few values have none. ``unit``: that of the values, its
    square, or a plain number."""

    display: str
    of: Figure
    unit: Literal["unit", "square", "plain"] = "unit"


def _shown(value: Decimal) -> Decimal:
    """Rounded, and without an exponent or needless zeros."""
    rounded = _SHOWN.plus(value).normalize(_SHOWN)
    return rounded if rounded.as_tuple().exponent in range(-30, 1) else rounded.quantize(1)


def _sum(values: Values) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = _EXACT.add(total, value)
    return total


def _mean(values: Values) -> Decimal:
    return _EXACT.divide(_sum(values), len(values))


def _central(values: Values, power: int) -> Decimal:
    """The sum of the powers of the distances from the mean."""
    mean = _mean(values)
    return _sum([_EXACT.power(_EXACT.subtract(value, mean), power) for value in values])


def _variance(values: Values) -> Decimal:
    return _EXACT.divide(_central(values, 2), len(values) - 1)


def _skew(values: Values) -> Decimal | None:
    """The adjusted Fisher-Pearson coefficient."""
    n, spread = len(values), _EXACT.sqrt(_variance(values))
    if not spread:
        return None
    top = _EXACT.multiply(n, _central(values, 3))
    return _EXACT.divide(top, _EXACT.multiply((n - 1) * (n - 2), _EXACT.power(spread, 3)))


def _kurtosis(values: Values) -> Decimal | None:
    """Excess kurtosis of a sample: 0 for a normal distribution."""
    n, variance = len(values), _variance(values)
    if not variance:
        return None
    first = _EXACT.divide(
        _EXACT.multiply(n * (n + 1), _central(values, 4)),
        _EXACT.multiply((n - 1) * (n - 2) * (n - 3), _EXACT.power(variance, 2)),
    )
    return _EXACT.subtract(first, _EXACT.divide(Decimal(3 * (n - 1) ** 2), (n - 2) * (n - 3)))


def _percentile(share: str) -> Figure:
    """Linear between the two nearest values."""

    def of(values: Values) -> Decimal:
        place = _EXACT.multiply(Decimal(share), len(values) - 1)
        low = int(place)
        high = min(low + 1, len(values) - 1)
        step = _EXACT.subtract(values[high], values[low])
        return _EXACT.add(values[low], _EXACT.multiply(step, place - low))

    return _least(1, of)


def _least(
    count: int, of: Callable[[Values], Decimal | None]
) -> Callable[[Values], Decimal | None]:
    """``of``, for at least so many values."""

    def guarded(values: Values) -> Decimal | None:
        value = of(values) if len(values) >= count else None
        return None if value is None else _shown(value)

    return guarded


def _quartile_deviation(values: Values) -> Decimal | None:
    lower, upper = _percentile("0.25")(values), _percentile("0.75")(values)
    assert lower is not None and upper is not None
    return _EXACT.divide(_EXACT.subtract(upper, lower), 2)


STATISTICS: Final[dict[str, Statistic]] = {
    "average": Statistic("Average", _least(1, _mean)),
    "maximum": Statistic("Maximum", _least(1, lambda values: values[-1])),
    "minimum": Statistic("Minimum", _least(1, lambda values: values[0])),
    "count": Statistic("Count", lambda values: Decimal(len(values)), "plain"),
    "total-count": Statistic("Total Count", lambda values: Decimal(len(values)), "plain"),
    "median": Statistic("Median", _percentile("0.5")),
    "std-dev": Statistic("Standard Deviation", _least(2, lambda v: _EXACT.sqrt(_variance(v)))),
    "sum": Statistic("Sum", _least(1, _sum)),
    "variance": Statistic("Variance", _least(2, _variance), "square"),
    "20-percent": Statistic("20th Percentile", _percentile("0.2")),
    "80-percent": Statistic("80th Percentile", _percentile("0.8")),
    "4-lower": Statistic("Lower Quartile", _percentile("0.25")),
    "4-upper": Statistic("Upper Quartile", _percentile("0.75")),
    "4-dev": Statistic("Quartile Deviation", _least(1, _quartile_deviation)),
    "5-1": Statistic("1st Quintile", _percentile("0.2")),
    "5-2": Statistic("2nd Quintile", _percentile("0.4")),
    "5-3": Statistic("3rd Quintile", _percentile("0.6")),
    "5-4": Statistic("4th Quintile", _percentile("0.8")),
    "skew": Statistic("Skew", _least(3, _skew), "plain"),
    "kurtosis": Statistic("Kurtosis", _least(4, _kurtosis), "plain"),
}
"""All of the code system but ``regression``, which has two results and no defined form."""
