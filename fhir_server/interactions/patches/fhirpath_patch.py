"""FHIRPath Patch: https://hl7.org/fhir/R4/fhirpatch.html

A Parameters resource with one ``operation`` per change: add, insert, delete, replace, move.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.definitions.fhirpath_model import DefinitionsModel
from fhir_server.definitions.registry import Definitions
from fhir_server.fhirpath import Budget, Context, FhirPathError, Node, compile
from fhir_server.formats import json, xml
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Unprocessable

OPERATIONS: Final = 1000
STEPS: Final = 50_000
"""What the paths of one patch may cost together (evaluated on the event loop, about 1.5 us each);
each operation has the same share, but not less than ``LEAST_STEPS``."""
LEAST_STEPS: Final = 1_000


def apply_json(resource: Json, document: bytes, definitions: Definitions) -> Json:
    return apply(resource, json.loads(document), definitions)


def apply_xml(resource: Json, document: bytes, definitions: Definitions) -> Json:
    return apply(resource, xml.loads(document, definitions), definitions)


def apply(resource: Json, parameters: Json, definitions: Definitions) -> Json:
    """BadRequest for a malformed patch, Unprocessable for one that does not fit."""
    if parameters.get("resourceType") != "Parameters":
        raise BadRequest("a FHIRPath Patch is a Parameters resource", code="structure")
    operations = parameters.get("parameter") or []
    if len(operations) > OPERATIONS:
        raise BadRequest(f"more than {OPERATIONS} patch operations", code="too-costly")
    steps = max(STEPS // max(len(operations), 1), LEAST_STEPS)
    patch = _Patch(copy.deepcopy(resource), definitions, steps)
    for index, operation in enumerate(operations):
        patch.operate(_Operation.parse(operation, f"Parameters.parameter[{index}]"))
    return patch.resource


@dataclass(frozen=True, slots=True)
class _Operation:
    """One ``operation`` parameter, its parts by name."""

    location: str
    parts: dict[str, Json]

    @classmethod
    def parse(cls, parameter: Any, location: str) -> _Operation:
        if not isinstance(parameter, dict) or parameter.get("name") != "operation":
            raise BadRequest("every parameter of a patch is an operation", expression=location)
        found = parameter.get("part") or []
        parts = {str(part.get("name")): part for part in found if isinstance(part, dict)}
        return cls(location, parts)

    def text(self, name: str) -> str:
        for key in ("valueString", "valueCode"):
            value = self.parts.get(name, {}).get(key)
            if isinstance(value, str):
                return value
        raise BadRequest(f"the operation needs a part {name!r}", expression=self.location)

    def number(self, name: str) -> int:
        value = self.parts.get(name, {}).get("valueInteger")
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise BadRequest(f"the operation needs an integer {name!r}", expression=self.location)

    def value(self) -> Json:
        if "value" not in self.parts:
            raise BadRequest("the operation needs a part 'value'", expression=self.location)
        return self.parts["value"]

    def misfit(self, why: str) -> Unprocessable:
        return Unprocessable(why, expression=self.location)


class _Patch:
    """The resource while it is being changed."""

    def __init__(self, resource: Json, definitions: Definitions, steps: int) -> None:
        self.resource = resource
        self._definitions = definitions
        self._context = Context(DefinitionsModel(definitions), budget=Budget(steps=steps))

    def operate(self, operation: _Operation) -> None:
        kind = operation.text("type")
        act = _KINDS.get(kind)
        if act is None:
            raise BadRequest(f"unknown patch operation {kind!r}", expression=operation.location)
        act(self, operation)

    def add(self, operation: _Operation) -> None:
        """Append to a repeating element, or set one that is not there yet."""
        target = self._one(operation)
        fields = target.fields
        if fields is None:
            raise operation.misfit("nothing can be added there")
        name = operation.text("name")
        key, value, repeats = self._content(target.property.path, name, operation)
        if repeats:
            values = fields.setdefault(key, [])
            if not isinstance(values, list):
                raise operation.misfit(f"{name} does not repeat")
            values.append(value)
            self._align(fields, key)
        elif key in fields:
            raise operation.misfit(f"{name} is there already")
        else:
            fields[key] = value

    def insert(self, operation: _Operation) -> None:
        container, key, items = self._list(operation)
        index = operation.number("index")
        if not 0 <= index <= len(items):
            raise operation.misfit("the index is outside the list")
        nodes = self._nodes(operation)
        part = operation.value()
        parent = nodes[0].parent
        path = parent.property.path if parent is not None else ""
        items.insert(index, self._value(part, nodes[0].property.path or path, operation)[1])
        if isinstance(siblings := container.get(f"_{key}"), list):
            siblings.insert(index, None)

    def delete(self, operation: _Operation) -> None:
        """Nothing found is no error; several are."""
        nodes = self._nodes(operation)
        if len(nodes) > 1:
            raise operation.misfit("the path finds more than one element")
        if nodes:
            self._remove(nodes[0], operation)

    def replace(self, operation: _Operation) -> None:
        node = self._one(operation)
        container = node.container
        if container is None or node.parent is None:
            raise operation.misfit("the resource itself cannot be replaced")
        part = operation.value()
        type_, value = self._value(part, node.property.path, operation)
        if node.index is not None:
            container[node.key][node.index] = value
            return
        key = self._key(node.parent.property.path, node.property.name, type_, node.key)
        del container[node.key]
        container.pop(f"_{node.key}", None)
        container[key] = value

    def move(self, operation: _Operation) -> None:
        container, key, items = self._list(operation)
        source, destination = operation.number("source"), operation.number("destination")
        if not (0 <= source < len(items) and 0 <= destination < len(items)):
            raise operation.misfit("the index is outside the list")
        for values in (items, container.get(f"_{key}")):
            if isinstance(values, list):
                values.insert(destination, values.pop(source))

    def _nodes(self, operation: _Operation) -> list[Node]:
        text = operation.text("path")
        try:
            return compile(text).locate(self.resource, self._context)
        except (FhirPathError, ValueError) as error:
            raise BadRequest(f"path: {error}", expression=operation.location) from None

    def _one(self, operation: _Operation) -> Node:
        nodes = self._nodes(operation)
        if len(nodes) != 1:
            raise operation.misfit(f"the path finds {len(nodes)} elements, not one")
        return nodes[0]

    def _list(self, operation: _Operation) -> tuple[Json, str, list[Any]]:
        """The JSON array that the path names."""
        nodes = self._nodes(operation)
        container = nodes[0].container if nodes else None
        if container is None or not isinstance(container.get(nodes[0].key), list):
            raise operation.misfit("the path finds no list")
        return container, nodes[0].key, container[nodes[0].key]

    def _remove(self, node: Node, operation: _Operation) -> None:
        container = node.container
        if container is None:
            raise operation.misfit("the resource itself cannot be deleted")
        for key in (node.key, f"_{node.key}"):
            if key not in container:
                continue
            if node.index is None:
                del container[key]
            elif node.index < len(container[key]):
                del container[key][node.index]
                if not container[key]:
                    del container[key]
        # An element without content does not exist, so neither does its parent.
        if not container and node.parent is not None:
            self._remove(node.parent, operation)

    def _content(self, path: str, name: str, operation: _Operation) -> tuple[str, Any, bool]:
        """The member, its value and whether it repeats, for an element added below ``path``."""
        members = self._definitions.members(path) if path else {}
        element = next((e for e, _ in members.values() if e.name == name), None)
        if element is None:
            raise operation.misfit(f"there is no element {name}")
        inline = element.path if element.types == () or element.types[0].code in _INLINE else ""
        type_, value = self._value(operation.value(), inline, operation)
        key = self._key(path, name, type_, name)
        if key not in members:
            raise operation.misfit(f"{name} cannot be a {type_}")
        return key, value, element.max != 1

    def _key(self, path: str, name: str, type_: str, otherwise: str) -> str:
        """``value`` with type Quantity is the member ``valueQuantity``; ``language`` with type
        code is not ``DeviceDefinition.languageCode``, an element of its own.
        """
        members = self._definitions.members(path) if path else {}
        choice = name + type_[:1].upper() + type_[1:]
        found = members.get(choice)
        return choice if type_ and found is not None and found[0].name == name else otherwise

    def _value(self, part: Json, path: str, operation: _Operation) -> tuple[str, Any]:
        """(FHIR type, JSON value); a value given by parts is an anonymous type at ``path``."""
        for key, value in part.items():
            if key.startswith("value") and key != "value":
                suffix = key.removeprefix("value")
                primitive = suffix[0].lower() + suffix[1:]
                known = primitive in self._definitions.types
                return (primitive if known else suffix), copy.deepcopy(value)
        return "", self._anonymous(part.get("part") or [], path, operation)

    def _anonymous(self, parts: list[Any], path: str, operation: _Operation) -> Json:
        made: Json = {}
        members = self._definitions.members(path) if path else {}
        for part in parts:
            name = str(part.get("name"))
            element = next((e for e, _ in members.values() if e.name == name), None)
            if element is None:
                raise operation.misfit(f"there is no element {name}")
            type_, value = self._value(part, element.path, operation)
            key = self._key(path, name, type_, name)
            if element.max == 1:
                made[key] = value
            else:
                made.setdefault(key, []).append(value)
        return made

    def _align(self, fields: Json, key: str) -> None:
        siblings = fields.get(f"_{key}")
        if isinstance(siblings, list):
            siblings.extend([None] * (len(fields[key]) - len(siblings)))


_INLINE: Final = frozenset({"BackboneElement", "Element"})
_KINDS: Final[dict[str, Callable[[_Patch, _Operation], None]]] = {
    "add": _Patch.add,
    "insert": _Patch.insert,
    "delete": _Patch.delete,
    "replace": _Patch.replace,
    "move": _Patch.move,
}
