"""Structural validation of resources: https://hl7.org/fhir/R4/validation.html

Cardinality, types, choices, primitive values, unknown and empty elements, required bindings,
references, contained resources, narrative, and the invariants that have a row. Driven by the
compiled definitions. Profiles and terminology beyond them are other people's work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fhir_server.definitions.registry import Definitions
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Issue, Unprocessable

from .compiled import Compiled, Doubt
from .rules.references import WRONG_TARGET, References
from .shape import Shapes, Slot
from .walk import Walk

MAX_ISSUES = 100
LARGE: Final = 300
"""Items of one list beyond which a resource is judged beside the loop."""


class Validator:
    """Judges parsed resources (plain JSON values, decimals as Decimal). Made once."""

    def __init__(self, definitions: Definitions, max_issues: int = MAX_ISSUES) -> None:
        self._shapes = Shapes(definitions)
        self._references = References(definitions.resource_types)
        self._compiled = Compiled(self._shapes, self._references)
        self._max_issues = max_issues

    def check(self, resource: Json) -> None:
        """Raises Unprocessable with every issue, unless the resource is valid.

        Only the parts that the fast pass refuses are walked slowly.
        """
        try:
            self._compiled.resource(resource)
        except Doubt:
            issues = self._walk(self._compiled.sound).run(resource)
        except RecursionError:
            issues = self.issues(resource)
        else:
            return
        if issues:
            raise Unprocessable(issues)

    def check_structure(self, resource: Json) -> list[Issue]:
        """For bulk loading: raises Unprocessable for faults of an element by itself; those
        between elements (invariants, the type that a reference leads to) are returned."""
        if self.surely(resource):
            return []
        issues = self.issues(resource)
        if not all(_is_between(issue) for issue in issues):
            raise Unprocessable(issues)
        return issues

    def surely(self, resource: Json) -> bool:
        """The fast pass alone: True = valid; False = invalid, or not to be told so fast."""
        try:
            self._compiled.resource(resource)
        except (Doubt, RecursionError):
            return False
        return True

    def issues(self, resource: Json) -> list[Issue]:
        """The slow pass: every issue (at most ``max_issues``), located; [] = valid."""
        return self._walk(None).run(resource)

    def _walk(self, sound: Callable[[Slot, Any], bool] | None) -> Walk:
        return Walk(self._shapes, self._references, self._max_issues, sound)


def is_large(resource: Json) -> bool:
    """Whether a list in the resource is long enough to hold up the loop."""
    lists = [value for value in resource.values() if type(value) is list]
    return bool(lists) and max(map(len, lists)) > LARGE


def _is_between(issue: Issue) -> bool:
    return issue.code == "invariant" or WRONG_TARGET in issue.diagnostics
