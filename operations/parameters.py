"""Typed arguments of an operation, from a Parameters resource or a query string.

https://hl7.org/fhir/R4/operations.html#request: parameters of simple types may come in the
URL; a resource in the body that is not Parameters stands for the one input named by the
operation. An unknown, missing or repeated parameter is 400; a value of the wrong kind is
400 in the URL and 422 in a body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

from fhir_server.definitions.registry import load
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Issue, Problem, Unprocessable
from fhir_server.validation.rules.primitives import primitive_rules

CONTROL: Final = frozenset({"_format", "_pretty"})
"""Query parameters of the answer's form; they belong to every interaction."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One row of an OperationDefinition. ``max`` None: ``*``.

    ``type``: a primitive or complex type, a resource type ("Resource": any), "value" for
    ``value[x]`` of any type, or "" for a parameter with ``parts``. "Literal": a Reference
    that may stand in a URL, read as ``Type/id``; "Link": one that may also be a URL; "Token": a
    Coding that may, read as ``system|code``.
    """

    name: str
    type: str
    doc: str
    min: int = 0
    max: int | None = 1
    parts: tuple[Parameter, ...] = ()

    def definition(self, use: str) -> Json:
        row: Json = {
            "name": self.name,
            "use": use,
            "min": self.min,
            "max": "*" if self.max is None else str(self.max),
            "documentation": self.doc,
        }
        if self.parts:
            return row | {"part": [part.definition(use) for part in self.parts]}
        return row | {"type": _PUBLISHED.get(self.type, self.type)}


_PUBLISHED: Final = {
    "value": "Element",
    "Literal": "Reference",
    "Link": "Reference",
    "Token": "Coding",
    "ViewDefinition": "Resource",
}
"""Types of rows that FHIR calls otherwise."""


class Value(NamedTuple):
    """A ``value[x]`` of any type: its member name (``valueQuantity``) and its JSON."""

    member: str
    json: Any


class Arguments:
    """Decoded values by parameter name, in the client's order; parts are nested Arguments.

    ``criteria``: what an operation that searches was given beside its own parameters.
    """

    def __init__(
        self, values: Mapping[str, list[Any]], criteria: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self._values = values
        self.criteria = criteria

    def all(self, name: str) -> list[Any]:
        return self._values.get(name, [])

    def one(self, name: str, default: Any = None) -> Any:
        values = self._values.get(name)
        return values[0] if values else default


Reader = Callable[[str], Any]
"""The value of a text; ValueError says why it is none."""

_RULES: Final = primitive_rules(load().primitive_pattern)


def _text(type_: str) -> Reader:
    """A text that the rule of the primitive type takes."""
    rule = _RULES[type_]

    def read(text: str) -> str:
        fault = rule(text)
        if fault is not None:
            raise ValueError(fault.text)
        return text

    return read


def _number(type_: str) -> Reader:
    """A number, as https://hl7.org/fhir/R4/datatypes.html#primitive has it written."""
    pattern, number = (_DECIMAL, Decimal) if type_ == "decimal" else (_INTEGER, int)
    rule = _RULES[type_]

    def read(text: str) -> int | Decimal:
        if not pattern.fullmatch(text):
            raise ValueError(f"it is no {type_}")
        value = number(text)
        fault = rule(value)
        if fault is not None:
            raise ValueError(fault.text)
        return value

    return read


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("it is not true or false")
    return text == "true"


def _literal(text: str) -> str:
    """A literal reference to a resource of this server."""
    if not _REFERENCE.fullmatch(text):
        raise ValueError("it is not Type/id")
    return text


def _token(text: str) -> str:
    """A code, or a code of a system."""
    system, _, code = text.rpartition("|")
    if not system and not code:
        raise ValueError("it is not system|code")
    for part, type_ in ((system, "uri"), (code, "code")):
        if part:
            _text(type_)(part)
    return text


