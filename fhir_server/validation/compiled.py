"""The fast pass: closures that say yes, or stop at the first fault without saying where.

A closure takes the value and the list of local references that its resource collects. What
needs more than one look (nulls in arrays, say) is a ``Doubt``: the slow pass decides. So a
yes is final and a no is not: everything that the fast pass accepts, the slow pass accepts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fhir_server.formats.json import dumps
from fhir_server.model.exchange import Json

from .rules.contained import contained_faults, contained_kinds, local_fault
from .rules.fault import Rule
from .rules.numbers import boolean
from .rules.references import LocalReference, References
from .rules.text import MAX_STRING, string
from .rules.uris import uri
from .shape import BACKBONE, ELEMENT, REFERENCE, RESOURCE, Shape, Shapes, Slot

Local = list[LocalReference]
Check = Callable[[Any, Local], None]
Siblings = Callable[[str, Any, Json, Local], None]

_REPEATING = frozenset({"code", "date", "dateTime", "instant"})
_ALIKE = frozenset({"CodeableConcept", "Coding", "Dosage", "Meta", "Reference"})
"""Types whose values repeat."""
_REMEMBER = 10_000
_REMEMBER_BYTES = 600
_REMEMBER_LENGTH = 200


class Doubt(Exception):
    """Not surely valid."""


class Compiled:
    """Closures by shape, made when first used. Shared by all requests."""

    def __init__(self, shapes: Shapes, references: References) -> None:
        self._shapes = shapes
        self._references = references
        self._objects: dict[str, Check] = {}
        self._places: dict[int, Check] = {}
        self._sibling_check: Check | None = None
        self._seen = _Seen()

    def resource(self, resource: Any, conditional: bool = False) -> None:
        """Accepts a whole resource, or raises Doubt (or RecursionError).

        ``conditional``: whether conditional references may stand in it.
        """
        local: Local = []
        self._typed(resource)(resource, local)
        if local or "contained" in resource:
            _surroundings(resource, local, conditional)

    def sound(self, slot: Slot, value: Any) -> bool:
        """Whether an object is surely valid in its place, whatever its surroundings.

        ``slot``: one of the shapes' own. It has no local references.
        """
        local: Local = []
        try:
            if slot.shape != RESOURCE:
                check = self._places.get(id(slot))
                if check is None:
                    check = self._places[id(slot)] = self._placed(slot)
                check(value, local)
            elif slot.key == "contained":
                self._typed(value)(value, local)
            else:
                self.resource(value, conditional=True)
        except (Doubt, RecursionError):
            return False
        return not local

    def _typed(self, resource: Any) -> Check:
        if type(resource) is not dict:
            raise Doubt
        type_ = resource.get("resourceType")
        if type(type_) is not str or type_ not in self._shapes.resource_types:
            raise Doubt
        return self._object(type_)

    def _object(self, path: str) -> Check:
        found = self._objects.get(path)
        if found is None:
            shape = self._shapes.shape(path)
            found = self._objects[path] = _object(shape, self._slot, self._sibling_of(shape))
        return found

    def _element(self, value: Any, local: Local) -> None:
        """What ``_name`` holds: an id, extensions, or both."""
        if self._sibling_check is None:
            shape = self._shapes.shape(ELEMENT)
            self._sibling_check = _object(shape, self._slot, self._sibling_of(shape), True)
        self._sibling_check(value, local)

    def _slot(self, slot: Slot) -> Check:
        if slot.primitive is not None:
            check = _primitive(slot, slot.primitive)
        elif slot.shape == RESOURCE:
            return self._contained if slot.key == "contained" else self._nested
        else:
            check = self._placed(slot)
        check = _many(check) if slot.many else check
        alike = slot.type in _ALIKE or (slot.type == BACKBONE and self._is_last(slot))
        return _repeated(check, self._seen) if alike else check

    def _is_last(self, slot: Slot) -> bool:
        """Is there no object of the resource's own below it?"""
        below = self._shapes.shape(slot.shape).slots.values()
        return all(one.type != BACKBONE and one.shape != RESOURCE for one in below)

    def _placed(self, slot: Slot) -> Check:
        """An object, with the rules that its place adds."""
        check = self._object(slot.shape)
        if slot.type == REFERENCE:
            check = _reference(check, slot.targets, self._references)
        return _with_rules(check, slot) if slot.rules or slot.invariants else check

    def _nested(self, value: Any, _: Local) -> None:
        """A resource of its own: Bundle.entry.resource, Parameters.parameter.resource."""
        self.resource(value, conditional=True)

    def _contained(self, value: Any, local: Local) -> None:
        if type(value) is not list or not value:
            raise Doubt
        for index, resource in enumerate(value):
            inner: Local = []
            self._typed(resource)(resource, inner)
            local.extend(reference._replace(origin=index) for reference in inner)

    def _sibling_of(self, shape: Shape) -> Siblings:
        """Checks ``_name`` against ``name``."""
        slots = shape.slots
        element = self._element

        def check(key: str, value: Any, owner: Json, local: Local) -> None:
            slot = slots.get(key[1:])
            if slot is None or not slot.sibling:
                raise Doubt
            plain = owner.get(slot.key)
            if not slot.many:
                element(value, local)
                if plain is None and "extension" not in value:
                    raise Doubt
                return
            if type(value) is not list or not value:
                raise Doubt
            if plain is not None and (type(plain) is not list or len(plain) != len(value)):
                raise Doubt
            for item in value:
                if item is not None:
                    element(item, local)
                if plain is None and (item is None or "extension" not in item):
                    raise Doubt

        return check


