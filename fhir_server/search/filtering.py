"""What a ``_filter`` means: https://hl7.org/fhir/R4/search_filter.html#ops"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, assert_never

from fhir_server.model.problem import BadRequest
from fhir_server.search.criteria import Criteria, UnknownParameter, not_supported
from fhir_server.search.filter import Compare, Filter, Joined, Negated, Step, parse_filter
from fhir_server.search.parameters import Parameter
from fhir_server.search.parameters.escape import escape
from fhir_server.search.plan import All, Any, Chain, DateIs, Not, Predicate, Scan, StringIs, both
from fhir_server.search.values import fold

_PREFIXES: Final = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")


def compile_filter(criteria: Criteria, type: str, text: str) -> Predicate:
    """Raises BadRequest, for an unknown parameter too."""
    return _compile(criteria, type, parse_filter(text), 0)


def _compile(criteria: Criteria, type: str, filter: Filter, hops: int) -> Predicate:
    criteria.budget.spend("_filter", 1)
    match filter:
        case Joined(every, parts):
            found = tuple(_compile(criteria, type, part, hops) for part in parts)
            return All(found) if every else Any(found)
        case Negated(part):
            return Not(_compile(criteria, type, part, hops))
        case Compare((step,), operator, value, quoted):
            return _leaf(criteria, _parameter(criteria, type, step), operator, value, quoted)
        case Compare((step, *rest), operator, value, quoted):
            return _chain(criteria, type, step, Compare(tuple(rest), operator, value, quoted), hops)
        case _:
            assert_never(filter)  # type: ignore[arg-type]


def _parameter(criteria: Criteria, type: str, step: Step) -> Parameter:
    try:
        return criteria.parameter(type, step.name)
    except UnknownParameter as unknown:
        raise BadRequest(f"_filter: {unknown}") from None


def _chain(criteria: Criteria, type: str, step: Step, rest: Compare, hops: int) -> Predicate:
    """The same resource satisfies what is in brackets and what follows."""
    criteria.check_hops("_filter", hops + 1)
    parameter = criteria.reference(type, step.name, "_filter")
    scans, refused = [], None
    for target in parameter.targets:
        try:
            where = _compile(criteria, target, rest, hops + 1)
            if step.where is not None:
                where = both(_compile(criteria, target, step.where, hops + 1), where)
        except BadRequest as why:
            refused = refused or why
            continue
        scans.append(Scan(target, where))
    if not scans:
        raise refused or BadRequest(f"_filter: {step.name!r} leads nowhere")
    return Chain(parameter.index, tuple(scans), parameter.canonical, tuple(scans))


def _leaf(
    criteria: Criteria, parameter: Parameter, operator: str, value: str, quoted: bool
) -> Predicate:
    if operator == "pr":
        return criteria.present(parameter, "_filter", value)
    compile = _OPERATORS.get((parameter.kind, operator))
    if compile is None:
        not_supported(f"_filter: {operator!r} does not apply to {parameter.code!r}")
    return compile(criteria, parameter, operator, value)


_Compile = Callable[[Criteria, Parameter, str, str], Predicate]


def _compared(criteria: Criteria, parameter: Parameter, operator: str, value: str) -> Predicate:
    if value[:1].isalpha():
        raise BadRequest(f"_filter: {value[:100]!r} is no value of {parameter.code!r}")
    return criteria.one(parameter, "_filter", "", f"{operator}{value}")


def _overlaps(criteria: Criteria, parameter: Parameter, _: str, value: str) -> Predicate:
    found = _compared(criteria, parameter, "eq", value)
    if not isinstance(found, DateIs):
        not_supported(f"_filter: 'po' does not apply to {parameter.code!r}")
    return DateIs(found.param, "ap", found.lo, found.hi)


def _modified(modifier: str) -> _Compile:
    def compile(criteria: Criteria, parameter: Parameter, _: str, value: str) -> Predicate:
        return criteria.one(parameter, "_filter", modifier, value)

    return compile


def _other(equal: _Compile) -> _Compile:
    """There is a value, and none is equal."""

    def compile(criteria: Criteria, parameter: Parameter, operator: str, value: str) -> Predicate:
        present = criteria.present(parameter, "_filter", "true")
        return All((present, Not(equal(criteria, parameter, operator, value))))

    return compile


def _text(criteria: Criteria, parameter: Parameter, operator: str, value: str) -> Predicate:
    if operator == "sw":
        return criteria.one(parameter, "_filter", "", escape(value))
    if operator == "co":
        return criteria.one(parameter, "_filter", "contains", escape(value))
    folded = fold(value)
    if not folded:
        raise BadRequest(f"_filter: {parameter.code!r} has nothing to search for")
    mode = "ends" if operator == "ew" else "is"
    parts = tuple(StringIs(index, folded, mode) for index in parameter.indexes)  # type: ignore[arg-type]
    return parts[0] if len(parts) == 1 else Any(parts)


_EQUAL: Final = _modified("")
_OPERATORS: Final[Mapping[tuple[str, str], _Compile]] = {
    **{(kind, op): _compared for kind in ("date", "number", "quantity") for op in _PREFIXES},
    ("date", "po"): _overlaps,
    **{("string", op): _text for op in ("eq", "co", "sw", "ew")},
    ("string", "ne"): _other(_text),
    ("token", "eq"): _EQUAL,
    ("token", "ne"): _other(_EQUAL),
    ("token", "in"): _modified("in"),
    ("token", "ni"): _other(_modified("in")),
    # the value subsumes (is subsumed by) a code of the resource
    ("token", "ss"): _modified("below"),
    ("token", "sb"): _modified("above"),
    ("reference", "eq"): _EQUAL,
    ("reference", "ne"): _other(_EQUAL),
    ("reference", "re"): _EQUAL,
    ("uri", "eq"): _EQUAL,
    ("uri", "ne"): _other(_EQUAL),
}
"""(parameter type, operator) -> its meaning; ``pr`` applies to all."""
