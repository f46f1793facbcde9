"""SearchParameters that users have posted: https://hl7.org/fhir/R4/searchparameter.html

An expression within the subset of ``expression.py`` is compiled like FHIR's own; any other is
evaluated by the FHIRPath engine, within a budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Final

from fhir_server.definitions.elements import SearchParameter
from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.fhirpath import Budget, Context, FhirPathError, Node, compile
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unprocessable
from fhir_server.search.parameters import KINDS, Site
from fhir_server.search.parameters.kind import Emit
from fhir_server.search.values import IndexValues

BUDGET: Final = Budget(steps=50_000, items=2_000, characters=200_000)
"""Of one evaluation on one resource."""


@dataclass(frozen=True, slots=True)
class Custom:
    """A posted parameter that is in force.

    ``identity``: of the unbroken run of versions that say the same; ``types``: the resource
    types it is on; ``indexed``: those of them whose resources all have its values.
    """

    definition: SearchParameter
    identity: str
    types: frozenset[str]
    indexed: frozenset[str] = frozenset()

    @property
    def index(self) -> str:
        """The name of its values: values of an earlier meaning are never taken for them."""
        return f"{self.definition.code}@{self.identity}"


def definition_of(resource: Json) -> SearchParameter:
    """What a SearchParameter says, in the form of FHIR's own."""
    return SearchParameter(
        code=resource["code"],
        url=resource["url"],
        type=resource["type"],
        expression=resource.get("expression"),
        bases=tuple(resource["base"]),
        targets=tuple(resource.get("target", ())),
        usage=resource.get("xpathUsage", "normal"),
        description=resource.get("description", ""),
    )


def same_meaning(one: SearchParameter, other: SearchParameter) -> bool:
    """Whether both find the same values under the same code."""
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("code", "type", "expression", "bases", "targets", "usage")
    )


def in_force(resource: Json) -> bool:
    return resource.get("status") == "active"


Result = Callable[[Json], list[tuple[str, Any]]]
"""(datatype, value) of everything that an expression finds in a resource."""


def evaluated(code: str, expression: str) -> Result:
    """The results of a FHIRPath expression. They raise Unprocessable if it does not evaluate."""
    compiled = compile(expression)
    context = Context(model=r4_model(), budget=BUDGET)

    def results(resource: Json) -> list[tuple[str, Any]]:
        try:
            items = compiled.items(resource, context)
        except FhirPathError as error:
            raise Unprocessable(
                f"the search parameter {code!r} cannot be evaluated: {str(error)[:200]}",
                code="processing",
            ) from None
        return [typed for item in items if (typed := _typed(item)) is not None]

    return results


def _typed(item: Any) -> tuple[str, Any] | None:
    if not isinstance(item, Node):
        name = _SYSTEM.get(type(item))
        return None if name is None else (name, item)
    if item.value is None:
        return None
    if item.type == "Extension":
        values = _extension_values()
        return next(((values[m], v) for m, v in item.value.items() if m in values), None)
    return item.type, item.value


_SYSTEM: Final[dict[type, str]] = {
    bool: "boolean",
    str: "string",
    int: "integer",
    Decimal: "decimal",
}


@cache
def _extension_values() -> dict[str, str]:
    """The members of an Extension that hold its value, and their datatypes."""
    return {one.json: one.type for one in r4_model().elements("Extension")["value"]}


def emit_evaluated(index: str, kind: str, expression: str, site: Site) -> Emit:
    """Appends the values that an expression finds in a whole resource."""
    results = evaluated(index.partition("@")[0], expression)
    emits = {type_: reader(index, site) for type_, reader in KINDS[kind].readers.items()}
    if "string" not in emits and "code" in emits:
        emits["string"] = emits["code"]

    def emit(resource: Any, out: IndexValues) -> None:
        for type_, value in results(resource):
            append = emits.get(type_)
            if append is not None:
                append(value, out)

    return emit
