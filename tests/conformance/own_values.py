"""A resource's own index values as the searches that must find it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import islice

from fhir_server.model.datatypes import PAST, format_instant
from fhir_server.search.parameters import Parameter
from fhir_server.search.parameters.escape import escape
from fhir_server.search.schema import SearchSchema
from fhir_server.search.values import (
    FOLDED,
    DateValue,
    IndexValues,
    NumberValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TokenValue,
    UriValue,
)

Value = (
    TokenValue | StringValue | DateValue | NumberValue | QuantityValue | ReferenceValue | UriValue
)
PER_PARAMETER = 3
LONGEST = 200
"""Characters of a value; what is longer is not put in a URL."""


def searches(schema: SearchSchema, type_: str, values: IndexValues) -> Iterator[tuple[str, str]]:
    """(parameter, value) pairs; each alone, and all together, find the resource."""
    for code, parameter in schema.of(type_).parameters.items():
        held = getattr(values, f"{parameter.kind}s".replace("quantitys", "quantities"), ())
        mine = (
            value for value in held if value.param in parameter.indexes and _own(parameter, value)
        )
        pairs = (pair for value in mine if (pair := _pair(code, value)) is not None)
        yield from islice((pair for pair in pairs if len(pair[1]) <= LONGEST), PER_PARAMETER)


def _own(parameter: Parameter, value: Value) -> bool:
    """Not the references to other types in the same index; and contained resources are found
    by chains, not by the reference that leads to them.
    """
    if not isinstance(value, ReferenceValue):
        return True
    if value.type and parameter.narrowed:
        return value.type in parameter.targets
    return bool(value.id or value.url) and not value.url.startswith("#")


def _pair(code: str, value: Value) -> tuple[str, str] | None:
    match value:
        case TokenValue(code=text) | StringValue(text=text) if text.endswith(FOLDED):
            return None  # for another way of asking
        case TokenValue(_, system, text):
            return code, f"{escape(system)}|{escape(text)}"
        case StringValue(_, text):
            return f"{code}:exact", escape(text)
        case DateValue(_, lo, hi):
            return _date(code, lo, hi)
        case NumberValue(_, lo, hi):
            return (code, _digits(lo)) if lo == hi else None
        case QuantityValue(lo=lo, hi=hi, system=system, code=unit):
            return (code, f"{_digits(lo)}|{escape(system)}|{escape(unit)}") if lo == hi else None
        case ReferenceValue(_, type_, id_, url, version):
            return (code, f"{type_}/{id_}" if id_ else escape(url)) if not version else None
        case UriValue(_, uri):
            return code, escape(uri)


def _date(code: str, lo: int, hi: int) -> tuple[str, str] | None:
    try:
        return (
            (code, f"ge{format_instant(lo)}") if lo != PAST else (code, f"le{format_instant(hi)}")
        )
    except (ValueError, OverflowError):
        return None


def _digits(number: float) -> str:
    return format(Decimal(f"{number:.12g}"), "f")
