"""Contained resources: dom-2 to dom-5 and ref-1.

https://hl7.org/fhir/R4/references.html#contained, https://hl7.org/fhir/R4/domainresource.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fhir_server.model.exchange import Json

from .fault import Fault, shown
from .references import LocalReference, wrong_target


@dataclass(frozen=True, slots=True)
class Placed:
    """A fault and where: the index in ``contained`` and an element below it, or ''."""

    index: int
    element: str
    fault: Fault


_OWN_META = (
    ("versionId", "dom-4"),
    ("lastUpdated", "dom-4"),
    ("security", "dom-5"),
)


def contained_faults(resource: Json, local: Iterable[LocalReference]) -> Iterator[Placed]:
    """``local``: the ``#`` references (and URIs) found anywhere in the resource."""
    contained = resource.get("contained", ())
    texts = {reference.text for reference in local}
    back = {reference.origin for reference in local if reference.text == "#"}
    ids: set[str] = set()
    for index, inner in enumerate(contained):
        yield from _one(index, inner, ids)
        if "id" in inner and f"#{inner['id']}" not in texts and index not in back:
            text = "must be referred to from elsewhere in the resource, or refer to it (dom-3)"
            yield Placed(index, "", Fault("invariant", text))


def _one(index: int, inner: Json, ids: set[str]) -> Iterator[Placed]:
    if "contained" in inner:
        fault = Fault("invariant", "must not be in a contained resource (dom-2)")
        yield Placed(index, "contained", fault)
    meta = inner.get("meta", {})
    for element, key in _OWN_META:
        if element in meta or f"_{element}" in meta:
            fault = Fault("invariant", f"must not be in a contained resource ({key})")
            yield Placed(index, f"meta.{element}", fault)
    id_ = inner.get("id")
    if id_ is None:
        yield Placed(index, "", Fault("required", "a contained resource must have an id"))
        return
    if id_ in ids:
        yield Placed(index, "id", Fault("invariant", f"{shown(id_)} is used twice in contained"))
    ids.add(id_)


def local_fault(
    reference: LocalReference, kinds: dict[str, str], conditional: bool
) -> Fault | None:
    """``kinds``: the types of the contained resources by id, the container's own under "".

    ``conditional``: whether ``Type?criteria`` may stand here: only in a Bundle that is
    still to be processed.
    """
    text, targets = reference.text, reference.targets
    if not text.startswith("#"):
        if conditional:
            return None
        return Fault("value", f"{shown(text)}: conditional references belong in transactions")
    kind = kinds.get(text[1:])
    if kind is None:
        if reference.uri:
            return None
        return Fault("invariant", f"{shown(text)} refers to no contained resource (ref-1)")
    if targets is not None and kind not in targets:
        return wrong_target(kind, targets)
    return None


def contained_kinds(resource: Json) -> dict[str, str]:
    """The types of the contained resources by id, the resource's own type under ""."""
    kinds = {"": str(resource["resourceType"])}
    for inner in resource.get("contained", ()):
        if "id" in inner:
            kinds[inner["id"]] = str(inner["resourceType"])
    return kinds
