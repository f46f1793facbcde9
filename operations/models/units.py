"""A FHIR Quantity in the unit of a feature.

UCUM converts what measures the same; between mass and amount of substance the manifest
gives the factor of the analyte. https://hl7.org/fhir/R4/datatypes.html#Quantity
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

from fhir_server.model import ucum
from fhir_server.model.exchange import Json

from .manifest import Feature, Molar

UCUM: Final = "http://unitsofmeasure.org"

SPELLINGS: Final = {
    "mmhg": "mm[Hg]",
    "мм рт. ст.": "mm[Hg]",
    "мм рт.ст.": "mm[Hg]",
    "ммоль/л": "mmol/L",
    "мкмоль/л": "umol/L",
    "мг/дл": "mg/dL",
    "г/л": "g/L",
    "µmol/l": "umol/L",
    "μmol/l": "umol/L",
    "kg/m²": "kg/m2",
    "kg/m^2": "kg/m2",
    "кг/м2": "kg/m2",
    "кг/м²": "kg/m2",
    "years": "a",
    "year": "a",
    "ml/min/1.73m2": "mL/min/{1.73_m2}",
    "ml/min/1.73 m2": "mL/min/{1.73_m2}",
    "ml/min/1.73m²": "mL/min/{1.73_m2}",
    "ml/min/1.73 m²": "mL/min/{1.73_m2}",
    "ml/min/1.73.m2": "mL/min/{1.73_m2}",
    "ml/min/{1.73m2}": "mL/min/{1.73_m2}",
    "ml/min per 1.73 m2": "mL/min/{1.73_m2}",
    "mg/dl": "mg/dL",
    "g/dl": "g/dL",
    "g/l": "g/L",
    "mmol/l": "mmol/L",
    "umol/l": "umol/L",
    "mcmol/l": "umol/L",
    "meq/l": "meq/L",
    "u/l": "U/L",
    "iu/l": "[IU]/L",
    "од/л": "U/L",
    "ед/л": "U/L",
    "k/ul": "10*3/uL",
    "k/µl": "10*3/uL",
    "x10e3/ul": "10*3/uL",
    "x10^3/ul": "10*3/uL",
    "x10e9/l": "10*9/L",
    "x10^9/l": "10*9/L",
    "10⁹/л": "10*9/L",
}
"""Units as people write them, also in capitals -> UCUM."""


class Converted(NamedTuple):
    """``how``: the conversion in words, "" when there was none."""

    value: Decimal
    how: str


def measure(quantity: Json, feature: Feature) -> Converted:
    """The quantity in ``feature.unit``. Raises ValueError with the reason it cannot be used."""
    value = quantity.get("value")
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("it has no value")
    if quantity.get("comparator"):
        raise ValueError(f"its value is only a bound ({quantity['comparator']} {value})")
    number = Decimal(value)
    if not number.is_finite():
        raise ValueError("it has no value")
    unit = _unit(quantity)
    converted = _converted(number, unit, feature)
    how = "" if unit == feature.unit else f"{number} {unit} = {converted:.6g} {feature.unit}"
    if how and feature.molar and not ucum.commensurable(unit, feature.unit):
        how += f" (1 {feature.molar.mass} = {feature.molar.factor} {feature.molar.mole})"
    return Converted(converted, how)


def _unit(quantity: Json) -> str:
    """The UCUM code; a unit text only where there is no code."""
    code, system = quantity.get("code"), quantity.get("system")
    text = code if code and system in (UCUM, None) else quantity.get("unit")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("it has no unit")
    unit = SPELLINGS.get(text.strip().casefold(), text.strip())
    if not ucum.is_valid(unit):
        raise ValueError(f"its unit {text!r} is not understood")
    return unit


def _converted(value: Decimal, unit: str, feature: Feature) -> Decimal:
    try:
        if ucum.commensurable(unit, feature.unit):
            return ucum.convert(value, unit, feature.unit)
        if feature.molar is not None:
            return _through_molar(value, unit, feature.unit, feature.molar)
    except ucum.UcumError as error:
        raise ValueError(str(error)) from error
    raise ValueError(f"its unit {unit} cannot be converted to {feature.unit}")


def _through_molar(value: Decimal, unit: str, target: str, molar: Molar) -> Decimal:
    if ucum.commensurable(unit, molar.mass):
        mole = ucum.convert(value, unit, molar.mass) * molar.factor
        return ucum.convert(mole, molar.mole, target)
    if ucum.commensurable(unit, molar.mole):
        mass = ucum.convert(value, unit, molar.mole) / molar.factor
        return ucum.convert(mass, molar.mass, target)
    raise ValueError(f"its unit {unit} cannot be converted to {target}")
