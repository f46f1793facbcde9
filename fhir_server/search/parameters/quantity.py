"""quantity: https://hl7.org/fhir/R4/search.html#quantity"""

from __future__ import annotations

import math
from decimal import Decimal, DecimalException
from functools import lru_cache
from typing import Any as Value
from typing import Final, cast

from fhir_server.model.datatypes import PREFIXES
from fhir_server.model.ucum import UcumError, canonical
from fhir_server.search.parameters.escape import split, unescape
from fhir_server.search.parameters.kind import Criterion, Emit, Kind, Site
from fhir_server.search.parameters.number import Sought, sought
from fhir_server.search.plan import Any, Predicate, Prefix, QuantityIs
from fhir_server.search.values import IndexValues, QuantityValue

UCUM: Final = "http://unitsofmeasure.org"
CURRENCY: Final = "urn:iso:std:iso:4217"

# Quantity.comparator: the real value is beyond the stated one.
_BEYOND: Final[dict[str, tuple[bool, bool]]] = {
    "<": (True, False),
    "<=": (True, False),
    ">=": (False, True),
    ">": (False, True),
}
# A unit whose scale runs backwards (pH) turns comparisons around.
_TURNED: Final[dict[str, str]] = {
    "gt": "lt", "lt": "gt", "ge": "le", "le": "ge", "sa": "eb", "eb": "sa",
}  # fmt: skip


def _numbers(lo: Value, hi: Value, unit: Value, index: str) -> QuantityValue:
    """A closed range; None is an open end. ``unit``: has the members of a Quantity's unit."""
    system, code = unit.get("system", ""), unit.get("code", "")
    (low, high), proper = _ends(lo, hi, code if system == UCUM else "")
    return QuantityValue(index, low, high, system, code, unit.get("unit", ""), *proper)


# A value is read again for each composite that it is part of.
@lru_cache(maxsize=4096)
def _ends(lo: Value, hi: Value, code: str) -> tuple[tuple[float, float], tuple[float, float, str]]:
    """The range as written, and in canonical units."""
    low = -math.inf if lo is None else float(_exact(lo))
    high = math.inf if hi is None else float(_exact(hi))
    return (low, high), _canonical(lo, hi, code) if code else (0.0, 0.0, "")


def _canonical(lo: Value, hi: Value, code: str) -> tuple[float, float, str]:
    try:
        if lo == hi and lo is not None:
            value, text = canonical(_exact(lo), code)
            point = float(value)
            return point, point, text
        one, text = canonical(Decimal(1), code)
        rising = canonical(Decimal(2), code)[0] > one
        first = -math.inf if lo is None else float(canonical(_exact(lo), code)[0])
        last = math.inf if hi is None else float(canonical(_exact(hi), code)[0])
    except UcumError:
        return 0.0, 0.0, ""
    if rising:
        return first, last, text
    return (-math.inf if hi is None else last), (math.inf if lo is None else first), text


def _exact(number: Value) -> Decimal:
    return number if isinstance(number, Decimal) else Decimal(number)


def _quantity(index: str, _site: Site) -> Emit:
    def emit(value: Value, out: IndexValues) -> None:
        number = value.get("value")
        if number is None:
            return
        below, above = _BEYOND.get(value.get("comparator", ""), (False, False))
        out.quantities.append(
            _numbers(None if below else number, None if above else number, value, index)
        )

    return emit


def _money(index: str, _site: Site) -> Emit:
    def emit(value: Value, out: IndexValues) -> None:
        number = value.get("value")
        if number is not None:
            unit = {"system": CURRENCY, "code": value.get("currency", "")}
            out.quantities.append(_numbers(number, number, unit, index))

    return emit


def _range(index: str, _site: Site) -> Emit:
    def emit(value: Value, out: IndexValues) -> None:
        low, high = value.get("low", {}), value.get("high", {})
        if low or high:
            out.quantities.append(_numbers(low.get("value"), high.get("value"), low or high, index))

    return emit


def _sampled(index: str, _site: Site) -> Emit:
    """From the smallest to the greatest sample."""

    def emit(value: Value, out: IndexValues) -> None:
        samples = []
        for word in value.get("data", "").split():
            try:
                samples.append(Decimal(word))
            except DecimalException:
                continue  # E, L and U stand for no number
        samples = [s for s in samples if s.is_finite()]
        origin = value.get("origin", {})
        if samples and "value" in origin:
            zero, factor = _exact(origin["value"]), _exact(value.get("factor", 1))
            ends = sorted((zero + min(samples) * factor, zero + max(samples) * factor))
            out.quantities.append(_numbers(ends[0], ends[1], origin, index))

    return emit


def compile_quantity(criterion: Criterion) -> Predicate:
    """``number``, ``number|system|code`` or ``number||unit``."""
    parts = tuple(_sought(criterion, value) for value in criterion.values)
    return parts[0] if len(parts) == 1 else Any(parts)


def _sought(criterion: Criterion, value: str) -> Predicate:
    parts = [unescape(part) for part in split(value, "|")]
    if len(parts) not in (1, 3):
        raise criterion.bad(value, "is not number, number|system|code or number||code")
    try:
        wanted = sought(parts[0])
    except ValueError as error:
        raise criterion.bad(value, f"is not a quantity: {error}") from None
    system, code = (parts[1], parts[2]) if len(parts) == 3 else ("", "")
    index = criterion.index
    if system == UCUM and code:
        proper = _proper(index, wanted, code)
        if proper is not None:
            return proper
    return QuantityIs(index, wanted.prefix, *wanted.floats(), system or None, code or None)


def _proper(index: str, wanted: Sought, code: str) -> QuantityIs | None:
    """The same in canonical units; None when the unit is not UCUM."""
    try:
        value, text = canonical(wanted.value, code)
        lo, hi = (canonical(end, code)[0] for end in wanted.range)
    except UcumError:
        return None
    prefix = wanted.prefix
    if lo > hi:
        lo, hi, prefix = hi, lo, cast(Prefix, _TURNED.get(prefix, prefix))
    floats = Sought(prefix, value, wanted.range._replace(lo=lo, hi=hi)).floats()
    return QuantityIs(index, prefix, *floats, canonical_unit=text)


QUANTITY = Kind(
    name="quantity",
    description="A number with a unit, number|system|code; units of UCUM are converted",
    example="Observation?value-quantity=gt5.4|http://unitsofmeasure.org|mmol/L",
    prefixes=PREFIXES,
    compile=compile_quantity,
    readers={
        "Money": _money,
        "Range": _range,
        "SampledData": _sampled,
    }
    | dict.fromkeys(("Quantity", "Age", "Duration", "Count", "Distance"), _quantity),
)
