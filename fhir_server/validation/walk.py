"""The slow pass: every issue of a resource, with its FHIRPath location.

It walks without recursion, so that depth costs no stack. First the structure, then the rules
of those objects whose structure is sound, then what binds a resource together (contained
resources and local references).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fhir_server.model.exchange import Json
from fhir_server.model.problem import Issue

from .rules.contained import contained_faults, contained_kinds, local_fault
from .rules.fault import Fault, json_type, shown, wrong_type
from .rules.references import LocalReference, References
from .shape import ELEMENT, REFERENCE, RESOURCE, Choice, Shape, Shapes, Slot

_EMPTY_OBJECT = Fault("structure", "must not be an empty object")
_EMPTY_ARRAY = Fault("structure", "must not be an empty array")
_NULL = Fault("structure", "must not be null")
_NULLS = Fault("structure", "null stands only where the other array has a value")
_MISSING = Fault("required", "is required")
_ONLY_ID = Fault("invariant", "must have a value or children besides an id (ele-1)")


@dataclass(slots=True)
class Scope:
    """One resource with the local references found in it, each with its path.

    ``origin``: its index, if it is a contained resource; then the rest is its container's.
    """

    path: str
    resource: Json
    conditional: bool
    local: list[tuple[str, LocalReference]] = field(default_factory=list)
    origin: int | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """An object still to be walked. ``bare``: an id may be all that it has."""

    path: str
    value: Any
    slot: Slot
    scope: Scope
    bare: bool = False


class _Enough(Exception):
    """As many issues as one answer may have."""


class Walk:
    """Collects the issues of one resource.

    ``sound``: tells that an object in its place is valid, so that it need not be walked;
    without it all is walked, with the same result.
    """

    def __init__(
        self,
        shapes: Shapes,
        references: References,
        limit: int,
        sound: Callable[[Slot, Any], bool] | None = None,
    ) -> None:
        self._shapes = shapes
        self._sound = sound
        self._references = references
        self._limit = limit
        self._issues: list[Issue] = []
        self._visits: list[Visit] = []
        self._found: list[Visit] = []
        self._judge: list[tuple[str, Json, Shape, Slot]] = []
        self._refer: list[tuple[str, Json, Slot, Scope]] = []
        self._scopes: list[Scope] = []

    def run(self, resource: Any) -> list[Issue]:
        try:
            self._resource("", resource, None)
            self._walk()
            self._rules()
        except _Enough:
            text = f"more than {self._limit} issues: the rest is not listed"
            self._issues.append(Issue("informational", text, severity="information"))
        return self._issues

    def _walk(self) -> None:
        while True:
            self._visits += reversed(self._found)
            self._found.clear()
            if not self._visits:
                return
            self._visit(self._visits.pop())

    def _add(self, path: str, fault: Fault) -> None:
        where = path or "resource"
        self._issues.append(Issue(fault.code, f"{where}: {fault.text}", path or None))
        if len(self._issues) >= self._limit:
            raise _Enough

    # Structure

    def _resource(self, path: str, value: Any, scope: Scope | None) -> None:
        """A resource, at the top (no scope), inside another, or contained in it."""
        if not isinstance(value, dict):
            self._add(path, _NULL if value is None else wrong_type(value, "object"))
            return
        type_ = value.get("resourceType")
        if type_ is None:
            self._add(path, Fault("required", "must have a resourceType"))
        elif not isinstance(type_, str) or type_ not in self._shapes.resource_types:
            text = f"resourceType {shown(type_)} is no resource type of FHIR R4"
            self._add(path, Fault("structure", text))
        else:
            path = path or type_
            if scope is None or scope.origin is None:
                scope = Scope(path, value, conditional=scope is not None)
                self._scopes.append(scope)
            slot = Slot("", "", False, type_, shape=type_)
            self._found.append(Visit(path, value, slot, scope, bare=True))

    def _visit(self, visit: Visit) -> None:
        path, value = visit.path, visit.value
        if visit.slot.shape == RESOURCE:
            self._resource(path, value, visit.scope)
            return
        if not isinstance(value, dict):
            self._add(path, _NULL if value is None else wrong_type(value, "object"))
            return
        if not value:
            self._add(path, _EMPTY_OBJECT)
            return
        if len(value) == 1 and "id" in value and not visit.bare:
            self._add(path, _ONLY_ID)
        shape = self._shapes.shape(visit.slot.shape)
        for key, item in value.items():
            slot = shape.slots.get(key)
            if slot is not None:
                self._member(visit, slot, item)
            elif key.startswith("_") and key[1:] in shape.slots:
                self._sibling(visit, shape.slots[key[1:]], item)
            else:
                self._unknown(path, key)
        self._present(path, value, shape)
        self._judge.append((path, value, shape, visit.slot))
        if visit.slot.type == REFERENCE:
            self._refer.append((path, value, visit.slot, visit.scope))

    def _unknown(self, path: str, key: str) -> None:
        plain = key.isascii() and key.isalnum()
        fault = Fault("structure", f"has no element {shown(key)} in FHIR R4")
        self._add(path, fault) if not plain else self._issue_at(f"{path}.{key}", path, fault)

    def _issue_at(self, expression: str, subject: str, fault: Fault) -> None:
        self._issues.append(Issue(fault.code, f"{subject}: {fault.text}", expression))
        if len(self._issues) >= self._limit:
            raise _Enough

    def _present(self, path: str, value: Json, shape: Shape) -> None:
        for name in sorted(shape.required):
            if name in value:
                continue
            if not shape.slots[name].sibling or f"_{name}" not in value:
                self._add(f"{path}.{name}", _MISSING)
        for choice in shape.choices:
            self._choice(path, value, choice)

    def _choice(self, path: str, value: Json, choice: Choice) -> None:
        given = sorted({key.lstrip("_") for key in choice.keys & value.keys()})
        if choice.required and not given:
            self._add(f"{path}.{choice.name}", _MISSING)
        elif len(given) > 1:
            text = f"must be only one of {', '.join(given)}"
            self._add(f"{path}.{choice.name}", Fault("structure", text))

    def _member(self, visit: Visit, slot: Slot, item: Any) -> None:
        path = f"{visit.path}.{slot.step}"
        if item is None:
            self._add(path, _NULL)
        elif not slot.many:
            if isinstance(item, list):
                self._add(path, Fault("structure", "must be a single value, not an array"))
            else:
                self._one(path, slot, item, visit.scope)
        elif not isinstance(item, list):
            self._add(path, Fault("structure", f"must be an array, not {json_type(item)}"))
        elif not item:
            self._add(path, _EMPTY_ARRAY)
        else:
            nulls = self._nulls(visit.value, slot, item)
            for index, one in enumerate(item):
                if one is not None:
                    self._one(f"{path}[{index}]", slot, one, visit.scope, index)
                elif index not in nulls:
                    self._add(f"{path}[{index}]", _NULLS if slot.sibling else _NULL)

    def _nulls(self, owner: Json, slot: Slot, item: list[Any]) -> set[int]:
        """The positions where null is right: there ``_name`` has an object, judged by itself."""
        sibling = owner.get(f"_{slot.key}") if slot.sibling else None
        if not isinstance(sibling, list) or len(sibling) != len(item):
            return set()
        return {i for i, beside in enumerate(sibling) if isinstance(beside, dict)}

    def _one(self, path: str, slot: Slot, value: Any, scope: Scope, index: int = 0) -> None:
        if slot.primitive is None:
            if self._sound is not None and self._sound(slot, value):
                return
            self._found.append(Visit(path, value, slot, self._inner(slot, scope, index)))
            return
        fault = slot.primitive(value)
        if fault is not None:
            self._add(path, fault)
        elif slot.uri and value.startswith("#"):
            local = LocalReference(value, uri=True, origin=scope.origin)
            scope.local.append((path, local))

    def _inner(self, slot: Slot, scope: Scope, index: int) -> Scope:
        if slot.key != "contained" or slot.shape != RESOURCE:
            return Scope("", {}, True) if slot.shape == RESOURCE else scope
        return Scope(scope.path, scope.resource, scope.conditional, scope.local, index)

    def _sibling(self, visit: Visit, slot: Slot, item: Any) -> None:
        """``_name``: ids and extensions of primitive values."""
        path = f"{visit.path}.{slot.step}"
        if not slot.sibling:
            text = f"has no element '_{slot.key}': it takes no extensions"
            self._issue_at(path, visit.path, Fault("structure", text))
            return
        plain = visit.value.get(slot.key)
        if not slot.many:
            self._beside(path, item, plain, visit.scope)
        elif not isinstance(item, list):
            text = f"_{slot.key} must be an array, not {json_type(item)}"
            self._add(path, Fault("structure", text))
        elif not item:
            self._add(path, _EMPTY_ARRAY)
        elif isinstance(plain, list) and len(plain) != len(item):
            text = f"_{slot.key} and {slot.key} must have the same length"
            self._add(path, Fault("structure", text))
        else:
            values = plain if isinstance(plain, list) else [None] * len(item)
            for index, one in enumerate(item):
                if one is not None:
                    self._beside(f"{path}[{index}]", one, values[index], visit.scope)
                elif plain is None:
                    self._add(f"{path}[{index}]", _NULLS)

    def _beside(self, path: str, element: Any, plain: Any, scope: Scope) -> None:
        if element is None:
            self._add(path, _NULL)
            return
        if isinstance(element, dict) and element and plain is None and "extension" not in element:
            self._add(path, _ONLY_ID)
        slot = Slot("", "", False, ELEMENT, shape=ELEMENT)
        self._found.append(Visit(path, element, slot, scope, bare=True))

    # Rules

    def _rules(self) -> None:
        broken = _at_or_above(self._issues)
        for path, value, shape, slot in self._judge:
            if path not in broken:
                for fault in _faults(value, shape, slot):
                    self._add(path, fault)
        for path, value, slot, scope in self._refer:
            if path not in broken:
                self._reference(path, value, slot, scope)
        for scope in self._scopes:
            if scope.path not in broken:
                self._surroundings(scope)

    def _reference(self, path: str, value: Json, slot: Slot, scope: Scope) -> None:
        local: list[LocalReference] = []
        if "reference" in value:
            path = f"{path}.reference"
        fault = self._references.fault(value, slot.targets, local)
        if fault is not None:
            self._add(path, fault)
        scope.local += ((path, one._replace(origin=scope.origin)) for one in local)

    def _surroundings(self, scope: Scope) -> None:
        if not scope.local and "contained" not in scope.resource:
            return
        for placed in contained_faults(scope.resource, [one for _, one in scope.local]):
            path = f"{scope.path}.contained[{placed.index}]"
            self._add(f"{path}.{placed.element}" if placed.element else path, placed.fault)
        kinds = contained_kinds(scope.resource)
        for path, reference in scope.local:
            fault = local_fault(reference, kinds, scope.conditional)
            if fault is not None:
                self._add(path, fault)


def _faults(value: Json, shape: Shape, slot: Slot) -> Iterator[Fault]:
    for test, fault in shape.invariants + slot.invariants:
        if not test(value):
            yield fault
    for rule in slot.rules:
        found = rule(value)
        if found is not None:
            yield found


def _at_or_above(issues: list[Issue]) -> set[str]:
    """The locations of the issues and all above them."""
    found: set[str] = set()
    for issue in issues:
        path = issue.expression or ""
        while path and path not in found:
            found.add(path)
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return found