_REFERENCE: Final = re.compile(r"[A-Z][A-Za-z]{1,63}/[A-Za-z0-9\-.]{1,64}", re.ASCII)
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,9}", re.ASCII)
_DECIMAL: Final = re.compile(
    r"-?(0|[1-9][0-9]{0,99})(\.[0-9]{1,99})?([eE][+-]?[0-9]{1,3})?", re.ASCII
)


COMPLEX: Final = frozenset({"CodeableConcept", "Coding", "Meta", "Period", "Reference"})
"""Data types, written as ``value[x]``; their structure is the validator's."""


class Simple(NamedTuple):
    """How a simple type is written: members of Parameters that carry it, and its reader."""

    members: tuple[str, ...]
    read: Reader


_URIS: Final = ("valueUri", "valueUrl", "valueCanonical", "valueString", "valueCode")

SIMPLE: Final[Mapping[str, Simple]] = {
    "boolean": Simple(("valueBoolean",), _boolean),
    "Literal": Simple(("valueReference", "valueString", "valueUri"), _literal),
    "Link": Simple(
        ("valueReference", "valueUri", "valueUrl", "valueCanonical", "valueString"), _text("uri")
    ),
    "Token": Simple(("valueCoding",), _token),
    "id": Simple(("valueId", "valueCode", "valueString"), _text("id")),
    "code": Simple(("valueCode", "valueString", "valueId"), _text("code")),
    "string": Simple(("valueString", "valueCode", "valueId"), _text("string")),
    "uri": Simple(_URIS, _text("uri")),
    "canonical": Simple(_URIS, _text("canonical")),
    "instant": Simple(("valueInstant", "valueDateTime"), _text("instant")),
    "dateTime": Simple(("valueDateTime", "valueInstant", "valueDate"), _text("dateTime")),
    "date": Simple(("valueDate", "valueDateTime"), _text("date")),
    "integer": Simple(("valueInteger", "valuePositiveInt", "valueUnsignedInt"), _number("integer")),
    "unsignedInt": Simple(
        ("valueUnsignedInt", "valuePositiveInt", "valueInteger"), _number("unsignedInt")
    ),
    "positiveInt": Simple(
        ("valuePositiveInt", "valueUnsignedInt", "valueInteger"), _number("positiveInt")
    ),
    "decimal": Simple(("valueDecimal", "valueInteger"), _number("decimal")),
}
"""Types that may stand in a URL."""

NUMBERS: Final = frozenset({"integer", "unsignedInt", "positiveInt", "decimal"})


def decode(
    inputs: tuple[Parameter, ...],
    query: Iterable[tuple[str, str]],
    resource: Json | None = None,
    body: str = "",
    *,
    searches: bool = False,
) -> Arguments:
    """The arguments of one call. Raises BadRequest or Unprocessable naming each parameter.

    ``searches``: what is no row is a search criterion, in a body as a ``valueString``.
    """
    rows = {row.name: row for row in inputs}
    values: dict[str, list[Any]] = {}
    criteria: list[tuple[str, str]] = []
    for name, text in query:
        if searches and name not in rows and name not in CONTROL:
            criteria.append((name, text))
        elif name not in CONTROL:
            _add(values, _row(rows, name), _from_text(_row(rows, name), text))
    if resource is not None and resource.get("resourceType") == "Parameters":
        parts = resource.get("parameter", [])
        if searches and isinstance(parts, list):
            criteria += [(part["name"], part["valueString"]) for part in parts if _free(rows, part)]
            parts = [part for part in parts if not _free(rows, part)]
        _from_parts(rows, parts, values, "Parameters.parameter")
    elif resource is not None:
        row = rows.get(body)
        if row is None or not _fits(row, resource):
            raise BadRequest("The body must be a Parameters resource", code="invalid")
        _add(values, row, resource)
    _require(inputs, values, "")
    return Arguments(values, tuple(criteria))


def _free(rows: Mapping[str, Parameter], part: Any) -> bool:
    """Is this part of a body a search criterion?"""
    return (
        isinstance(part, dict)
        and part.keys() == {"name", "valueString"}
        and all(isinstance(text, str) for text in part.values())
        and part["name"] not in rows
    )


