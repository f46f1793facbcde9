"""Invariants of datatypes: https://hl7.org/fhir/R4/datatypes.html"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

from fhir_server.model.exchange import Json
from fhir_server.model.ucum import convert

from ..dates import later
from .values import UCUM, Test, chosen, has

_MAX_UNIT = 50
"""Characters of a unit that is worth a conversion."""


def _period(period: Json) -> bool:
    start, end = period.get("start"), period.get("end")
    return start is None or end is None or not later(start, end)


def _range(range_: Json) -> bool:
    """Values are compared where their units can be."""
    low, high = range_.get("low", {}), range_.get("high", {})
    if "value" not in low or "value" not in high:
        return True
    below, above = low["value"], high["value"]
    if low.get("system") == high.get("system") == UCUM and _unit(low) != _unit(high):
        units = low.get("code", "1"), high.get("code", "1")
        if max(map(len, units)) > _MAX_UNIT:
            return True
        try:
            below = convert(Decimal(below), *units)
        except ValueError:
            return True
    elif _unit(low) != _unit(high):
        return True
    return bool(below <= above)


def _unit(quantity: Json) -> tuple[object, object]:
    if "code" in quantity:
        return quantity.get("system"), quantity["code"]
    return None, quantity.get("unit")


def _ucum(quantity: Json) -> bool:
    """A value has a code, and a system is UCUM."""
    coded = has(quantity, "code") or not has(quantity, "value")
    return coded and quantity.get("system", UCUM) == UCUM


def _count(quantity: Json) -> bool:
    return (
        _ucum(quantity)
        and quantity.get("code", "1") == "1"
        and "." not in str(quantity.get("value", ""))
    )


def _duration(quantity: Json) -> bool:
    """A code has a value, and a system is UCUM (that there is one: qty-3)."""
    if not has(quantity, "code"):
        return True
    return quantity.get("system", UCUM) == UCUM and has(quantity, "value")


def _ratio(ratio: Json) -> bool:
    numerator, denominator = has(ratio, "numerator"), has(ratio, "denominator")
    return numerator == denominator and (numerator or "extension" in ratio)


def _trigger(trigger: Json) -> bool:
    kind = str(trigger.get("type", ""))
    return (
        (kind != "named-event" or has(trigger, "name"))
        and (kind != "periodic" or chosen(trigger, "timing"))
        and (not kind.startswith("data-") or has(trigger, "data"))
    )


def _extension(extension: Json) -> bool:
    """Extensions or a value, not both. Only value[x] has names that start so."""
    for key in extension:
        if key.startswith(("value", "_value")):
            return "extension" not in extension
    return "extension" in extension


def _needs(name: str, *needed: str) -> Test:
    """If ``name`` exists, one of ``needed`` exists."""
    return lambda element: not has(element, name) or has(element, *needed)


ROWS: Mapping[str, Test] = MappingProxyType(
    {
        "ext-1": _extension,
        "per-1": _period,
        "qty-3": _needs("code", "system"),
        "rng-2": _range,
        "rat-1": _ratio,
        "age-1": lambda q: _ucum(q) and q.get("value", 1) > 0,
        "cnt-3": _count,
        "dis-1": _ucum,
        "drt-1": _duration,
        "att-1": _needs("data", "contentType"),
        "cpt-2": _needs("value", "system"),
        "exp-1": lambda e: has(e, "expression", "reference"),
        "drq-1": lambda e: has(e, "path") != has(e, "searchParam"),
        "drq-2": lambda e: has(e, "path") != has(e, "searchParam"),
        "tim-1": _needs("duration", "durationUnit"),
        "tim-2": _needs("period", "periodUnit"),
        "tim-4": lambda r: r.get("duration", 0) >= 0,
        "tim-5": lambda r: r.get("period", 0) >= 0,
        "tim-6": _needs("periodMax", "period"),
        "tim-7": _needs("durationMax", "duration"),
        "tim-8": _needs("countMax", "count"),
        "tim-9": lambda r: (
            not has(r, "offset")
            or (has(r, "when") and {"C", "CM", "CD", "CV"}.isdisjoint(r.get("when", ())))
        ),
        "tim-10": lambda r: not (has(r, "timeOfDay") and has(r, "when")),
        "trd-1": lambda t: not (has(t, "data") and chosen(t, "timing")),
        "trd-2": _needs("condition", "data"),
        "trd-3": _trigger,
    }
)
