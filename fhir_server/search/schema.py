"""What can be searched: the parameters of each type, their indexes, and how to read values.

Computed from the SearchParameter definitions (https://hl7.org/fhir/R4/searchparameter.html).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Final, cast

from fhir_server.definitions.elements import SearchParameter
from fhir_server.definitions.registry import Definitions
from fhir_server.search.expression import Resolves
from fhir_server.search.parameters import Component as Part
from fhir_server.search.parameters import KindName, Parameter
from fhir_server.search.paths import Path, Resolver, components

COLUMNS: Final = ("_id", "_lastUpdated")
"""Parameters that a store holds as columns, not as index values."""
MIME_TYPES: Final = "http://hl7.org/fhir/ValueSet/mimetypes"
SPECIAL_VALUES: Final = "http://terminology.hl7.org/CodeSystem/special-values"

# Clinical dates, the most telling first: the first of these that a resource has is its main date.
MAIN_DATES: Final = (
    "date", "effective-time", "effective", "occurrence", "event-date", "occurrence-period",
    "when-given", "whenhandedover", "whenprepared", "started", "onset-date", "authoredon",
    "authored-on", "authored", "sent", "received", "issued", "recorded-date", "recorded",
    "period", "created", "start", "start-date", "collected", "service-date", "enterdate",
    "datetime", "datewritten", "identified", "timestamp", "execution-period", "access-date",
    "asserted-date",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Index:
    """The values that are stored under one name: of ``paths``, or of an ``expression`` that
    the FHIRPath engine evaluates on the resource."""

    name: str
    kind: str
    paths: tuple[Path, ...]
    expression: str = ""


@dataclass(frozen=True, slots=True)
class TypeSchema:
    """Everything searchable on one resource type.

    ``unsupported``: codes that FHIR defines here and this server refuses. ``main_dates``:
    index names of the most telling date parameter. ``patient``: index names whose references
    to a Patient put the resource into that Patient's compartment. ``is_canonical``: its
    resources are referred to by their url. ``unindexed``: codes of posted parameters that not
    every resource has been indexed for.
    """

    type: str
    parameters: Mapping[str, Parameter]
    indexes: tuple[Index, ...]
    unsupported: frozenset[str]
    main_dates: tuple[str, ...]
    patient: tuple[str, ...]
    is_patient: bool
    is_canonical: bool
    unindexed: frozenset[str] = frozenset()
    main_order: str | None = field(init=False, default=None)
    """The index whose descending order is that of the main date: it has one value."""

    def __post_init__(self) -> None:
        if len(self.main_dates) == 1:
            name = self.main_dates[0]
            if any(_is_single(index) for index in self.indexes if index.name == name):
                object.__setattr__(self, "main_order", name)


class SearchSchema:
    """The searchable parameters of every resource type, compiled per type when first used."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self.revision = 0
        """Rises when parameters change: what was compiled before is to be compiled anew."""
        self.of = cache(self._of)
        self.cases: dict[str, bool | None] = {}
        """Whether case matters in the codes of a system, as far as the CodeSystems that are
        stored have been asked; another dict when they change."""

    @cached_property
    def types(self) -> frozenset[str]:
        return self.definitions.resource_types

    def includes(self, type: str) -> tuple[str, ...]:
        """What ``_include`` may say for matches of a type: ``Observation:subject``."""
        return tuple(f"{type}:{p.code}" for p in self.of(type).parameters.values() if p.leads)

    @cached_property
    def revincludes(self) -> Mapping[str, tuple[str, ...]]:
        """What ``_revinclude`` may say, by the type of the matches."""
        found: dict[str, list[str]] = {type: [] for type in sorted(self.types)}
        for source in sorted(self.types):
            for parameter in self.of(source).parameters.values():
                for target in parameter.targets if parameter.leads else ():
                    found[target].append(f"{source}:{parameter.code}")
        return {type: tuple(values) for type, values in found.items()}

    def _of(self, type: str) -> TypeSchema:
        """Raises KeyError for what is not a resource type."""
        if type not in self.types:
            raise KeyError(type)
        resolver = Resolver(self.definitions)
        found: dict[str, tuple[SearchParameter, tuple[Path, ...]]] = {}
        unsupported = set()
        for code, definition in self.definitions.search_parameters(type).items():
            paths = () if code in COLUMNS else tuple(resolver.paths(type, definition))
            if paths or code in COLUMNS:
                found[code] = definition, paths
            else:
                unsupported.add(code)
        parameters, indexes = _named(found, self.definitions)
        return TypeSchema(
            type,
            parameters,
            indexes,
            frozenset(unsupported),
            _main_dates(type, parameters, indexes),
            self._patient(type, parameters),
            type == "Patient",
            type in canonical_types(self.definitions),
        )

    def _patient(self, type: str, parameters: Mapping[str, Parameter]) -> tuple[str, ...]:
        codes = self.definitions.compartment("Patient").get(type, ())
        names = [parameters[c].index for c in codes if c in parameters and c not in COLUMNS]
        return tuple(dict.fromkeys(names))


Found = Mapping[str, tuple[SearchParameter, tuple[Path, ...]]]
_Names = Mapping[tuple[str, frozenset[Path]], str]