def _row(rows: Mapping[str, Parameter], name: str) -> Parameter:
    row = rows.get(name)
    if row is None:
        known = ", ".join(rows)
        raise BadRequest(f"Unknown parameter {name!r}; known: {known}", code="not-supported")
    return row


def _add(values: dict[str, list[Any]], row: Parameter, value: Any) -> None:
    found = values.setdefault(row.name, [])
    found.append(value)
    if row.max is not None and len(found) > row.max:
        raise BadRequest(f"Parameter {row.name!r} may be given {row.max} time(s)")


def _require(inputs: tuple[Parameter, ...], values: Mapping[str, list[Any]], path: str) -> None:
    for row in inputs:
        if len(values.get(row.name, [])) < row.min:
            raise BadRequest(
                f"Parameter {row.name!r} is required", code="required", expression=path or None
            )


def _from_text(row: Parameter, text: str) -> Any:
    simple = SIMPLE.get(row.type)
    if simple is None:
        raise BadRequest(f"Parameter {row.name!r} cannot be given in the URL: use POST")
    try:
        return simple.read(text)
    except ValueError as error:
        raise BadRequest(f"Parameter {row.name!r}: {error}", code="value") from error


def _from_parts(
    rows: Mapping[str, Parameter], parts: Any, values: dict[str, list[Any]], path: str
) -> None:
    if not isinstance(parts, list):
        raise Unprocessable("parameters are an array", code="structure", expression=path)
    for i, part in enumerate(parts):
        where = f"{path}[{i}]"
        if not isinstance(part, dict) or not isinstance(part.get("name"), str):
            raise Unprocessable("a parameter has a name", code="structure", expression=where)
        row = _row(rows, part["name"])
        _add(values, row, _from_part(row, part, where))


def _from_part(row: Parameter, part: Json, path: str) -> Any:
    members = [name for name in part if name.startswith("value")]
    if row.parts:
        if members or "resource" in part:
            raise _mismatch(row, path, "parts")
        nested: dict[str, list[Any]] = {}
        _from_parts({p.name: p for p in row.parts}, part.get("part", []), nested, f"{path}.part")
        _require(row.parts, nested, path)
        return Arguments(nested)
    if row.type == "value":
        if len(members) != 1:
            raise _mismatch(row, path, "one value[x]")
        return Value(members[0], part[members[0]])
    if row.type in COMPLEX:
        member = f"value{row.type}"
        if members != [member] or not isinstance(part[member], dict):
            raise _mismatch(row, path, member)
        return part[member]
    simple = SIMPLE.get(row.type)
    if simple is None:
        resource = part.get("resource")
        if members or not isinstance(resource, dict) or not _fits(row, resource):
            raise _mismatch(row, path, f"a resource ({row.type})")
        return resource
    return _from_simple(row, simple, part, members, path)


def _from_simple(row: Parameter, simple: Simple, part: Json, members: list[str], path: str) -> Any:
    if len(members) != 1 or members[0] not in simple.members:
        raise _mismatch(row, path, " or ".join(simple.members))
    value = part[members[0]]
    if members == ["valueReference"] and isinstance(value, dict):
        value = value.get("reference")
    if members == ["valueCoding"] and isinstance(value, dict):
        system = f"{value['system']}|" if "system" in value else ""
        value = system + str(value.get("code", ""))
    if row.type == "boolean" and isinstance(value, bool):
        return value
    if row.type in NUMBERS and isinstance(value, int | Decimal) and not isinstance(value, bool):
        value = str(value)
    elif row.type in NUMBERS or row.type == "boolean" or not isinstance(value, str):
        raise _mismatch(row, path, f"{simple.members[0]} of JSON type {row.type}")
    try:
        return simple.read(value)
    except ValueError as error:
        raise _mismatch(row, path, str(error)) from error


def _fits(row: Parameter, resource: Json) -> bool:
    return row.type in ("Resource", resource.get("resourceType"))


def _mismatch(row: Parameter, path: str, expected: str) -> Problem:
    text = f"Parameter {row.name!r}: expected {expected}"
    return Unprocessable([Issue("value", text, path)])
