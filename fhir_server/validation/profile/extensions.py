"""Extensions by their definitions: https://hl7.org/fhir/R4/defining-extensions.html#context

An extension whose definition is known is held against it, wherever it stands; a modifier that
is not known is told, as nobody may ignore it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.definitions.registry import load
from fhir_server.fhirpath import FhirPathError, Node, compile
from fhir_server.fhirpath.node import children
from fhir_server.model.exchange import Json

from .judging import Judging

_MODEL: Final = r4_model()


def judge_extensions(resource: Node, judging: Judging) -> None:
    """All extensions of a resource, but for those of resources within it."""
    for node in extended(resource):
        modifier = node.property.name == "modifierExtension"
        url = node.value.get("url") if isinstance(node.value, dict) else None
        if not isinstance(url, str) or ":" not in url:
            continue
        structure = judging.definitions.structure(url)
        if structure is None:
            if modifier:
                text = f"the modifier extension {url[:200]} is not known here"
                judging.add(node, "extension", text, severity="warning")
            continue
        if structure.get("type") != "Extension":
            judging.add(node, "extension", f"{url[:200]} defines no extension")
            continue
        _modifying(node, judging, structure, modifier=modifier)
        _placed(node, judging, structure)
        check = judging.definitions.profile(url)
        if check is not None:
            judging.run(check, node)


def _modifying(node: Node, judging: Judging, structure: Json, *, modifier: bool) -> None:
    first = structure.get("snapshot", {}).get("element", [{}])[0]
    if bool(first.get("isModifier", False)) != modifier:
        where = "extension" if modifier else "modifierExtension"
        judging.add(node, "extension", f"{structure['url']} belongs in {where}")


def _placed(node: Node, judging: Judging, structure: Json) -> None:
    """Is it where its definition allows it? ``context`` has one row that fits."""
    contexts = structure.get("context", ())
    parent = node.parent
    if not contexts or parent is None or any(_fits(one, parent, judging) for one in contexts):
        return
    allowed = ", ".join(str(one.get("expression")) for one in contexts)
    judging.add(node, "extension", f"{structure['url']} is only for {allowed}")


def _fits(context: Json, parent: Node, judging: Judging) -> bool:
    kind, expression = context.get("type"), str(context.get("expression", ""))
    if kind == "extension":
        return parent.type == "Extension" and parent.value.get("url") == expression
    if kind == "fhirpath":
        return _found(expression, parent, judging)
    return _is_element(expression, parent)


def _is_element(expression: str, parent: Node) -> bool:
    """``Patient``, ``Patient.contact``, ``HumanName``, ``Element``, ``Resource``, ``Any``."""
    if expression in ("Element", "Any", "*"):
        return True
    if _MODEL.is_type(expression):
        return parent.type == expression or _MODEL.is_subtype(parent.type, expression)
    return any(one == expression.replace("[x]", "") for one in _paths(parent))


def _paths(node: Node) -> Iterator[str]:
    """The names of an element: from its resource, and from each datatype above it."""
    steps: list[str] = []
    one: Node | None = node
    while one is not None:
        if one.type and steps:
            yield ".".join([one.type, *steps])
            for ancestor in ("DomainResource", "Resource"):
                if _MODEL.is_subtype(one.type, ancestor):
                    yield ".".join([ancestor, *steps])
        if "." in one.property.path:
            yield ".".join([_content(one.property.path).replace("[x]", ""), *steps])
        steps.insert(0, one.property.name)
        if isinstance(one.value, dict) and "resourceType" in one.value:
            return
        one = one.parent


def _content(path: str) -> str:
    """Where the definitions have the content of an element that repeats another's."""
    return load().element(path).content_reference or path


def _found(expression: str, parent: Node, judging: Judging) -> bool:
    top = parent
    while top.parent is not None and not (
        isinstance(top.value, dict) and "resourceType" in top.value
    ):
        top = top.parent
    try:
        found: list[Any] = compile(expression).items(top, judging.context)
    except FhirPathError:
        return True
    return any(isinstance(one, Node) and one.value is parent.value for one in found)


def extended(resource: Node) -> Iterator[Node]:
    """The extensions of a resource, its elements and its primitives; not within extensions."""
    stack = [resource]
    while stack:
        node = stack.pop()
        fields = node.fields
        if fields is None:
            continue
        for properties in _properties(node.property.path, tuple(fields)):
            found: list[Node] = []
            children(node, properties, found)
            for one in found:
                if one.property.type == "Extension":
                    yield one
                elif one.sibling is not None or (
                    isinstance(one.value, dict) and "resourceType" not in one.value
                ):
                    stack.append(one)


@lru_cache(maxsize=4096)
def _properties(path: str, keys: tuple[str, ...]) -> tuple[Any, ...]:
    """Those of the elements that an object with these members may have something below."""
    names = {key.removeprefix("_") for key in keys}
    beside = {key.removeprefix("_") for key in keys if key.startswith("_")}
    found = []
    for properties in _MODEL.elements(path).values():
        for one in properties:
            primitive = one.type[:1].islower()
            if one.json in (beside if primitive else names):
                found.append((one,))
    return tuple(found)
