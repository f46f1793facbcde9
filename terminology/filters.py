"""Filters of a value set: https://hl7.org/fhir/R4/valueset-filter-operator.html

A regular expression is matched whole and in linear time, within a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.regex import Regex
from terminology.concepts import ALL, Concepts
from terminology.service import Refused

MOST_STEPS: Final = 500_000
"""What one regular expression may cost, in characters looked at."""

Filter: TypeAlias = Callable[[Concepts, str, str], set[str]]
"""(concepts, property, value) -> the codes."""

Test: TypeAlias = Callable[[Concepts, str, str, str], bool]
"""(concepts, property, value, code) -> is the code one of them?"""


class Operator(NamedTuple):
    """The same twice: of a whole code system, and of one code however large the system is."""

    every: Filter
    one: Test


ON_CONCEPT: Final = ("concept", "code")


BELOW: Final = frozenset({"is-a", "descendent-of"})


def filtered(concepts: Concepts, one: Mapping[str, Any], most: int = ALL) -> set[str]:
    """The codes that one filter lets through. Raises Refused; ``most``: also if a hierarchy has
    more, before it is collected."""
    operator, value = _operator(concepts, one), one.get("value", "")
    if most != ALL and one["op"] in BELOW and len(concepts.below(value, most + 1)) > most:
        text = f"more than {most} codes are below {str(value)[:100]!r}"
        raise Refused("too-costly", text)
    return operator.every(concepts, one["property"], value)


def passes(concepts: Concepts, one: Mapping[str, Any], code: str) -> bool:
    """Whether a filter lets a code of the system through. Raises Refused."""
    return _operator(concepts, one).one(concepts, one["property"], one.get("value", ""), code)


def _operator(concepts: Concepts, one: Mapping[str, Any]) -> Operator:
    name, op = one.get("property", ""), one.get("op", "")
    if not concepts.defines(name):
        raise _refused(concepts, f"the code system does not define the property {name[:40]!r}")
    judge = OPERATORS.get(op)
    if judge is None or (op in HIERARCHICAL and name not in ON_CONCEPT):
        raise _refused(concepts, f"the filter {name[:40]!r} {op[:20]!r} is not supported")
    return judge


def _exists(concepts: Concepts, name: str, value: str) -> set[str]:
    bearing = concepts.bearing(name)
    return bearing if _wanted(concepts, value) else _every(concepts) - bearing


def _wanted(concepts: Concepts, value: str) -> bool:
    if value not in ("true", "false"):
        raise _refused(concepts, "the filter 'exists' is true or false")
    return value == "true"


def _one_of(concepts: Concepts, name: str, value: str) -> set[str]:
    return set().union(*(concepts.bearing(name, one) for one in _parts(value)))


def _is_one_of(concepts: Concepts, name: str, value: str, code: str) -> bool:
    return not _parts(value).isdisjoint(concepts.texts(code, name))


def _parts(value: str) -> set[str]:
    return {part.strip() for part in value.split(",")}


def _regex(concepts: Concepts, name: str, value: str) -> set[str]:
    matches = _matcher(concepts, value)
    return {c for c in concepts.by_code if any(matches(t) for t in concepts.texts(c, name))}


def _matcher(concepts: Concepts, value: str) -> Callable[[str], bool]:
    left = MOST_STEPS

    def spend(steps: int) -> None:
        nonlocal left
        left -= steps
        if left < 0:
            raise Refused("too-costly", "a regular expression of the value set costs too much")

    def matches(text: str) -> bool:
        spend(1)
        try:
            return Regex.of(value).matches(text, spend, whole=True)
        except FhirPathError as error:
            raise _refused(concepts, f"the regular expression: {error}") from error

    return matches


def _fits(concepts: Concepts, name: str, value: str, code: str) -> bool:
    matches = _matcher(concepts, value)
    return any(matches(text) for text in concepts.texts(code, name))


def _below(concepts: Concepts, value: str) -> set[str]:
    found = concepts.below(value)
    # A file knows no codes but those of its concepts.
    return found if concepts.indexed and value in concepts.by_code else _known(concepts, found)


def _known(concepts: Concepts, codes: set[str]) -> set[str]:
    return set(concepts.ordered(codes))


def _every(concepts: Concepts) -> set[str]:
    return set(concepts.by_code)


OPERATORS: Final[Mapping[str, Operator]] = {
    "=": Operator(
        lambda c, name, value: c.bearing(name, value),
        lambda c, name, value, code: c.has(code, name, value),
    ),
    "is-a": Operator(
        lambda c, _, value: _below(c, value),
        lambda c, _, value, code: value in c.above(code),
    ),
    "descendent-of": Operator(
        lambda c, _, value: _below(c, value) - {value},
        lambda c, _, value, code: code != value and value in c.above(code),
    ),
    "is-not-a": Operator(
        lambda c, _, value: _every(c) - c.below(value),
        lambda c, _, value, code: value not in c.above(code),
    ),
    "generalizes": Operator(
        lambda c, _, value: _known(c, c.above(value)),
        lambda c, _, value, code: code in c.above(value),
    ),
    "in": Operator(_one_of, _is_one_of),
    "not-in": Operator(
        lambda c, name, value: _every(c) - _one_of(c, name, value),
        lambda c, name, value, code: not _is_one_of(c, name, value, code),
    ),
    "regex": Operator(_regex, _fits),
    "exists": Operator(
        _exists,
        lambda c, name, value, code: c.has(code, name) is _wanted(c, value),
    ),
}
HIERARCHICAL: Final = frozenset({"is-a", "descendent-of", "is-not-a", "generalizes"})


def _refused(concepts: Concepts, why: str) -> Refused:
    return Refused("not-supported", f"{concepts.url[:200]} cannot be expanded: {why}")
