"""Invariants of profiles, by FHIRPath: https://hl7.org/fhir/R4/conformance-rules.html#constraints"""

from __future__ import annotations

from typing import Final

from fhir_server.fhirpath import Expression, FhirPathError, Node, compile
from fhir_server.model.exchange import Json

from .judging import Check, Judging

_SEVERITY: Final = {"error": "error", "warning": "warning"}


def invariant(constraint: Json) -> Check:
    """One that is not true is broken; one that cannot be evaluated is told, not judged."""
    key, human = constraint["key"], constraint.get("human", "").strip()
    severity = _SEVERITY.get(constraint.get("severity", "error"), "warning")
    text = constraint.get("expression")
    if not text:
        return _silent
    expression, fault = _compiled(text)

    def check(node: Node, judging: Judging) -> None:
        why = fault
        try:
            if expression is None or expression.holds(node, judging.context):
                holds = True
            else:
                holds = False
        except FhirPathError as error:
            why, holds = str(error), True
        if not holds:
            judging.add(node, "invariant", f"{human} ({key})", severity=severity)
        elif why:
            said = f"the invariant {key} could not be evaluated: {why}"
            judging.add(node, "not-supported", said, severity="warning")

    return check


def _compiled(text: str) -> tuple[Expression | None, str]:
    try:
        return compile(text), ""
    except FhirPathError as error:
        return None, str(error)


def _silent(node: Node, judging: Judging) -> None:
    """Without an expression there is nothing to evaluate."""
