"""Filters of a value set: https://hl7.org/fhir/R4/valueset-filter-operator.html

A regular expression is matched whole and in linear time, within a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.regex import Regex
from terminology.concepts import Concepts
from terminology.service import Refused

MOST_STEPS: Final = 500_000
"""What one regular expression may cost, in characters looked at."""

Filter: TypeAlias = Callable[[Concepts, str, str], set[str]]
"""(concepts, property, value) -> the codes."""

ON_CONCEPT: Final = ("concept", "code")


def filtered(concepts: Concepts, one: Mapping[str, Any]) -> set[str]:
    """The codes that one filter lets through. Raises Refused."""
    name, op, value = one.get("property", ""), one.get("op", ""), one.get("value", "")
    if not concepts.defines(name):
        raise _refused(concepts, f"the code system does not define the property {name[:40]!r}")
    judge = OPERATORS.get(op)
    if judge is None or (op in HIERARCHICAL and name not in ON_CONCEPT):
        raise _refused(concepts, f"the filter {name[:40]!r} {op[:20]!r} is not supported")
    return judge(concepts, name, value)


def _equal(concepts: Concepts, name: str, value: str) -> set[str]:
    return {code for code in concepts.by_code if concepts.has(code, name, value)}


def _exists(concepts: Concepts, name: str, value: str) -> set[str]:
    if value not in ("true", "false"):
        raise _refused(concepts, "the filter 'exists' is true or false")
    wanted = value == "true"
    return {c for c in concepts.by_code if bool(concepts.has(c, name, None)) is wanted}


def _one_of(concepts: Concepts, name: str, value: str) -> set[str]:
    wanted = {part.strip() for part in value.split(",")}
    return {c for c in concepts.by_code if not wanted.isdisjoint(_texts(concepts, c, name))}


def _texts(concepts: Concepts, code: str, name: str) -> list[str]:
    if name == "parent":
        return [*concepts.parents(code)]
    return [*concepts.children(code)] if name == "child" else concepts.texts(code, name)


def _regex(concepts: Concepts, name: str, value: str) -> set[str]:
    left = MOST_STEPS

    def spend(steps: int) -> None:
        nonlocal left
        left -= steps
        if left < 0:
            raise Refused("too-costly", "a regular expression of the value set costs too much")

    try:
        pattern = Regex.of(value)
        return {
            code
            for code in concepts.by_code
            if any(pattern.matches(t, spend, whole=True) for t in concepts.texts(code, name))
        }
    except FhirPathError as error:
        raise _refused(concepts, f"the regular expression: {error}") from error


def _known(concepts: Concepts, codes: set[str]) -> set[str]:
    return codes & concepts.by_code.keys()


def _every(concepts: Concepts) -> set[str]:
    return set(concepts.by_code)


OPERATORS: Final[Mapping[str, Filter]] = {
    "=": _equal,
    "is-a": lambda c, _, value: _known(c, c.below(value)),
    "descendent-of": lambda c, _, value: _known(c, c.below(value)) - {value},
    "is-not-a": lambda c, _, value: _every(c) - c.below(value),
    "generalizes": lambda c, _, value: _known(c, c.above(value)),
    "in": _one_of,
    "not-in": lambda c, name, value: _every(c) - _one_of(c, name, value),
    "regex": _regex,
    "exists": _exists,
}
HIERARCHICAL: Final = frozenset({"is-a", "descendent-of", "is-not-a", "generalizes"})


def _refused(concepts: Concepts, why: str) -> Refused:
    return Refused("not-supported", f"{concepts.url[:200]} cannot be expanded: {why}")
