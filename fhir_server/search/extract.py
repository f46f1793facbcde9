"""Index values of a resource, by closures compiled from the SearchParameter expressions.

All expressions of a type are merged into one trie of JSON members, so that a resource is walked
once. Extraction does not raise on a structurally valid resource.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from typing import Any, Final, TypeAlias, assert_never

from fhir_server.model.exchange import Json
from fhir_server.search.custom import emit_evaluated
from fhir_server.search.expression import HasExtension, Resolves, Where
from fhir_server.search.match import LISTS
from fhir_server.search.parameters import KINDS, Site
from fhir_server.search.parameters.kind import Emit
from fhir_server.search.parameters.reference import target, type_of
from fhir_server.search.paths import Filter, Hop, Path
from fhir_server.search.schema import SearchSchema, TypeSchema
from fhir_server.search.values import (
    CANONICAL,
    DATE_MAX,
    DATE_MIN,
    ContainedValue,
    GroupValue,
    IndexValues,
    TokenValue,
    UriValue,
)

Extract: TypeAlias = Callable[[Json], IndexValues]
Local: TypeAlias = tuple[str, str, str]

FEW: Final = 3
"""Members that are asked for by name; where there are more, those of the element are looked up."""


@dataclass(slots=True)
class _Node:
    """What happens to one element: emit its values, filter it, go on to its members."""

    emits: list[Emit] = field(default_factory=list)
    members: dict[Hop, _Node] = field(default_factory=dict)
    filtered: dict[Filter, _Node] = field(default_factory=dict)


def compile_extract(
    schema: SearchSchema,
    base: str = "",
    zone: tzinfo = UTC,
    further: Mapping[str, Callable[[Json], Iterable[TokenValue]]] | None = None,
) -> Extract:
    """The extractor of a server; ``base`` and ``zone`` as of Site. ``further``: resource type
    -> tokens of indexes that no search parameter reads.

    It raises KeyError for an unknown ``resourceType``. ``date`` is 0 where the resource has no
    clinical date.
    """
    site = Site(base, zone)
    compiled: dict[str, Extract] = {}
    revision = schema.revision

    def extract(resource: Json) -> IndexValues:
        nonlocal revision
        type_ = resource["resourceType"]
        if revision != schema.revision:
            compiled.clear()
            revision = schema.revision
        of_type = compiled.get(type_)
        if of_type is None:
            more = (further or {}).get(type_)
            of_type = compiled[type_] = _compile_type(schema.of(type_), site, more)
        values = of_type(resource)
        if "contained" in resource:
            values.contained = [contained(one, values.date) for one in resource["contained"]]
        return values

    def contained(resource: Json, date: int) -> ContainedValue:
        found = replace(extract(resource), date=date)
        return ContainedValue(resource["resourceType"], resource.get("id", ""), found)

    return extract


def _compile_type(
    schema: TypeSchema, site: Site, further: Callable[[Json], Iterable[TokenValue]] | None
) -> Extract:
    walk = _compile_node(_trie(schema, site), site.base)
    main_dates = {name: rank for rank, name in enumerate(schema.main_dates)}
    patient, is_patient = frozenset(schema.patient), schema.is_patient
    is_canonical = schema.is_canonical

    def extract(resource: Json) -> IndexValues:
        out = IndexValues()
        walk(resource, out)
        if further is not None:
            out.tokens += further(resource)
        if is_canonical and "url" in resource:
            out.uris.append(UriValue(CANONICAL, resource["url"]))
            if "version" in resource:
                named = f"{resource['url']}|{resource['version']}"
                out.uris.append(UriValue(CANONICAL, named))
        out.date = _main_date(out, main_dates) if main_dates and out.dates else DATE_MIN
        ids = [r.id for r in out.references if r.type == "Patient" and r.param in patient]
        if is_patient and "id" in resource:
            ids.insert(0, resource["id"])
        out.patients = tuple(ids) if len(ids) < 2 else tuple(dict.fromkeys(ids))
        _distinct(out)
        return out

    return extract


def _distinct(out: IndexValues) -> None:
    """The same value often comes twice, for example from two codings."""
    if len(out.tokens) > 1:
        out.tokens = list(dict.fromkeys(out.tokens))
    if len(out.strings) > 1:
        out.strings = list(dict.fromkeys(out.strings))
    if len(out.dates) > 1:
        out.dates = list(dict.fromkeys(out.dates))
    if len(out.references) > 1:
        out.references = list(dict.fromkeys(out.references))
    if len(out.uris) > 1:
        out.uris = list(dict.fromkeys(out.uris))


def _main_date(out: IndexValues, ranks: dict[str, int]) -> int:
    """Start of the earliest value of the most telling parameter; its end if it has no start."""
    best: tuple[int, int] | None = None
    for param, lo, hi in out.dates:
        rank = ranks.get(param)
        if rank is not None:
            moment = lo if lo != DATE_MIN else hi
            if moment != DATE_MAX and (best is None or (rank, moment) < best):
                best = rank, moment
    return best[1] if best is not None else DATE_MIN


def _trie(schema: TypeSchema, site: Site) -> _Node:
    root = _Node()
    for index in schema.indexes:
        if index.expression:
            root.emits.append(emit_evaluated(index.name, index.kind, index.expression, site))
        readers = KINDS[index.kind].readers
        for path in index.paths:
            if path.not_false:
                root.emits.append(_not_false(index.name, path.hops[0].member))
            elif path.parts:
                _node(root, path).emits.append(_group(index.name, path, site))
            else:
                _node(root, path).emits.append(readers[path.type](index.name, site))
    return root


def _group(index: str, composite: Path, site: Site) -> Emit:
    """The values of the components of one element, if it has all of them."""
    root = _Node()
    needed: list[tuple[str, str, frozenset[str]]] = []
    for number, (kind, paths) in enumerate(composite.parts):
        for path in paths:
            _node(root, path).emits.append(KINDS[kind].readers[path.type](str(number), site))
        if paths:
            first = frozenset(path.hops[0].member for path in paths)
            needed.append((LISTS[kind], str(number), first))
    walk = _compile_node(root, site.base)

    def emit(value: Any, out: IndexValues) -> None:
        for _, _, members in needed:
            if members.isdisjoint(value):
                return
        found = IndexValues()
        walk(value, found)
        if found.tokens:
            found.tokens = [v for v in found.tokens if ":" not in v[0]]
        if found.strings:
            found.strings = [v for v in found.strings if ":" not in v[0]]
        for kind, name, _ in needed:
            for one in getattr(found, kind):
                if one.param == name:
                    break
            else:
                return
        out.groups.append(GroupValue(index, found))

    return emit


def _node(root: _Node, path: Path) -> _Node:
    node = root
    for hop in path.hops:
        node = node.members.setdefault(hop._replace(filters=()), _Node())
        for one in hop.filters:
            node = node.filtered.setdefault(one, _Node())
    return node


def _not_false(index: str, member: str) -> Emit:
    """``x.exists() and x != false`` where the choice is one of boolean and something else."""
    stem = member.removesuffix("Boolean").removesuffix("DateTime")

    def emit(resource: Any, out: IndexValues) -> None:
        yes = resource.get(stem + "Boolean") is True or stem + "DateTime" in resource
        token = TokenValue(index, "", "true" if yes else "false")
        if token not in out.tokens:
            out.tokens.append(token)

    return emit


def _compile_node(node: _Node, base: str) -> Emit:
    steps = list(node.emits)
    for one, below in node.filtered.items():
        steps.append(_compile_filter(one, _compile_node(below, base), base))
    if node.members:
        steps.append(_compile_members(node, base))
    if len(steps) == 1:
        return steps[0]

    def run(value: Any, out: IndexValues) -> None:
        for step in steps:
            step(value, out)

    return run


def _compile_members(node: _Node, base: str) -> Emit:
    table: dict[str, Emit] = {}
    for hop, below in node.members.items():
        walk = _compile_hop(hop, _compile_node(below, base))
        before = table.get(hop.member)
        table[hop.member] = walk if before is None else _both(before, walk)
    look_up = table.get
    few = tuple(table.items())

    def some(value: Any, out: IndexValues) -> None:
        for name, walk in few:
            if name in value:
                walk(value[name], out)

    def members(value: Any, out: IndexValues) -> None:
        for name, child in value.items():
            walk = look_up(name)
            if walk is not None:
                walk(child, out)

    return some if len(few) <= FEW else members


def _compile_hop(hop: Hop, walk: Emit) -> Emit:
    if not hop.many:
        return walk

    def each(values: Any, out: IndexValues) -> None:
        for value in values[:1] if hop.first else values:
            if value is not None:
                walk(value, out)

    return each


def _both(first: Emit, second: Emit) -> Emit:
    def run(value: Any, out: IndexValues) -> None:
        first(value, out)
        second(value, out)

    return run


def _compile_filter(one: Filter, walk: Emit, base: str) -> Emit:
    keeps = _keeps(one, base)

    def run(value: Any, out: IndexValues) -> None:
        if keeps(value):
            walk(value, out)

    return run


def _keeps(one: Filter, base: str) -> Callable[[Any], bool]:
    match one:
        case Where(name, wanted):
            return lambda value: bool(value.get(name) == wanted)
        case HasExtension(url):
            return lambda value: any(e.get("url") == url for e in value.get("extension", ()))
        case Resolves(type_):
            return lambda value: type_of(value, base) == type_
        case _:
            assert_never(one)


def local_references(resource: Json, base: str = "") -> Iterator[Local]:
    """(type, id, FHIRPath) of every reference to a resource on this server.

    The entries of a Bundle that is stored as a resource are documents of their own and are
    passed over.
    """
    type_ = resource.get("resourceType", "")
    for path, literal in _literals(resource, type_ == "Bundle"):
        found = target(literal, base)
        if found.type:
            yield found.type, found.id, type_ + _render(path)


_Trail: TypeAlias = tuple[Any, ...]
"""Linked path, the last step first: ``(step, (step before, ...))``."""


def _literals(value: Any, bundle: bool) -> list[tuple[_Trail, str]]:
    found: list[tuple[_Trail, str]] = []
    stack: list[tuple[Any, _Trail]] = [(value, ())]
    while stack:
        node, trail = stack.pop()
        if type(node) is list:
            stack += [
                (node[i], (i, trail))
                for i in range(len(node) - 1, -1, -1)
                if type(node[i]) in (dict, list)
            ]
            continue
        for name, child in reversed(node.items()):
            kind = type(child)
            if kind is dict or kind is list:
                if not (bundle and name == "entry"):
                    stack.append((child, (name, trail)))
            elif name == "reference" and kind is str:
                found.append((trail, child))
    return found


def _render(trail: _Trail) -> str:
    parts: list[str] = []
    while trail:
        step, trail = trail
        parts.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    return "".join(reversed(parts))
