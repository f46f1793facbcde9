"""A ViewDefinition, read and checked: https://build.fhir.org/ig/FHIR/sql-on-fhir-v2/

R4 has no such type, so its structure is told here, by tables. Whatever is wrong is told at once,
each with its place: unknown elements, expressions that do not parse, undefined constants, columns
that repeat, branches of a ``unionAll`` that differ.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final, Literal

from fhir_server.fhirpath import Expression, FhirPathError
from fhir_server.fhirpath.constants import CONSTANTS, PREFIXES
from fhir_server.fhirpath.node import CONVERTED, PRIMITIVES
from fhir_server.fhirpath.syntax import Constant
from fhir_server.fhirpath.values import System
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Issue, Unprocessable

TYPE: Final = "ViewDefinition"

_COMMON: Final = frozenset({"id", "extension", "modifierExtension"})
TOP: Final = _COMMON | frozenset(
    {"resourceType", "meta", "implicitRules", "language", "text", "contained", "url", "identifier"}
    | {"version", "versionAlgorithmString", "versionAlgorithmCoding", "name", "title", "status"}
    | {"experimental", "date", "publisher", "contact", "description", "useContext"}
    | {"jurisdiction", "purpose", "copyright", "copyrightLabel", "fhirVersion", "profile"}
    | {"resource", "resourceVersion", "constant", "select", "where"}
)
SELECT: Final = _COMMON | frozenset(
    {"column", "select", "forEach", "forEachOrNull", "repeat", "unionAll"}
)
COLUMN: Final = _COMMON | frozenset({"path", "name", "description", "collection", "type", "tag"})
WHERE: Final = _COMMON | frozenset({"path", "description"})

VARIABLES: Final = frozenset({"context", "resource", "rootResource", "rowIndex", *CONSTANTS})
"""What ``%name`` may be without a ``constant`` of the view."""

ROW_INDEX: Final = "rowIndex"
NESTED: Final = 16
"""Most selects within each other."""

NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,254}", re.ASCII)
Mode = Literal["", "forEach", "forEachOrNull", "repeat"]
_PREFIX: Final = "http://hl7.org/fhir/StructureDefinition/"


@dataclass(frozen=True, slots=True)
class Column:
    """``type``: of FHIR, "" where it is not said. ``place``: in the definition."""

    name: str
    path: Expression
    type: str
    collection: bool
    place: str


@dataclass(frozen=True, slots=True)
class Select:
    """Columns, selects and branches of ``unionAll``, for each item of ``each`` by ``mode``."""

    columns: tuple[Column, ...]
    selects: tuple[Select, ...]
    unions: tuple[Select, ...]
    mode: Mode
    each: tuple[Expression, ...]

    @property
    def outputs(self) -> tuple[Column, ...]:
        """In their order; branches have the same."""
        inner = tuple(column for select in self.selects for column in select.outputs)
        return (*self.columns, *inner, *(self.unions[0].outputs if self.unions else ()))


@dataclass(frozen=True, slots=True)
class View:
    """``constants``: System values by name. ``where``: (criterion, its place). ``definition``: as
    it came."""

    definition: Json
    resource: str
    name: str
    url: str
    constants: Mapping[str, System]
    where: tuple[tuple[Expression, str], ...]
    select: tuple[Select, ...]
    columns: tuple[Column, ...]


def read_view(definition: Json, types: Collection[str]) -> View:
    """The view. Raises Unprocessable that names each fault. ``types``: of resources."""
    reading = _Reading(types)
    view = reading.view(definition)
    if reading.issues:
        raise Unprocessable(reading.issues)
    return view


class _Reading:
    """One definition while it is being read: faults are collected."""

    def __init__(self, types: Collection[str]) -> None:
        self._types = types
        self._known: frozenset[str] = VARIABLES
        self.issues: list[Issue] = []

    def view(self, definition: Json) -> View:
        place = TYPE
        self._names(definition, TOP, place)
        resource = definition.get("resource")
        if not isinstance(resource, str) or resource not in self._types:
            self._fault("resource: a resource type is needed", f"{place}.resource")
        if definition.get("resourceType", TYPE) != TYPE:
            self._fault("this is no ViewDefinition", place)
        constants = self._constants(definition)
        self._known = VARIABLES | constants.keys()
        where = tuple(
            (self._expression(one.get("path"), f"{at}.path"), at)
            for one, at in self._items(definition, "where", place, WHERE)
        )
        select = self._selects(definition, "select", place, 0)
        if not select:
            self._fault("a view has a select", f"{place}.select")
        columns = tuple(column for one in select for column in one.outputs)
        self._distinct(columns)
        told = [definition.get(name) for name in ("name", "url")]
        name, url = [text if isinstance(text, str) else "" for text in told]
        return View(definition, str(resource), name, url, constants, where, select, columns)

    def _constants(self, definition: Json) -> dict[str, System]:
        found: dict[str, System] = {}
        for one, at in self._items(definition, "constant", TYPE, None):
            name = self._named(one, at)
            values = [member for member in one if member.startswith("value")]
            if len(values) != 1 or one.keys() - _COMMON - {"name", *values}:
                self._fault("a constant has a name and one value[x]", at)
            elif name in found:
                self._fault(f"the constant {name} is defined twice", at)
            else:
                found[name] = self._value(one[values[0]], values[0], at)
        return found

    def _value(self, value: Any, member: str, at: str) -> System:
        """The System value of a primitive; of another type it is a fault."""
        type_ = member[5:6].lower() + member[6:]
        if type_ not in PRIMITIVES or not fits(type_, value):
            self._fault(f"{member} is no value of a primitive type", at)
            return ""
        convert = CONVERTED.get(type_)
        try:
            return value if convert is None else convert(value)
        except (TypeError, ValueError):
            self._fault(f"this is no {type_}", f"{at}.{member}")
            return ""

    def _selects(self, holder: Json, name: str, place: str, depth: int) -> tuple[Select, ...]:
        if depth > NESTED:
            self._fault(f"selects are nested deeper than {NESTED}", place)
            return ()
        items = self._items(holder, name, place, SELECT)
        return tuple(self._select(one, at, depth + 1) for one, at in items)

    def _select(self, one: Json, place: str, depth: int) -> Select:
        modes = [mode for mode in ("forEach", "forEachOrNull", "repeat") if mode in one]
        if len(modes) > 1:
            self._fault(f"one of {', '.join(modes)}, not more", place)
        mode: Any = modes[0] if modes else ""
        columns = tuple(
            self._column(column, at) for column, at in self._items(one, "column", place, COLUMN)
        )
        selects = self._selects(one, "select", place, depth)
        unions = self._selects(one, "unionAll", place, depth)
        if not (columns or selects or unions):
            self._fault("a select has a column, select or unionAll", place)
        self._alike(unions, place)
        return Select(columns, selects, unions, mode, self._each(one, mode, place))

    def _each(self, one: Json, mode: str, place: str) -> tuple[Expression, ...]:
        if not mode:
            return ()
        paths = one[mode] if mode == "repeat" else [one[mode]]
        if not isinstance(paths, list) or not paths:
            self._fault("repeat is a list of expressions", f"{place}.repeat")
            return ()
        return tuple(self._expression(path, f"{place}.{mode}") for path in paths)

    def _column(self, one: Json, place: str) -> Column:
        name, type_ = self._named(one, place), one.get("type", "")
        collection = one.get("collection", False)
        if not isinstance(type_, str) or not isinstance(collection, bool):
            self._fault("type is a text, collection a boolean", place)
            type_, collection = "", False
        path = self._expression(one.get("path"), f"{place}.path")
        return Column(name, path, type_.removeprefix(_PREFIX), collection, place)

    def _expression(self, text: Any, place: str) -> Expression:
        if not isinstance(text, str):
            self._fault("a FHIRPath expression is needed", place)
            return Expression("{}")
        try:
            expression = Expression(text)
        except FhirPathError as error:
            self._fault(f"{text[:100]!r}: {error}", place)
            return Expression("{}")
        for name in constants_in(expression.tree):
            if name not in self._known and not name.startswith(tuple(PREFIXES)):
                self._fault(f"the constant %{name} is not defined", place)
        return expression

    def _alike(self, unions: tuple[Select, ...], place: str) -> None:
        """All branches have the same columns in the same order."""
        for number, branch in enumerate(unions[1:], 1):
            first, other = unions[0].outputs, branch.outputs
            if [c.name for c in first] != [c.name for c in other] or any(
                (a.type and b.type and a.type != b.type) or a.collection != b.collection
                for a, b in zip(first, other, strict=True)
            ):
                at = f"{place}.unionAll[{number}]"
                self._fault("the columns of all branches are the same, in the same order", at)

    def _distinct(self, columns: tuple[Column, ...]) -> None:
        seen: set[str] = set()
        for column in columns:
            if column.name in seen:
                self._fault(f"the column {column.name} is there twice", column.place)
            seen.add(column.name)

    def _named(self, one: Json, place: str) -> str:
        name = one.get("name")
        if not isinstance(name, str) or NAME.fullmatch(name) is None:
            self._fault("a name begins with a letter; letters, digits and _ follow", place)
            return ""
        return name

    def _items(
        self, holder: Json, name: str, place: str, known: Collection[str] | None
    ) -> Iterator[tuple[Json, str]]:
        """The objects of a list, each with its place."""
        value = holder.get(name, [])
        if not isinstance(value, list):
            self._fault(f"{name} is a list", f"{place}.{name}")
            return
        for number, one in enumerate(value):
            at = f"{place}.{name}[{number}]"
            if not isinstance(one, dict):
                self._fault("an object is needed", at)
                continue
            if known is not None:
                self._names(one, known, at)
            yield one, at

    def _names(self, one: Json, known: Collection[str], place: str) -> None:
        for name in one:
            if name.removeprefix("_") not in known:
                self._fault(f"unknown element {name[:64]!r}", place)

    def _fault(self, text: str, place: str) -> None:
        self.issues.append(Issue("invalid", text, place))


def constants_in(tree: Any) -> Iterator[str]:
    """The names behind ``%`` in a syntax tree."""
    if isinstance(tree, Constant):
        yield tree.name
    elif isinstance(tree, tuple):
        for part in tree:
            yield from constants_in(part)
    elif is_dataclass(tree):
        for field in fields(tree):
            yield from constants_in(getattr(tree, field.name))


LONG: Final = 1 << 63
INTEGERS: Final = frozenset({"integer", "positiveInt", "unsignedInt", "integer64"})


def fits(type_: str, value: Any) -> bool:
    """Is a JSON value of the kind that this primitive type has in JSON?"""
    if isinstance(value, bool) or type_ == "boolean":
        return isinstance(value, bool) and type_ == "boolean"
    if type_ in INTEGERS:
        return isinstance(value, int) and -LONG <= value < LONG
    if type_ == "decimal":
        return not isinstance(value, str | dict | list) and value is not None
    return isinstance(value, str)
