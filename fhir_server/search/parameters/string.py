"""string: https://hl7.org/fhir/R4/search.html#string"""

from __future__ import annotations

import re
from typing import Any as Value
from typing import Final

from fhir_server.search.parameters.escape import unescape
from fhir_server.search.parameters.kind import Criterion, Emit, Kind, Reader, Site
from fhir_server.search.plan import Any, Predicate, StringIs
from fhir_server.search.values import PART, IndexValues, StringValue, fold

# The parts by which a server may search a name or an address; all of them here.
_NAME = ("family", "given", "text", "prefix", "suffix")
_ADDRESS = ("line", "city", "district", "state", "postalCode", "country", "text")


_FAMILY: Final = "family"
_BETWEEN: Final = re.compile(r"[\s\-\u2010\u2011]+")


def _plain(index: str, _site: Site) -> Emit:
    def emit(value: Value, out: IndexValues) -> None:
        out.strings.append(StringValue(index, value))

    def emit_family(value: Value, out: IndexValues) -> None:
        out.strings.append(StringValue(index, value))
        out.strings += _further(index, value)

    return emit_family if index == _FAMILY else emit


def _further(index: str, family: str) -> list[StringValue]:
    """The further parts of a family name: "searching either Carreno or Quinones should match a
    family name of Carreno Quinones". What they end with keeps them apart from whole texts.
    """
    parts = _BETWEEN.split(family)[1:]
    return [StringValue(index, part + PART) for part in parts if part]


def _parts(names: tuple[str, ...]) -> Reader:
    def of(index: str, _site: Site) -> Emit:
        def emit(value: Value, out: IndexValues) -> None:
            for name in names:
                part = value.get(name)
                if type(part) is str:
                    out.strings.append(StringValue(index, part))
                    if name == _FAMILY:
                        out.strings += _further(index, part)
                elif part:
                    out.strings += [StringValue(index, one) for one in part if one is not None]

        return emit

    return of


def compile_string(criterion: Criterion) -> Predicate:
    """Starts with, without regard to case and accents; ``:exact`` as written."""
    parts = tuple(_string(criterion, unescape(value)) for value in criterion.values)
    return parts[0] if len(parts) == 1 else Any(parts)


def _string(criterion: Criterion, text: str) -> Predicate:
    index = criterion.index
    if criterion.modifier == "exact":
        return StringIs(index, text, "exact")
    folded = fold(text)
    if not folded:
        raise criterion.bad(text, "has nothing to search for")
    return StringIs(index, folded, "contains" if criterion.modifier == "contains" else "starts")


STRING = Kind(
    name="string",
    description="A text that starts with the value; case, accents and spacing do not matter",
    example="Patient?name=eve",
    modifiers=("exact", "contains"),
    compile=compile_string,
    readers={
        "string": _plain,
        "markdown": _plain,
        "HumanName": _parts(_NAME),
        "Address": _parts(_ADDRESS),
    },
)
