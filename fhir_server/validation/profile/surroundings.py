"""How references are followed within what is validated.

Contained resources, and the entries of a Bundle by their fullUrl:
https://hl7.org/fhir/R4/bundle.html#references
"""

from __future__ import annotations

from collections.abc import Iterator

from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.fhirpath import Node
from fhir_server.fhirpath.constants import resource_of
from fhir_server.fhirpath.node import children


def below(node: Node, name: str) -> list[Node]:
    """The elements of this name."""
    found: list[Node] = []
    children(node, r4_model().elements(node.property.path).get(name, ()), found)
    return found


class Around:
    """The surroundings of one resource. ``top``: its root."""

    def __init__(self, top: Node) -> None:
        self._entries: dict[str, Node] = {}
        self.type = ""
        if top.type == "Bundle" and isinstance(top.value, dict):
            self.type = str(top.value.get("type", ""))
            for entry in below(top, "entry"):
                self._enter(entry)

    def _enter(self, entry: Node) -> None:
        if not isinstance(entry.value, dict):
            return
        for resource in below(entry, "resource"):
            full = entry.value.get("fullUrl")
            if isinstance(full, str):
                self._entries.setdefault(full, resource)
            if isinstance(resource.value, dict) and isinstance(resource.value.get("id"), str):
                self._entries.setdefault(f"{resource.type}/{resource.value['id']}", resource)

    def resolve(self, text: str, node: Node) -> Node | None:
        if text.startswith("#"):
            return _contained(text[1:], node)
        if not self._entries:
            return None
        bare = text.partition("/_history/")[0].partition("#")[0]
        return self._entries.get(self._near(bare, node)) or self._entries.get(bare)

    def _near(self, text: str, node: Node) -> str:
        """A relative reference is one to the server from which its entry came."""
        while node.parent is not None and node.property.name != "entry":
            node = node.parent
        full = node.value.get("fullUrl") if isinstance(node.value, dict) else None
        if "://" in text or not isinstance(full, str) or "://" not in full:
            return text
        base = full.rsplit("/", 2)[0]
        return f"{base}/{text}"

    def bundled(self, node: Node) -> bool:
        while node.parent is not None:
            node = node.parent
        return node.type == "Bundle"

    @property
    def is_bundle(self) -> bool:
        return bool(self.type)


def _contained(id_: str, node: Node) -> Node | None:
    holder = resource_of(node)
    if holder.property.name == "contained" and holder.parent is not None:
        holder = resource_of(holder.parent)
    if not id_:
        return holder
    for one in below(holder, "contained"):
        if isinstance(one.value, dict) and one.value.get("id") == id_:
            return one
    return None


def resources_of(top: Node) -> Iterator[Node]:
    """The resource and all within it: contained ones, entries of Bundles, parameters."""
    stack = [top]
    while stack:
        node = stack.pop()
        yield node
        found = [*below(node, "contained")]
        if node.type == "Bundle":
            for entry in below(node, "entry"):
                found += below(entry, "resource")
        if node.type == "Parameters":
            for parameter in below(node, "parameter"):
                found += below(parameter, "resource")
        stack += reversed([one for one in found if isinstance(one.value, dict)])
