"""From the resources of a package to the records of the artefact.

Only what the server uses at run time is kept: no narratives, definitions or mappings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from fhir_server.definitions.compartments import compile_compartment
from fhir_server.definitions.elements import (
    Binding,
    Component,
    Constraint,
    Element,
    OperationDefinition,
    OperationParameter,
    Package,
    SearchParameter,
    TypeDefinition,
    TypeRef,
)
from fhir_server.definitions.errata import ERRATA, Erratum
from fhir_server.model.exchange import Json

_STRUCTURE = "http://hl7.org/fhir/StructureDefinition/"
_FHIR_TYPE = _STRUCTURE + "structuredefinition-fhir-type"
_REGEX = _STRUCTURE + "regex"
_STANDARDS_STATUS = _STRUCTURE + "structuredefinition-standards-status"
_SYSTEM = "http://hl7.org/fhirpath/System."
_KINDS = frozenset({"resource", "complex-type", "primitive-type"})

ByUrl = Mapping[str, Json]


class Corrections:
    """The errata of one kind, and which of them were used."""

    def __init__(self, kind: str, errata: Iterable[Erratum] = ERRATA) -> None:
        self._rows = {e.subject: e.correction for e in errata if e.kind == kind}
        self._unused = set(self._rows)

    def apply(self, subject: str, published: str) -> str:
        correction = self._rows.get(subject, published)
        if correction != published:
            self._unused.discard(subject)
        return correction

    def check(self) -> None:
        if self._unused:
            raise ValueError(f"errata that change nothing: {sorted(self._unused)}")


def compile_package(name: str, version: str, resources: Iterable[Json]) -> Package:
    """The artefact of these resources. ValueError when an erratum does not apply."""
    found: dict[str, dict[str, Json]] = defaultdict(dict)
    for resource in resources:
        key = str(resource.get("url") or resource.get("id"))
        found[resource["resourceType"]][key] = resource
    types = tuple(_types(found["StructureDefinition"]))
    return Package(
        name=name,
        version=version,
        types=types,
        search_parameters=tuple(_search_parameters(found["SearchParameter"])),
        compartments=dict(
            compile_compartment(c)
            for c in found["CompartmentDefinition"].values()
            if c["id"] != "example"
        ),
        value_sets=_value_sets(types, found["ValueSet"], found["CodeSystem"]),
        code_systems={
            url: system.get("caseSensitive") for url, system in sorted(found["CodeSystem"].items())
        },
        operations=tuple(
            _operation(o) for o in _sorted(found["OperationDefinition"]) if o["id"] != "example"
        ),
    )


def _sorted(found: ByUrl) -> list[Json]:
    return [found[url] for url in sorted(found)]


# Types and elements


def _types(structures: ByUrl) -> Iterator[TypeDefinition]:
    types, constraints = Corrections("type"), Corrections("constraint")
    concrete = {
        s["name"] for s in structures.values() if s["kind"] == "resource" and not s["abstract"]
    }
    for structure in _sorted(structures):
        if structure.get("derivation") == "constraint" or structure["kind"] not in _KINDS:
            continue
        yield _type(structure, concrete, types, constraints)
    types.check()
    constraints.check()


def _type(
    structure: Json, concrete: set[str], types: Corrections, constraints: Corrections
) -> TypeDefinition:
    name, kind = structure["type"], structure["kind"]
    elements: dict[str, Element] = {}
    pattern = None
    for source in structure["snapshot"]["element"]:
        if kind == "primitive-type" and source["path"] == f"{name}.value":
            pattern = _extension(source["type"][0], _REGEX)
            continue
        identity = kind == "resource" and source["path"] == f"{name}.id"
        element = _element(source, structure["url"], concrete, constraints)
        if identity:
            published = element.types[0].code
            corrected = types.apply("Resource.id", published)
            element = replace(element, types=(TypeRef(corrected),))
        elements[element.path] = element
    for path in elements.keys() - {name}:
        elements[path] = _without_constraints(elements[path], elements[name].constraints)
    base = structure.get("baseDefinition")
    parent = base.removeprefix(_STRUCTURE) if base else None
    return TypeDefinition(name, kind, structure["abstract"], parent, elements, pattern)


def _without_constraints(element: Element, inherited: tuple[Constraint, ...]) -> Element:
    """Element and Extension repeat their own invariants on elements of their type."""
    kept = tuple(c for c in element.constraints if c not in inherited)
    return element if kept == element.constraints else replace(element, constraints=kept)


def _element(
    source: Json, structure_url: str, concrete: set[str], constraints: Corrections
) -> Element:
    path: str = source["path"]
    last = path.rpartition(".")[2]
    representation = source.get("representation")
    return Element(
        path=path,
        name=last.removesuffix("[x]"),
        min=source["min"],
        max=None if source["max"] == "*" else int(source["max"]),
        types=tuple(_type_ref(t, concrete) for t in source.get("type", ())),
        choice=last.endswith("[x]"),
        content_reference=source["contentReference"].partition("#")[2]
        if "contentReference" in source
        else None,
        binding=_binding(source.get("binding")),
        summary=source.get("isSummary", False),
        modifier=source.get("isModifier", False),
        representation=representation[0] if representation else None,
        constraints=tuple(
            Constraint(c["key"], c["severity"], c["human"], _expression(c, constraints))
            for c in source.get("constraint", ())
            if c.get("source", structure_url) == structure_url
        ),
    )


def _expression(constraint: Json, corrections: Corrections) -> str:
    return corrections.apply(constraint["key"], constraint["expression"])


def _type_ref(source: Json, concrete: set[str]) -> TypeRef:
    targets = tuple(p.rpartition("/")[2] for p in source.get("targetProfile", ()))
    if not concrete.issuperset(targets):
        targets = ()  # a target Resource: any type
    code = _extension(source, _FHIR_TYPE) or source["code"]
    if code.startswith(_SYSTEM):  # xhtml.id lacks the extension
        code = code.removeprefix(_SYSTEM).lower()
    return TypeRef(code, targets, tuple(source.get("profile", ())))


def _extension(element: Json, url: str) -> Any:
    for extension in element.get("extension", ()):
        if extension["url"] == url:
            return next(v for k, v in extension.items() if k.startswith("value"))
    return None


def _binding(source: Json | None) -> Binding | None:
    if source is None or "valueSet" not in source:
        return None
    return Binding(source["strength"], source["valueSet"].partition("|")[0])


# Terminology


def _value_sets(
    types: tuple[TypeDefinition, ...], value_sets: ByUrl, code_systems: ByUrl
) -> dict[str, dict[str, tuple[str, ...]] | None]:
    """Those that some element requires."""
    required = {
        e.binding.value_set
        for t in types
        for e in t.elements.values()
        if e.binding is not None and e.binding.strength == "required"
    }
    return {url: _expand(value_sets.get(url), code_systems) for url in sorted(required)}


def _expand(value_set: Json | None, code_systems: ByUrl) -> dict[str, tuple[str, ...]] | None:
    """The codes per system; None when the package alone does not tell them."""
    compose = value_set.get("compose") if value_set else None
    if not compose or "exclude" in compose:
        return None
    codes: dict[str, set[str]] = defaultdict(set)
    for include in compose["include"]:
        listed = _included(include, code_systems)
        if listed is None:
            return None
        codes[include["system"]].update(listed)
    return {system: tuple(sorted(found)) for system, found in sorted(codes.items())}


def _included(include: Json, code_systems: ByUrl) -> list[str] | None:
    if "filter" in include or "valueSet" in include:
        return None
    if "concept" in include:
        return [concept["code"] for concept in include["concept"]]
    system = code_systems.get(include["system"])
    if system is None or system["content"] != "complete":
        return None
    return list(_codes(system["concept"]))


def _codes(concepts: Iterable[Json]) -> Iterator[str]:
    for concept in concepts:
        yield concept["code"]
        yield from _codes(concept.get("concept", ()))


# Search parameters and operations


def _search_parameters(found: ByUrl) -> Iterator[SearchParameter]:
    """Those of the specification's own registry.

    Those of extension packs and examples lack the standards status that every official one
    bears; many have no base or no expression, or name extensions that do not exist. Of them
    only ``_filter`` is part of https://hl7.org/fhir/R4/search.html.
    """
    corrections = Corrections("search")
    for source in _sorted(found):
        if source["id"] == "filter" or _extension(source, _STANDARDS_STATUS) is not None:
            yield _search_parameter(source, corrections)
    corrections.check()


def _search_parameter(source: Json, corrections: Corrections) -> SearchParameter:
    expression = source.get("expression")
    return SearchParameter(
        code=source["code"],
        url=source["url"],
        type=source["type"],
        expression=corrections.apply(source["id"], expression) if expression else None,
        bases=tuple(source["base"]),
        targets=tuple(source.get("target", ())),
        components=tuple(
            Component(c["definition"], c["expression"]) for c in source.get("component", ())
        ),
        multiple_or=source.get("multipleOr", True),
        multiple_and=source.get("multipleAnd", True),
        comparators=tuple(source.get("comparator", ())),
        modifiers=tuple(source.get("modifier", ())),
        usage=source.get("xpathUsage", "normal"),
        description=source.get("description", ""),
    )


def _operation(source: Json) -> OperationDefinition:
    return OperationDefinition(
        id=source["id"],
        url=source["url"],
        code=source["code"],
        kind=source["kind"],
        system=source["system"],
        type=source["type"],
        instance=source["instance"],
        affects_state=source.get("affectsState", False),
        resources=tuple(source.get("resource", ())),
        parameters=_operation_parameters(source),
    )


def _operation_parameters(source: Json, member: str = "parameter") -> tuple[Any, ...]:
    return tuple(
        OperationParameter(
            name=p["name"],
            use=p["use"],
            min=p["min"],
            max=None if p["max"] == "*" else int(p["max"]),
            type=p.get("type"),
            targets=tuple(t.rpartition("/")[2] for t in p.get("targetProfile", ())),
            search_type=p.get("searchType"),
            parts=_operation_parameters(p, "part"),
        )
        for p in source.get(member, ())
    )
