"""Mechanical mutants of a valid resource, made from the definitions alone.

Each is the resource with one fault, the FHIRPath location where an issue must be reported,
and the issue's code. Made in place and taken back, one after another.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fhir_server.definitions.elements import Element, TypeRef
from fhir_server.definitions.registry import Definitions

Json = dict[str, Any]
_GONE = object()


@dataclass(frozen=True)
class Place:
    """A member of an object: where it is and what the definitions say of it."""

    owner: Json
    owner_path: str
    key: str
    path: str
    element: Element
    type: TypeRef

    @property
    def first(self) -> str:
        """The location of the value, or of the first one."""
        return f"{self.path}[0]" if self.element.max is None else self.path

    def one(self, value: Any) -> Any:
        return [value] if self.element.max is None else value


def places(definitions: Definitions, resource: Json) -> Iterator[Place]:
    """Every member of every object, contained and nested resources too."""
    type_ = str(resource["resourceType"])
    waiting: list[tuple[Json, str, str]] = [(resource, type_, type_)]
    while waiting:
        owner, path, shape = waiting.pop()
        members = definitions.members(shape)
        for key, value in owner.items():
            if key not in members:
                continue
            element, ref = members[key]
            step = f"{key[: len(element.name)]}.ofType({ref.code})" if element.choice else key
            yield Place(owner, path, key, f"{path}.{step}", element, ref)
            for index, item in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(item, dict):
                    at = f"{path}.{step}[{index}]" if isinstance(value, list) else f"{path}.{step}"
                    waiting.append((item, at, below(element, ref, item)))


def below(element: Element, ref: TypeRef, value: Json) -> str:
    """The path of the definitions that describes an object's members."""
    if ref.code == "Resource":
        return str(value.get("resourceType"))
    if element.content_reference:
        return element.content_reference
    return element.path if ref.code in ("BackboneElement", "Element") else ref.code


@dataclass(frozen=True)
class Mutant:
    kind: str
    expression: str
    code: str


Change = tuple[str, Any, str, str]
"""The key to set, its value (or none), the expected expression and code."""


def _remove(p: Place) -> Change | None:
    if not p.element.min or f"_{p.key}" in p.owner:
        return None
    return p.key, _GONE, f"{p.owner_path}.{p.element.name}", "required"


def _to_array(p: Place) -> Change | None:
    return None if p.element.max is None else (p.key, [p.owner[p.key]] * 2, p.path, "structure")


def _to_single(p: Place) -> Change | None:
    return (p.key, p.owner[p.key][0], p.path, "structure") if p.element.max is None else None


def _wrong_type(p: Place) -> Change | None:
    value = p.owner[p.key]
    sample = value[0] if isinstance(value, list) else value
    wrong: Any = "x" if isinstance(sample, dict | bool) else {"x": "x"}
    return p.key, p.one(wrong), p.first, "structure"


def _unknown(p: Place) -> Change | None:
    return "zzz", "x", f"{p.owner_path}.zzz", "structure"


def _bad_code(definitions: Definitions) -> Callable[[Place], Change | None]:
    def change(p: Place) -> Change | None:
        binding = p.element.binding
        if binding is None or binding.strength != "required":
            return None
        if definitions.value_set_codes(binding.value_set) is None:
            return None
        if p.type.code == "code":
            return p.key, p.one("no-such-code"), p.first, "code-invalid"
        return p.key, p.one({"coding": [{"code": "no-such-code"}]}), p.first, "code-invalid"

    return change


def _empty_object(p: Place) -> Change | None:
    code = "required" if p.type.code == "Resource" else "structure"
    return p.key, p.one({}), p.first, code


def _null(p: Place) -> Change | None:
    return p.key, p.one(None), p.first, "structure"


def _empty_array(p: Place) -> Change | None:
    return p.key, [], p.path, "structure"


def _empty_string(p: Place) -> Change | None:
    value = p.owner[p.key]
    sample = value[0] if isinstance(value, list) else value
    return (p.key, p.one(""), p.first, "value") if isinstance(sample, str) else None


def mutants(definitions: Definitions, resource: Json, each: int, seed: int = 0) -> Iterator[Mutant]:
    """Up to ``each`` mutants of every kind; the resource is mutated while one is out."""
    changes: dict[str, Callable[[Place], Change | None]] = {
        "remove": _remove,
        "to array": _to_array,
        "to single": _to_single,
        "wrong type": _wrong_type,
        "unknown": _unknown,
        "bad code": _bad_code(definitions),
        "empty object": _empty_object,
        "null": _null,
        "empty array": _empty_array,
        "empty string": _empty_string,
    }
    found = list(places(definitions, resource))
    chooser = random.Random(seed)
    for kind, make in changes.items():
        possible = [(p, change) for p in found if (change := make(p)) is not None]
        for p, (key, value, expression, code) in chooser.sample(possible, min(each, len(possible))):
            before = dict(p.owner)
            if value is _GONE:
                del p.owner[key]
            else:
                p.owner[key] = value
            if p.owner:
                yield Mutant(kind, expression, code)
            p.owner.clear()
            p.owner.update(before)
