"""What mutants of valid resources are made with: places in them, and other values for those."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.definitions.tree import Branch
from fhir_server.fhirpath import Node
from fhir_server.fhirpath.node import root
from fhir_server.validation.profile.surroundings import below

Json = dict[str, Any]
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Mutant:
    """``at``: where its fault lies; ``exact``: there, else there or below. ``word``: stands in
    the diagnostics."""

    kind: str
    element: str
    resource: Json
    at: str
    severity: str = "error"
    exact: bool = False
    word: str = ""


@dataclass(frozen=True)
class Spot:
    """An item of an element in an example. ``path``: of the JSON. ``slice_``: the nearest slice
    that it is in, with where its list is."""

    path: Path
    expression: str
    type: str
    slice_: tuple[Branch, Json, str, Path] | None = None


CORE = "http://hl7.org/fhir/StructureDefinition/"
SAMPLES: dict[str, Any] = {
    "boolean": True,
    "integer": 1,
    "decimal": 1,
    "positiveInt": 1,
    "unsignedInt": 1,
    "date": "2020-01-01",
    "dateTime": "2020-01-01",
    "instant": "2020-01-01T00:00:00Z",
    "time": "12:00:00",
    "string": "mutant",
    "markdown": "mutant",
    "code": "mutant",
    "id": "mutant",
    "uri": "urn:mutant",
    "canonical": "urn:mutant",
    "url": "urn:mutant",
    "Quantity": {"value": 1},
    "CodeableConcept": {"text": "mutant"},
    "Coding": {"system": "urn:mutant", "code": "mutant"},
    "Period": {"start": "2020"},
    "Range": {"low": {"value": 1}},
    "Ratio": {"numerator": {"value": 1}, "denominator": {"value": 1}},
    "SampledData": {"origin": {"value": 1}, "period": 1, "dimensions": 1, "data": "1"},
    "Timing": {"code": {"text": "mutant"}},
    "Reference": {"display": "mutant"},
    "Identifier": {"value": "mutant"},
    "Annotation": {"text": "mutant"},
    "Age": {"value": 1, "system": "http://unitsofmeasure.org", "code": "a"},
    "Duration": {"value": 1, "system": "http://unitsofmeasure.org", "code": "h"},
    "Extension": {"url": "urn:mutant", "valueString": "mutant"},
    "Attachment": {"title": "mutant"},
    "Address": {"text": "mutant"},
    "ContactPoint": {"value": "mutant"},
    "HumanName": {"text": "mutant"},
}


def got(resource: Json, path: Path) -> Any:
    value: Any = resource
    for step in path:
        value = value[step]
    return value


def node_at(resource: Json, path: Path) -> Node | None:
    node = root(resource)
    for step in path:
        if isinstance(step, int):
            continue
        name = step
        found = below(node, name) or [
            n
            for names in r4_model().elements(node.property.path)
            for n in below(node, names)
            if n.property.json == step
        ]
        index = path[path.index(step) + 1] if path.index(step) + 1 < len(path) else 0
        if not found:
            return None
        node = found[index if isinstance(index, int) else 0]
    return node


def paths_of(value: Any, path: Path) -> Iterator[Path]:
    if not isinstance(value, dict | list):
        return
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        yield (*path, key)
        yield from paths_of(inner, (*path, key))


def without(owner: Any, key: Any) -> bool:
    if isinstance(owner, list) and len(owner) == 1:
        return False
    if key in ("resourceType", "url"):
        return False
    del owner[key]
    return bool(owner)


def garbled(owner: Any, key: Any) -> bool:
    if not isinstance(owner[key], str) or key in ("resourceType", "url", "div"):
        return False
    owner[key] = f"{owner[key]}-0"
    return True


def emptied(owner: Any, key: Any) -> bool:
    if not isinstance(owner[key], str) or key in ("resourceType", "url", "div"):
        return False
    owner[key] = "0"
    return True


def code_of(type_: Json) -> str:
    for one in type_.get("extension", ()):
        if one.get("url") == CORE + "structuredefinition-fhir-type":
            return str(one.get("valueUrl", ""))
    return str(type_.get("code", ""))


def base_types(definitions: Any, path: str) -> set[str]:
    try:
        return {one.code for one in definitions.element(path).types}
    except KeyError:
        return set()


def repeats(definitions: Any, element: Json) -> bool:
    path = element.get("base", {}).get("path") or element["path"]
    try:
        return definitions.element(path).max is None
    except KeyError:
        parent, _, name = path.rpartition(".")
        try:
            found = {one.name: one for one in definitions.children(parent)}
            return found[name.removesuffix("[x]")].max is None
        except KeyError:
            return element.get("base", {}).get("max") == "*"


def stated(element: Json) -> Any:
    for name, value in element.items():
        if name.startswith(("fixed", "pattern")) and name != "fixed":
            return value
    return None


def inner_of(branch: Branch) -> Any:
    """What is fixed below an element, as a pattern."""
    found = {}
    for child in branch.children:
        said = stated(child.element)
        if said is not None and child.element.get("min", 0):
            found[child.step] = said
    return found or None


def has_value(value: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return isinstance(value, dict) and all(
            has_value(value.get(k), v) for k, v in expected.items()
        )
    if isinstance(expected, list):
        return isinstance(value, list) and all(
            any(has_value(v, e) for v in value) for e in expected
        )
    return bool(value == expected)


def leaf_of(expected: Any) -> str | None:
    if isinstance(expected, str):
        return expected
    values = expected.values() if isinstance(expected, dict) else expected
    found = (leaf_of(one) for one in values) if isinstance(expected, dict | list) else ()
    leaves = [one for one in found if one is not None]
    return leaves[-1] if leaves else None


def spoiled_at(value: Any, leaf: str) -> Any:
    if isinstance(value, dict):
        return {k: spoiled_at(v, leaf) for k, v in value.items()}
    if isinstance(value, list):
        return [spoiled_at(v, leaf) for v in value]
    return f"{value}-mutant" if value == leaf else value


def codes_of(value: Any) -> list[tuple[str | None, str]]:
    if isinstance(value, str):
        return [(None, value)]
    if not isinstance(value, dict):
        return []
    codings = value.get("coding", [value])
    return [(c.get("system", ""), c["code"]) for c in codings if "code" in c]


def recoded(value: Any) -> Any:
    if isinstance(value, str):
        return "mutant"
    if "coding" in value:
        return value | {"coding": [recoded(one) for one in value["coding"]]}
    return value | {"code": "mutant"}
