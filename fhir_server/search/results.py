"""Parameters that shape the result: https://hl7.org/fhir/R4/search.html#return

One row each in ``RESULTS``; the CapabilityStatement and the documentation are generated from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Final, Literal

from fhir_server.definitions.registry import Definitions
from fhir_server.model.problem import BadRequest
from fhir_server.search.criteria import Criteria, UnknownParameter, not_supported
from fhir_server.search.parameters import KINDS, Parameter
from fhir_server.search.plan import DEFAULT_SORT, Include, Scan, SortKey

DEFAULT_COUNT: Final = 20
MOST_COUNT: Final = 1000
"""``_count`` beyond this is clamped, unless the server is set otherwise."""
MOST_SORT_KEYS: Final = 8


@dataclass(slots=True)
class Result:
    """What the result parameters of one query have said so far. ``types``: the searched ones."""

    criteria: Criteria
    types: tuple[str, ...]
    most_count: int = MOST_COUNT
    sort: tuple[SortKey, ...] = DEFAULT_SORT
    count: int = DEFAULT_COUNT
    total: Literal["none", "limited", "exact", "estimate"] = "limited"
    summary: str = ""
    elements: tuple[str, ...] = ()
    includes: list[Include] = field(default_factory=list)
    contained: Literal["false", "true", "both"] = "false"
    contained_alone: bool = False
    named_includes: int = 0


@dataclass(frozen=True, slots=True)
class ResultParameter:
    """``apply(result, modifier, value)`` returns the value that was applied.

    ``repeats``: it may be given more than once.
    """

    name: str
    description: str
    example: str
    apply: Callable[[Result, str, str], str]
    modifiers: tuple[str, ...] = ()
    repeats: bool = False


def _count(result: Result, _modifier: str, value: str) -> str:
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise BadRequest(f"_count: {value[:100]!r} is not a number of 0 or more")
    result.count = min(int(value), result.most_count)
    return str(result.count)


def _total(result: Result, _modifier: str, value: str) -> str:
    match value:
        case "none":
            result.total = "none"
        case "estimate":
            result.total = "estimate"
        case "accurate":
            result.total = "exact"
        case _:
            raise BadRequest(f"_total: {value[:100]!r} is not none, estimate or accurate")
    return value


def _summary(result: Result, _modifier: str, value: str) -> str:
    if value not in ("true", "text", "data", "count", "false"):
        raise BadRequest(f"_summary: {value[:100]!r} is none of true, text, data, count, false")
    result.summary = value
    _one_subset(result)
    return value


def _elements(result: Result, _modifier: str, value: str) -> str:
    result.elements = element_names(result.criteria.schema.definitions, result.types, value)
    _one_subset(result)
    return value


def _one_subset(result: Result) -> None:
    if result.elements and result.summary in ("true", "text", "data"):
        raise BadRequest(f"_elements goes with no _summary={result.summary}")


def element_names(definitions: Definitions, types: tuple[str, ...], value: str) -> tuple[str, ...]:
    """The top-level elements of an ``_elements``. BadRequest: one that none of the types has."""
    names = tuple(dict.fromkeys(value.split(",")))
    for name in names:
        owner, _, element = name.rpartition(".")
        if owner and owner not in definitions.resource_types:
            raise BadRequest(f"_elements: {owner[:100]!r} is not a resource type")
        among = (owner,) if owner else types
        if not any(element in _top_level(definitions, type) for type in among):
            raise BadRequest(f"_elements: there is no element {name[:100]!r}")
    return names


@cache
def _top_level(definitions: Definitions, type: str) -> frozenset[str]:
    return frozenset(element.name for element in definitions.children(type))


def _contained(result: Result, _modifier: str, value: str) -> str:
    match value:
        case "false" | "true" | "both":
            result.contained = value
        case _:
            raise BadRequest(f"_contained: {value[:100]!r} is not true, false or both")
    return value


def _contained_type(result: Result, _modifier: str, value: str) -> str:
    if value not in ("container", "contained"):
        raise BadRequest(f"_containedType: {value[:100]!r} is not container or contained")
    result.contained_alone = value == "contained"
    return value


def _sort(result: Result, _modifier: str, value: str) -> str:
    codes = value.split(",")
    if len(codes) > MOST_SORT_KEYS:
        raise BadRequest(f"_sort: more than {MOST_SORT_KEYS} keys", code="too-costly")
    result.sort = tuple(_sort_key(result, code) for code in codes)
    return value


def _sort_key(result: Result, code: str) -> SortKey:
    descending = code.startswith("-")
    name = code.removeprefix("-")
    if name == "_id":
        return SortKey(name, "id", descending)
    if name == "_lastUpdated":
        return SortKey(name, "updated", descending)
    if "." in name or name.startswith("_has:"):
        not_supported(f"_sort: {name[:100]!r}: sorting by a chain is not supported")
    try:
        found = [result.criteria.parameter(type, name) for type in result.types]
    except UnknownParameter as unknown:
        raise BadRequest(f"_sort: {unknown}") from None
    first = found[0]
    if not KINDS[first.kind].sortable:
        not_supported(f"_sort: {name!r} has no order")
    if any(p.kind != first.kind or p.indexes != first.indexes for p in found):
        not_supported(f"_sort: {name!r} differs between the searched types")
    kind = first.kind
    assert kind != "reference" and kind != "composite" and kind != "special"  # not sortable
    single = len(first.indexes) == 1
    if descending and single and all(_is_main(result, type, first.index) for type in result.types):
        return SortKey("_main", "main", descending=True)
    return SortKey(first.index, kind, descending, first.indexes[1:])


def _is_main(result: Result, type: str, index: str) -> bool:
    """Every posting list already lies in this order, resources without the date last."""
    return result.criteria.schema.of(type).main_order == index


def _include(result: Result, modifier: str, value: str) -> str:
    name = "_include"
    if value == "*":
        # What is included may be of any type, and is followed as well if that is asked for.
        every = modifier == "iterate"
        _add_all(result, sorted(result.criteria.schema.types) if every else result.types, modifier)
        return value
    source, code, wanted = _segments(name, value)
    result.criteria.known_type(source, name)
    if code == "*":
        _add_all(result, (source,), modifier)
        return value
    parameter = result.criteria.reference(source, code, name)
    _one_more(result)
    _add(result, source, parameter, _narrow(result, name, parameter, wanted), modifier, False)
    return value


def _add_all(
    result: Result, sources: Iterable[str], modifier: str, *, reverse: bool = False
) -> None:
    """Every reference of these types; ``reverse``: to what is searched, or if it iterates to
    anything."""
    everywhere = not reverse or modifier == "iterate"
    for source in sources:
        indexes = set()
        for parameter in result.criteria.schema.of(source).parameters.values():
            if parameter.leads and not parameter.narrowed and parameter.index not in indexes:
                indexes.add(parameter.index)
                targets = tuple(t for t in parameter.targets if everywhere or t in result.types)
                if targets:
                    _add(result, source, parameter, targets, modifier, reverse)


def _revinclude(result: Result, modifier: str, value: str) -> str:
    name = "_revinclude"
    if value == "*":
        _add_all(result, sorted(result.criteria.schema.types), modifier, reverse=True)
        return value
    source, code, wanted = _segments(name, value)
    result.criteria.known_type(source, name)
    if code == "*":
        _add_all(result, (source,), modifier, reverse=True)
        return value
    parameter = result.criteria.reference(source, code, name)
    targets = _narrow(result, name, parameter, wanted)
    if not modifier:
        targets = tuple(t for t in targets if t in result.types)
        if not targets:
            raise BadRequest(f"{name}: {value[:200]!r} does not refer to what is searched")
    _one_more(result)
    _add(result, source, parameter, targets, modifier, True)
    return value


def _one_more(result: Result) -> None:
    result.named_includes += 1
    most = result.criteria.context.limits.includes
    if result.named_includes > most:
        raise BadRequest(f"more than {most} includes (VEHR_MAX_INCLUDES)", code="too-costly")


def _segments(name: str, value: str) -> tuple[str, str, str]:
    parts = value.split(":")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise BadRequest(f"{name}: {value[:200]!r} is not type:parameter[:target type]")
    return parts[0], parts[1], parts[2] if len(parts) == 3 else ""


def _narrow(result: Result, name: str, parameter: Parameter, wanted: str) -> tuple[str, ...]:
    if not wanted:
        return parameter.targets
    result.criteria.known_type(wanted, name)
    if wanted not in parameter.targets:
        raise BadRequest(f"{name}: {parameter.code!r} does not refer to {wanted}")
    return (wanted,)


def _add(
    result: Result,
    source: str,
    parameter: Parameter,
    targets: tuple[str, ...],
    modifier: str,
    reverse: bool,
) -> None:
    scans = tuple(Scan(target) for target in targets)
    result.includes.append(
        Include(
            Scan(source),
            parameter.index,
            scans,
            reverse,
            modifier == "iterate",
            parameter.canonical,
        )
    )


RESULTS: Final[dict[str, ResultParameter]] = {
    row.name: row
    for row in (
        ResultParameter(
            "_sort", "Order: parameter names, - for descending", "Observation?_sort=-date", _sort
        ),
        ResultParameter("_count", "Matches per page", "Patient?_count=10", _count),
        ResultParameter("_total", "none, estimate or accurate", "Patient?_total=accurate", _total),
        ResultParameter(
            "_summary",
            "true, text, data: parts of the resources; count: only the number of matches",
            "Patient?_summary=true",
            _summary,
        ),
        ResultParameter(
            "_elements",
            "Only these elements, and those that a resource must have",
            "Patient?_elements=name,birthDate",
            _elements,
        ),
        ResultParameter(
            "_contained",
            "false; true: resources that contain what is sought; both",
            "Patient?_contained=both",
            _contained,
        ),
        ResultParameter(
            "_containedType",
            "container, or contained: what is returned for a contained resource",
            "Patient?_contained=true&_containedType=contained",
            _contained_type,
        ),
        ResultParameter(
            "_include",
            "Adds what the matches refer to: type:parameter[:target type], type:* or *",
            "Observation?_include=Observation:subject",
            _include,
            ("iterate",),
            True,
        ),
        ResultParameter(
            "_revinclude",
            "Adds what refers to the matches: type:parameter[:target type], type:* or *",
            "Patient?_revinclude=Observation:subject",
            _revinclude,
            ("iterate",),
            True,
        ),
    )
}
