"""What FHIR adds: https://hl7.org/fhir/R4/fhirpath.html#functions."""

from __future__ import annotations

from fhir_server.fhirpath.constants import resource_of
from fhir_server.fhirpath.context import Run
from fhir_server.fhirpath.errors import FhirPathError, FhirPathNotSupported
from fhir_server.fhirpath.functions.registry import Kind, function, value_of
from fhir_server.fhirpath.node import Collection, Item, Json, Node, Property, children, root
from fhir_server.fhirpath.syntax import TypeName

_EXTENSION = (Property("extension", "extension", "Extension", "Extension"),)


def extension(run: Run, items: Collection, url: Collection) -> Collection:
    wanted = value_of("extension", Kind.TEXT, url)
    found: list[Node] = []
    for item in items:
        if isinstance(item, Node):
            children(item, _EXTENSION, found)
    run.spend(len(items) + len(found))
    return [node for node in found if (node.fields or {}).get("url") == wanted]


def has_value(run: Run, items: Collection) -> Collection:
    return [len(items) == 1 and _value(items[0]) is not None]


def get_value(run: Run, items: Collection) -> Collection:
    if len(items) != 1 or _value(items[0]) is None:
        return []
    value = items[0].system if isinstance(items[0], Node) else items[0]
    return [] if value is None else [value]


def _value(item: Item) -> Json:
    if isinstance(item, Node):
        return None if isinstance(item.value, dict) else item.value
    return item


def resolve(run: Run, items: Collection) -> Collection:
    """The resources that references name; what cannot be resolved is left out."""
    run.spend(len(items))
    found: Collection = []
    for item in items:
        reference = _reference(item)
        if not reference:
            continue
        if reference.startswith("#"):
            found.extend(_contained(item, reference[1:]))
            continue
        find = run.context.services.resolve
        if find is None:
            raise FhirPathNotSupported("No resolver for resolve() here")
        resource = find(reference)
        if resource is not None:
            found.append(root(resource))
    return found


def _reference(item: Item) -> str | None:
    value = item.value if isinstance(item, Node) else item
    if isinstance(value, dict):
        value = value.get("reference")
    return value if isinstance(value, str) else None


def _contained(item: Item, id_: str) -> Collection:
    """``#id``: in the resource that contains; ``#``: that resource itself."""
    if not isinstance(item, Node):
        return []
    holder = resource_of(item)
    if holder.property.name == "contained" and holder.parent is not None:
        holder = resource_of(holder.parent)
    if not id_:
        return [holder]
    found: list[Node] = []
    children(holder, (Property("contained", "contained"),), found)
    return [node for node in found if (node.fields or {}).get("id") == id_]


def member_of(run: Run, items: Collection, url: Collection) -> Collection:
    if not items:
        return []
    service = run.context.services.member_of
    if service is None:
        raise FhirPathNotSupported("No terminology for memberOf() here")
    answer = service(_coded("memberOf", items), _canonical("memberOf", url))
    return [] if answer is None else [answer]


def subsumes(run: Run, items: Collection, other: Collection) -> Collection:
    if not items or not other:
        return []
    service = run.context.services.subsumes
    if service is None:
        raise FhirPathNotSupported("No terminology for subsumes() here")
    answer = service(_coded("subsumes", items), _coded("subsumes", other))
    return [] if answer is None else [answer]


def subsumed_by(run: Run, items: Collection, other: Collection) -> Collection:
    return subsumes(run, other, items)


def conforms_to(run: Run, items: Collection, url: Collection) -> Collection:
    if not items:
        return []
    service = run.context.services.conforms_to
    if service is None:
        raise FhirPathNotSupported("No profiles for conformsTo() here")
    try:
        return [service(_coded("conformsTo", items), _canonical("conformsTo", url))]
    except FhirPathError:
        raise
    except ValueError as error:
        raise FhirPathError(str(error)) from None


def _coded(name: str, items: Collection) -> Json:
    if len(items) > 1:
        raise FhirPathError(f"{name}() takes one item, not {len(items)}")
    return items[0].value if isinstance(items[0], Node) else items[0]


def _canonical(name: str, url: Collection) -> str:
    value = value_of(name, Kind.TEXT, url)
    if not isinstance(value, str):
        raise FhirPathError(f"{name}() takes a canonical URL")
    return value


def resource_key(run: Run, items: Collection) -> Collection:
    """SQL on FHIR: the primary key of a resource's row, here its id."""
    run.spend(len(items))
    fields = [item.value for item in items if isinstance(item, Node)]
    return [f["id"] for f in fields if isinstance(f, dict) and "resourceType" in f and "id" in f]


def reference_key(run: Run, items: Collection, wanted: TypeName | None = None) -> Collection:
    """SQL on FHIR: the key of the row that a reference leads to, if that is of the type."""
    run.spend(len(items))
    found: Collection = []
    for item in items:
        type_, id_ = _target(_reference(item) or "")
        if id_ and (wanted is None or wanted.name == type_):
            found.append(id_)
    return found


def _target(reference: str) -> tuple[str, str]:
    """(type, id) of a literal reference, relative or absolute; empty for any other."""
    parts = reference.partition("/_history/")[0].split("/")
    if len(parts) < 2 or not parts[-2][:1].isupper():
        return "", ""
    return parts[-2], parts[-1]


FUNCTIONS = (
    function(
        "getResourceKey",
        resource_key,
        doc="The key of a resource's row (SQL on FHIR)",
        example=("{}.getResourceKey()",),
    ),
    function(
        "getReferenceKey",
        reference_key,
        Kind.TYPE,
        doc="The key of the row that a reference leads to (SQL on FHIR)",
        example=("{}.getReferenceKey(Patient)",),
        optional=1,
    ),
    function(
        "extension",
        extension,
        Kind.COLLECTION,
        doc="The extensions with a URL",
        example=("{}.extension('urn:x')",),
    ),
    function(
        "hasValue", has_value, doc="One primitive with a value?", example=("1.hasValue()", True)
    ),
    function(
        "getValue", get_value, doc="The System value of a primitive", example=("1.getValue()", 1)
    ),
    function(
        "resolve", resolve, doc="The resources that references name", example=("{}.resolve()",)
    ),
    function(
        "memberOf",
        member_of,
        Kind.COLLECTION,
        doc="Is the code in the value set?",
        example=("{}.memberOf('urn:x')",),
    ),
    function(
        "subsumes",
        subsumes,
        Kind.COLLECTION,
        doc="Does the code subsume the other?",
        example=("{}.subsumes({})",),
    ),
    function(
        "subsumedBy",
        subsumed_by,
        Kind.COLLECTION,
        doc="Does the other code subsume this?",
        example=("{}.subsumedBy({})",),
    ),
    function(
        "conformsTo",
        conforms_to,
        Kind.COLLECTION,
        doc="Does the element conform to the profile?",
        example=("{}.conformsTo('urn:x')",),
    ),
)
