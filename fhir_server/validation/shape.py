"""The shapes of objects, compiled from the definitions on first use.

A shape is what both passes of the validator walk: for each JSON member how it is checked,
which members must be there, which exclude each other, and the rules of the whole object.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from fhir_server.definitions.elements import Binding, Element, TypeRef
from fhir_server.definitions.registry import Definitions

from .rules.bindings import bound_code, bound_coding, bound_concept
from .rules.extensions import absolute_url
from .rules.fault import Rule
from .rules.invariants import Invariant, invariant
from .rules.primitives import primitive_rules
from .rules.profiles import PROFILES
from .rules.text import element_id
from .rules.uris import uri

RESOURCE = "Resource"
REFERENCE = "Reference"
ELEMENT = "Element"
BACKBONE = "BackboneElement"
_INLINE = frozenset({BACKBONE, ELEMENT})
_BOUND = {"Coding": bound_coding, "Quantity": bound_coding, "CodeableConcept": bound_concept}


@dataclass(frozen=True, slots=True)
class Slot:
    """One JSON member: ``valueQuantity``.

    ``step``: its FHIRPath step. ``primitive``: the rule of a primitive value, else None.
    ``uri``: the value may point into the resource. ``sibling``: ``_name`` may accompany it.
    ``shape``: the path of an object's shape. ``targets``: types that a Reference may have;
    None = any. ``rules``, ``invariants``: what its place adds for each object. ``codes``: all
    that a bound code may be.
    """

    key: str
    step: str
    many: bool
    type: str
    primitive: Rule | None = None
    uri: bool = False
    sibling: bool = False
    shape: str = ""
    targets: frozenset[str] | None = None
    rules: tuple[Rule, ...] = ()
    invariants: tuple[Invariant, ...] = ()
    codes: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The members of ``value[x]``: at most one of ``keys`` (their ``_name`` included)."""

    name: str
    keys: frozenset[str]
    required: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """``path``: of the definitions (``Observation.component``, ``HumanName``)."""

    path: str
    slots: dict[str, Slot]
    required: frozenset[str]
    choices: tuple[Choice, ...]
    invariants: tuple[Invariant, ...]
    resource: bool = False


class Shapes:
    """Every shape of the definitions, made when it is first asked for."""

    def __init__(self, definitions: Definitions) -> None:
        self.resource_types = definitions.resource_types
        self._definitions = definitions
        self._made: dict[str, Shape] = {}
        self._primitives = primitive_rules(definitions.primitive_pattern)

    def shape(self, path: str) -> Shape:
        found = self._made.get(path)
        if found is None:
            found = self._made[path] = self._make(path)
        return found

    def _make(self, path: str) -> Shape:
        members = self._definitions.members(path)
        resource = path in self.resource_types
        slots = {key: self._slot(path, key, *member) for key, member in members.items()}
        if resource:
            slots["resourceType"] = Slot("resourceType", "", False, "", lambda _: None)
        choices: dict[str, set[str]] = {}
        minimum: dict[str, int] = {}
        for key, (element, _) in members.items():
            minimum[element.name] = element.min
            if element.choice:
                choices.setdefault(element.name, set()).update((key, f"_{key}"))
        return Shape(
            path,
            slots,
            frozenset(n for n, least in minimum.items() if least and n not in choices),
            tuple(Choice(n, frozenset(k), minimum[n] > 0) for n, k in choices.items()),
            self._inherited(path),
            resource,
        )

    def _inherited(self, path: str) -> tuple[Invariant, ...]:
        """The invariants of a shape, those of its base types included."""
        head = path.partition(".")[0]
        paths = (path,) if "." in path else self._definitions.ancestors(head)
        return tuple(found for one in paths for found in self._invariants(one))

    def _invariants(
        self, path: str, besides: AbstractSet[str] = frozenset()
    ) -> tuple[Invariant, ...]:
        constraints = self._definitions.element(path).constraints
        found = (invariant(path, one) for one in constraints if one.key not in besides)
        return tuple(one for one in found if one is not None)

    def _slot(self, path: str, key: str, element: Element, type_: TypeRef) -> Slot:
        step = f"{element.name}.ofType({type_.code})" if element.choice else element.name
        slot = Slot(key, step, element.max is None, type_.code)
        primitive = self._primitives.get(type_.code)
        if primitive is not None:
            return self._primitive(slot, primitive, element)
        if type_.code == RESOURCE:
            return replace(slot, shape=RESOURCE)
        if element.content_reference is not None:
            return replace(slot, shape=element.content_reference)
        if type_.code in _INLINE and element.path != type_.code:
            return replace(slot, shape=element.path)
        any_target = type_.code != REFERENCE or not type_.targets or RESOURCE in type_.targets
        return replace(
            slot,
            shape=type_.code,
            targets=None if any_target else frozenset(type_.targets),
            rules=self._placed_rules(path, element, type_),
            invariants=self._placed_invariants(element, type_),
        )

    def _primitive(self, slot: Slot, rule: Rule, element: Element) -> Slot:
        attribute = element.representation == "xmlAttr"
        if attribute and slot.key == "id":
            rule = element_id
        codes = self._codes(element.binding) if slot.type == "code" else None
        if codes is not None and element.binding is not None:
            rule = bound_code(element.binding.value_set, codes)
        return replace(
            slot,
            primitive=rule,
            codes=codes,
            uri=rule is uri and not attribute,
            sibling=not attribute and slot.type not in ("xhtml", "id"),
        )

    def _codes(self, binding: Binding | None) -> frozenset[str] | None:
        if binding is None or binding.strength != "required":
            return None
        return self._definitions.value_set_codes(binding.value_set)

    def _placed_invariants(self, element: Element, type_: TypeRef) -> tuple[Invariant, ...]:
        own = {one.key for one in self._definitions.element(type_.code).constraints}
        return self._invariants(element.path, own)

    def _placed_rules(self, path: str, element: Element, type_: TypeRef) -> tuple[Rule, ...]:
        """Rules of an object that its place adds to those of its type."""
        rules = [PROFILES[url] for url in type_.profiles if url in PROFILES]
        binding = element.binding
        if binding is not None and binding.strength == "required" and type_.code in _BOUND:
            systems = self._definitions.value_set_systems(binding.value_set)
            if systems is not None:
                rules.append(_BOUND[type_.code](binding.value_set, systems))
        if type_.code == "Extension" and path != "Extension":
            rules.append(absolute_url)
        return tuple(rules)
