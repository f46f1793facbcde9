"""Bundles: https://hl7.org/fhir/R4/bundle.html#references

What a document refers to by ``urn:`` is in the document, since nobody could find it elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.fhirpath import Node

from .judging import Judging
from .surroundings import Around, below

_INSIDE = frozenset({"document", "message", "transaction", "batch", "collection"})


def judge_bundle(top: Node, around: Around, judging: Judging) -> None:
    """The references of the entries of a Bundle."""
    if around.type not in _INSIDE:
        return
    for entry in below(top, "entry"):
        for resource in below(entry, "resource"):
            for node in references(resource):
                _judge(node, around, judging)


def _judge(node: Node, around: Around, judging: Judging) -> None:
    text = node.value.get("reference") if isinstance(node.value, dict) else None
    if not isinstance(text, str) or text.startswith("#") or "?" in text:
        return
    if around.resolve(text, node) is not None:
        return
    if text.startswith("urn:"):
        said = f"{text[:100]} is no fullUrl of this Bundle"
        judging.add(node, "not-found", said, "reference")
    elif around.type == "document":
        said = f"{text[:100]} is not in the document"
        judging.add(node, "not-found", said, "reference", "warning")


def references(resource: Node) -> Iterator[Node]:
    """Every Reference of a resource, but for those of resources within it."""
    stack = [resource]
    while stack:
        node = stack.pop()
        if not isinstance(node.value, dict):
            continue
        if node.type == "Reference":
            yield node
            continue
        for name in _names(node):
            found = below(node, name)
            stack += [one for one in found if not _is_resource(one)]


def _is_resource(node: Node) -> bool:
    return isinstance(node.value, dict) and "resourceType" in node.value


def _names(node: Node) -> Iterator[str]:
    for name, properties in r4_model().elements(node.property.path).items():
        if any(one.json in node.value for one in properties):
            yield name