def _object(
    shape: Shape,
    compile_slot: Callable[[Slot], Check],
    sibling: Siblings,
    only_id: bool = False,
) -> Check:
    """``only_id``: whether an id may be all that it has (ele-1 forbids it for elements)."""
    slots = shape.slots
    table: dict[str, Check] = {}
    get = table.get
    required = tuple(sorted(shape.required))
    choices = tuple((choice.keys.intersection, choice.required) for choice in shape.choices)
    tests = tuple(one.test for one in shape.invariants)
    may_be_bare = only_id or shape.resource

    def grow(key: str) -> Check:
        slot = slots.get(key)
        if slot is None:
            raise Doubt
        table[key] = check = compile_slot(slot)
        return check

    def check(value: Any, local: Local) -> None:
        if type(value) is not dict or not value:
            raise Doubt
        for key, item in value.items():
            known = get(key)
            if known is None:
                if key[:1] == "_":
                    sibling(key, item, value, local)
                    continue
                known = grow(key)
            known(item, local)
        for name in required:
            if name not in value and f"_{name}" not in value:
                raise Doubt
        for among, needed in choices:
            given = among(value)
            if len(given) != 1 and (needed or given):
                _one_choice(given)
        for test in tests:
            if not test(value):
                raise Doubt
        if len(value) == 1 and "id" in value and not may_be_bare:
            raise Doubt

    return check


def _one_choice(given: frozenset[str]) -> None:
    """None of a required choice, or two: ``value`` and ``_value`` of one type are the same."""
    if len({key.lstrip("_") for key in given}) != 1:
        raise Doubt


def _many(one: Check) -> Check:
    def check(value: Any, local: Local) -> None:
        if type(value) is not list or not value:
            raise Doubt
        for item in value:
            one(item, local)

    return check


class _Seen:
    """What was judged to be valid, as it is written. All places share the room for it."""

    def __init__(self) -> None:
        self._places: list[set[bytes]] = []
        self._count = 0

    def place(self) -> set[bytes]:
        self._places.append(set())
        return self._places[-1]

    def add(self, place: set[bytes], written: bytes) -> None:
        if self._count >= _REMEMBER:
            self._count = 0
            for one in self._places:
                one.clear()
        self._count += 1
        place.add(written)


def _repeated(check: Check, seen: _Seen) -> Check:
    """Judges what repeats once, but for what its surroundings must judge."""
    good = seen.place()

    def checked(value: Any, local: Local) -> None:
        try:
            written = dumps(value)
        except (ValueError, TypeError):  # what no JSON can say
            check(value, local)
            return
        if written in good:
            return
        known = len(local)
        check(value, local)
        if len(local) == known and len(written) <= _REMEMBER_BYTES:
            seen.add(good, written)

    return checked


def _with_rules(check: Check, slot: Slot) -> Check:
    """The rules that a place adds. An extension's url is the one that is everywhere."""
    rules = slot.rules
    tests = tuple(one.test for one in slot.invariants)
    only = rules[0] if len(rules) == 1 and not tests else None

    def checked_once(value: Any, local: Local) -> None:
        check(value, local)
        if only is not None and only(value) is not None:
            raise Doubt

    def checked(value: Any, local: Local) -> None:
        check(value, local)
        for rule in rules:
            if rule(value) is not None:
                raise Doubt
        for test in tests:
            if not test(value):
                raise Doubt

    return checked if only is None else checked_once


def _reference(check: Check, targets: frozenset[str] | None, references: References) -> Check:
    fault = references.fault

    def checked(value: Any, local: Local) -> None:
        check(value, local)
        if fault(value, targets, local) is not None:
            raise Doubt

    return checked


def _surroundings(resource: Json, local: Local, conditional: bool) -> None:
    for _ in contained_faults(resource, local):
        raise Doubt
    kinds = contained_kinds(resource)
    for reference in local:
        if local_fault(reference, kinds, conditional) is not None:
            raise Doubt


def _primitive(slot: Slot, rule: Rule) -> Check:
    if rule is string:
        return _string
    if rule is boolean:
        return _boolean
    if slot.codes is not None:
        return _one_of(slot.codes)
    if rule is uri or slot.type in _REPEATING:
        return _remembered(rule, slot.uri)

    def check(value: Any, _: Local) -> None:
        if rule(value) is not None:
            raise Doubt

    return check


def _string(value: Any, _: Local) -> None:
    if type(value) is str and value[:1] > " " and value.isprintable() and len(value) <= MAX_STRING:
        return
    if string(value) is not None:
        raise Doubt


def _boolean(value: Any, _: Local) -> None:
    if value is not True and value is not False:
        raise Doubt


def _one_of(codes: frozenset[str]) -> Check:
    def check(value: Any, _: Local) -> None:
        if type(value) is not str or value not in codes:
            raise Doubt

    return check


def _remembered(rule: Rule, is_uri: bool) -> Check:
    """Values that repeat are judged once. ``#id`` as a URI is noted each time."""
    good: set[str] = set()

    def check(value: Any, local: Local) -> None:
        if type(value) is str and value in good:
            return
        if rule(value) is not None:
            raise Doubt
        if is_uri and value[0] == "#":
            local.append(LocalReference(value, uri=True))
        elif len(value) <= _REMEMBER_LENGTH:
            if len(good) >= _REMEMBER:
                good.clear()
            good.add(value)

    return check
