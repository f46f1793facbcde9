"""Types: http://hl7.org/fhirpath/N1/#types, https://hl7.org/fhir/R4/fhirpath.html#types."""

from __future__ import annotations

from fhir_server.fhirpath.context import Run
from fhir_server.fhirpath.errors import FhirPathError, FhirPathNotSupported
from fhir_server.fhirpath.functions.registry import Kind, function
from fhir_server.fhirpath.node import PRIMITIVES, Collection, Item, Node, Property
from fhir_server.fhirpath.syntax import TypeName
from fhir_server.fhirpath.values import type_name

SYSTEM_TYPES = frozenset(
    ("Any", "Boolean", "String", "Integer", "Decimal", "Date", "DateTime", "Time", "Quantity")
)
_TYPE_INFO = Property("", "", "")


def is_type(run: Run, items: Collection, wanted: TypeName) -> Collection:
    """``is``: one item, of the type or of one derived from it."""
    check(run, wanted)
    if not items:
        return []
    if len(items) > 1:
        raise FhirPathError("is takes one item")
    return [_is(run, items[0], wanted, derived=True)]


def as_type(run: Run, items: Collection, wanted: TypeName) -> Collection:
    """The items of the type; a FHIR primitive is not of the type that it derives from."""
    check(run, wanted)
    return [item for item in items if _is(run, item, wanted, derived=wanted.name not in PRIMITIVES)]


def of_type(run: Run, items: Collection, wanted: TypeName) -> Collection:
    run.spend(len(items))
    return as_type(run, items, wanted)


def as_one(run: Run, items: Collection, wanted: TypeName) -> Collection:
    if len(items) > 1:
        raise FhirPathError("as() takes one item; ofType() takes many")
    return as_type(run, items, wanted)


def type_(run: Run, items: Collection) -> Collection:
    run.spend(len(items))
    return [_type_info(item) for item in items]


def check(run: Run, wanted: TypeName) -> None:
    """Raises FhirPathError when no such type is known."""
    if wanted.namespace not in (None, "FHIR", "System"):
        raise FhirPathError(f"Unknown type {wanted}")
    if wanted.namespace == "System" or (wanted.namespace is None and wanted.name in SYSTEM_TYPES):
        return
    if run.model is not None and not run.model.is_type(wanted.name):
        raise FhirPathError(f"Unknown type {wanted}")


def _is(run: Run, item: Item, wanted: TypeName, *, derived: bool) -> bool:
    if not isinstance(item, Node):
        return wanted.namespace != "FHIR" and wanted.name in ("Any", type_name(item))
    if wanted.namespace == "System":
        return False
    if item.type == wanted.name:
        return True
    if not item.type:
        raise FhirPathNotSupported(f"The type of {item.path} is not known without definitions")
    if not derived:
        return False
    return run.model is not None and run.model.is_subtype(item.type, wanted.name)


def _type_info(item: Item) -> Node:
    if isinstance(item, Node):
        if not item.type:
            raise FhirPathNotSupported(f"The type of {item.path} is not known without definitions")
        info = {"namespace": "FHIR", "name": item.type}
    else:
        info = {"namespace": "System", "name": type_name(item)}
    return Node(info, None, None, _TYPE_INFO, None)


FUNCTIONS = (
    function(
        "is", is_type, Kind.TYPE, doc="Is the item of the type?", example=("1.is(Integer)", True)
    ),
    function(
        "as", as_one, Kind.TYPE, doc="The item if it is of the type", example=("1.as(String)",)
    ),
    function("type", type_, doc="The type of each item", example=("1.type().name", "Integer")),
)
