"""Elements of a resource as FHIRPath sees them, and what must be known of their types.

https://hl7.org/fhir/R4/fhirpath.html#types, https://hl7.org/fhir/R4/json.html#primitive
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from itertools import zip_longest
from typing import Any, Protocol, TypeAlias

from fhir_server.fhirpath.values import Date, DateTime, Quantity, System, Time

Json: TypeAlias = Any
UCUM = "http://unitsofmeasure.org"


@dataclass(frozen=True, slots=True, eq=False)
class Property:
    """One JSON property that holds an element.

    ``name``: of the element (``value``). ``json``: of the property (``valueQuantity``).
    ``type``: its FHIR type, empty when unknown. ``path``: where the type model keeps the
    elements below it (``HumanName``, ``Patient.contact``), empty when unknown.
    ``sibling``: of the property beside it with ids and extensions (``_birthDate``).
    ``open``: the content may say a type of its own (``contained``).
    """

    name: str
    json: str
    type: str = ""
    path: str = ""
    sibling: str = field(init=False)
    open: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sibling", "_" + self.json)
        object.__setattr__(self, "open", self.type in ("", "Resource"))


class TypeModel(Protocol):
    """What the evaluator asks of the FHIR definitions."""

    def elements(self, path: str) -> Mapping[str, tuple[Property, ...]]:
        """The elements below a type path, in order, with the properties each may have.

        An unknown path has none.
        """
        ...

    def is_type(self, name: str) -> bool: ...

    def is_subtype(self, name: str, ancestor: str) -> bool:
        """Whether type ``name`` is ``ancestor`` or derives from it."""
        ...


class Node:
    """An element: its JSON ``value``, the ``_name`` sibling of a primitive, where it is.

    ``value`` is None when the element has only an id or extensions. ``parent`` is None for
    the root. ``index`` is its place in a JSON array, None when it is not in one.
    """

    __slots__ = ("index", "parent", "property", "sibling", "value")

    def __init__(
        self,
        value: Json,
        sibling: dict[str, Json] | None,
        parent: Node | None,
        property: Property,
        index: int | None,
    ) -> None:
        self.value = value
        self.sibling = sibling
        self.parent = parent
        self.property = property
        self.index = index

    @property
    def type(self) -> str:
        """The FHIR type, empty when unknown."""
        return self.property.type

    @property
    def key(self) -> str:
        """The JSON property in ``container`` that holds this element, empty for the root.

        The sibling of a primitive is in ``"_" + key``. With an ``index`` the property holds
        an array, of which this is one item.
        """
        return self.property.json if self.parent else ""

    @property
    def container(self) -> dict[str, Json] | None:
        """The JSON object that holds this element: change or delete it there."""
        return self.parent.fields if self.parent else None

    @property
    def fields(self) -> dict[str, Json] | None:
        """The JSON object with the children, of a primitive its ``_name`` sibling."""
        if isinstance(self.value, dict):
            return self.value
        return self.sibling if isinstance(self.sibling, dict) else None

    @property
    def path(self) -> str:
        """The location as a simple FHIRPath: ``Patient.name[0].family``."""
        if self.parent is None:
            return self.property.type
        step = f"{self.parent.path}.{self.property.name}"
        return step if self.index is None else f"{step}[{self.index}]"

    @property
    def system(self) -> System | Node | None:
        """The System value of a primitive or a Quantity, else the node itself.

        None for a primitive without a value. A text that is not of its type stays text.
        """
        value = self.value
        convert = CONVERTED.get(self.property.type)
        if convert is not None and value is not None:
            try:
                return convert(value)
            except (TypeError, ValueError):
                pass
        if isinstance(value, dict | list) or (value is None and not self.property.type):
            return self
        return value  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<{self.path}: {self.type or 'unknown'}>"


Item: TypeAlias = Node | System
Collection: TypeAlias = list[Item]


def quantity(value: Json) -> Quantity:
    """The System Quantity of a FHIR Quantity. Raises ValueError when it has none.

    https://hl7.org/fhir/R4/fhirpath.html#quantity
    """
    if not isinstance(value, dict) or value.get("comparator") or "value" not in value:
        raise ValueError("No exact quantity")
    number = value["value"]
    if isinstance(number, bool) or not isinstance(number, int | Decimal):
        raise ValueError("No exact quantity")
    unit = value.get("code") if value.get("system") == UCUM else value.get("unit")
    return Quantity(Decimal(number), unit if isinstance(unit, str) else "1")


def as_quantity(value: System | Node) -> Quantity | None:
    """The Quantity of a Quantity, a number or a Quantity element, None of others."""
    if isinstance(value, Quantity):
        return value
    if isinstance(value, Node) and (value.type in QUANTITIES or not value.type):
        try:
            return quantity(value.value)
        except ValueError:
            return None
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return Quantity(Decimal(value))
    return None


def _number(value: Json) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("Not a number")
    return Decimal(value)


# FHIR types whose System value is not the JSON value itself
CONVERTED: dict[str, Callable[[Json], System]] = {
    "date": Date.parse,
    "dateTime": DateTime.parse,
    "instant": DateTime.parse,
    "time": Time.parse,
    "decimal": _number,
}
QUANTITIES = frozenset(
    ("Quantity", "Age", "Count", "Distance", "Duration", "SimpleQuantity", "MoneyQuantity")
)
# https://hl7.org/fhir/R4/datatypes.html#primitive, as the last part of value[x] names them
PRIMITIVES = frozenset(
    (
        "base64Binary", "boolean", "canonical", "code", "date", "dateTime", "decimal", "id",
        "instant", "integer", "markdown", "oid", "positiveInt", "string", "time",
        "unsignedInt", "uri", "url", "uuid", "xhtml",
    )
)  # fmt: skip


@lru_cache(maxsize=512)
def typed(name: str, json: str, type_: str) -> Property:
    """A property whose type is known from the content (resources, choice suffixes)."""
    return Property(name, json, type_, type_)


def root(value: Json, type_: str = "") -> Node:
    """A resource (or an element of type ``type_``) as the root of paths."""
    if not type_ and isinstance(value, dict):
        name = value.get("resourceType")
        type_ = name if isinstance(name, str) else ""
    return Node(value, None, None, typed(type_, type_, type_), None)


def children(parent: Node, properties: tuple[Property, ...], found: list[Any]) -> None:
    """Append the elements that these properties of ``parent`` hold."""
    fields = parent.value
    if type(fields) is not dict:
        fields = parent.fields
        if fields is None:
            return
    for prop in properties:
        value = fields.get(prop.json)
        sibling = fields.get(prop.sibling)
        if sibling is not None:
            found.extend(_with_siblings(parent, prop, value, sibling))
        elif type(value) is list:
            found.extend(
                [
                    Node(v, None, parent, _actual(prop, v) if prop.open else prop, i)
                    for i, v in enumerate(value)
                    if v is not None
                ]
            )
        elif value is not None:
            found.append(
                Node(value, None, parent, _actual(prop, value) if prop.open else prop, None)
            )


def _actual(prop: Property, value: Json) -> Property:
    """The property with the type that the resource in it says."""
    if type(value) is dict:
        name = value.get("resourceType")
        if isinstance(name, str):
            return typed(prop.name, prop.json, name)
    return prop


def _with_siblings(parent: Node, prop: Property, values: Json, siblings: Json) -> Iterator[Node]:
    if not isinstance(values, list) and not isinstance(siblings, list):
        yield Node(values, siblings, parent, prop, None)
        return
    values = values if isinstance(values, list) else []
    siblings = siblings if isinstance(siblings, list) else []
    for i, (value, sibling) in enumerate(zip_longest(values, siblings)):
        if value is not None or sibling is not None:
            yield Node(value, sibling, parent, prop, i)


class Untyped:
    """The names of the JSON alone, for elements without a definition.

    A choice (``value``) is found by the property that starts with it (``valueQuantity``),
    which also names its type: https://hl7.org/fhir/R4/formats.html#choice.
    """

    @staticmethod
    def named(parent: Node, name: str, plain: tuple[Property, ...]) -> tuple[Property, ...]:
        fields = parent.fields
        if fields is None or name in fields or "_" + name in fields:
            return plain
        end = len(name)
        for key in fields:
            bare = key.removeprefix("_")
            if bare.startswith(name) and len(bare) > end and bare[end].isupper():
                return (typed(name, bare, _suffix_type(bare[end:])),)
        return ()

    @staticmethod
    def all(parent: Node) -> list[Property]:
        names = dict.fromkeys(key.removeprefix("_") for key in parent.fields or ())
        return [Property(name, name) for name in names if name != "resourceType"]


def _suffix_type(suffix: str) -> str:
    primitive = suffix[0].lower() + suffix[1:]
    return primitive if primitive in PRIMITIVES else suffix