def _named(
    found: Found, definitions: Definitions
) -> tuple[dict[str, Parameter], tuple[Index, ...]]:
    """Give each set of values one index.

    Parameters with equal values share one; ``patient`` lives in the wider ``subject``;
    ``combo-code`` is looked for in ``code`` and ``component-code``.
    """
    names: dict[tuple[str, frozenset[Path]], str] = {}
    for code, (definition, paths) in found.items():
        names.setdefault((definition.type, frozenset(paths)), code)
    parameters: dict[str, Parameter] = {}
    for code, (definition, paths) in found.items():
        indexes = _indexes(definition.type, frozenset(paths), names)
        parameters[code] = Parameter(
            code,
            cast(KindName, definition.type),
            indexes,
            targets=targets_of(definition, paths, definitions),
            narrowed=definition.type == "reference"
            and indexes[0] != names[definition.type, frozenset(paths)],
            canonical=bool(paths) and all(p.type != "Reference" for p in paths),
            systems=systems_of(paths, definitions),
            mime=bool(paths) and all(path.binding == MIME_TYPES for path in paths),
            types=frozenset(path.type for path in paths),
            url=definition.url,
            description=definition.description,
        )
    for code, (definition, paths) in found.items():
        if definition.type == "composite":
            parts = _parts(definition, paths, parameters, found, definitions)
            flat = all(not path.hops for path in paths) and all(part.outer for part in parts)
            parameters[code] = replace(parameters[code], components=parts, flat=flat)
    read = [p for p in parameters.values() if not p.flat]
    used = {name for p in read for name in p.indexes} - set(COLUMNS)
    return parameters, tuple(
        Index(code, found[code][0].type, found[code][1]) for code in sorted(used)
    )


def _parts(
    definition: SearchParameter,
    elements: tuple[Path, ...],
    parameters: Mapping[str, Parameter],
    found: Found,
    definitions: Definitions,
) -> tuple[Part, ...]:
    """The components; ``outer`` only where it reads at least what the component reads."""
    parts = []
    for number, component in enumerate(components(definition)):
        own = definitions.search_parameter(component.definition)
        inside = {path for element in elements for path in element.parts[number][1]}
        below = {
            path._replace(hops=(*element.hops, *path.hops))
            for element in elements
            for path in element.parts[number][1]
        }
        covers = own.code in found and below <= set(found[own.code][1])
        inner = _inner(own, number, tuple(inside), definitions) if inside else None
        parts.append(Part(own.code, inner, parameters[own.code] if covers else None))
    return tuple(parts)


def _inner(
    definition: SearchParameter, number: int, paths: tuple[Path, ...], definitions: Definitions
) -> Parameter:
    return Parameter(
        definition.code,
        cast(KindName, definition.type),
        (str(number),),
        targets=targets_of(definition, paths, definitions),
        systems=systems_of(paths, definitions),
        types=frozenset(path.type for path in paths),
    )


def _indexes(kind: str, paths: frozenset[Path], names: _Names) -> tuple[str, ...]:
    own = names[kind, paths]
    if kind == "reference":
        wide = frozenset(_unfiltered(path) for path in paths)
        return (names.get((kind, wide), own),)
    left, parts = paths, []
    smaller = [(some, name) for (of, some), name in names.items() if of == kind and some < paths]
    for some, name in sorted(smaller, key=lambda row: (-len(row[0]), row[1])):
        if some and some <= left:
            left -= some
            parts.append(name)
    return tuple(sorted(parts)) if parts and not left else (own,)


def _unfiltered(path: Path) -> Path:
    """The path without a final ``where(resolve() is T)``."""
    if not path.hops:
        return path
    last = path.hops[-1]
    kept = tuple(f for f in last.filters if not isinstance(f, Resolves))
    return path._replace(hops=(*path.hops[:-1], last._replace(filters=kept)))


def targets_of(
    definition: SearchParameter, paths: tuple[Path, ...], definitions: Definitions
) -> tuple[str, ...]:
    """Target types; what ``resolve() is T`` keeps, else as defined; none stated is any."""
    if definition.type != "reference":
        return ()
    kept = {f.type for p in paths if p.hops for f in p.hops[-1].filters if isinstance(f, Resolves)}
    if kept and all(_unfiltered(p) != p for p in paths):
        return tuple(sorted(kept))
    stated, known = set(definition.targets), definitions.resource_types
    if paths and all(path.type != "Reference" for path in paths):
        known = canonical_types(definitions)
    if not stated or "Resource" in stated:
        return tuple(sorted(known))
    return tuple(sorted(stated & known))


@cache
def canonical_types(definitions: Definitions) -> frozenset[str]:
    """The types with a canonical url: https://hl7.org/fhir/R4/references.html#canonical"""
    wanted = {"url": "uri", "version": "string"}
    return frozenset(
        type_
        for type_ in definitions.resource_types
        if wanted.items()
        <= {name: of.code for name, (_, of) in definitions.members(type_).items()}.items()
    )


def systems_of(paths: tuple[Path, ...], definitions: Definitions) -> frozenset[str]:
    """The code systems of parameters that read nothing but bare codes."""
    systems: set[str] = set()
    for path in paths:
        if path.type == "boolean":
            systems.add(SPECIAL_VALUES)
        elif path.type == "code" and path.binding is not None:
            systems |= set(definitions.value_set_systems(path.binding) or ())
        else:
            return frozenset()
    return frozenset(systems)


def _main_dates(
    type: str, parameters: Mapping[str, Parameter], indexes: Iterable[Index]
) -> tuple[str, ...]:
    """Of one parameter only, so that its order is the order of the posting lists; one that
    has a single value goes before one that may have several."""
    if type == "Patient":
        return ()
    single = {index.name for index in indexes if _is_single(index)}
    ranked = [p for p in MAIN_DATES if p in parameters and parameters[p].kind == "date"]
    ranked.sort(key=lambda p: not single.issuperset(parameters[p].indexes))
    return parameters[ranked[0]].indexes if ranked else ()


def _is_single(index: Index) -> bool:
    return not any(hop.many for path in index.paths for hop in path.hops)
