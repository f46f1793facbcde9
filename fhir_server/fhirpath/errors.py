"""What can go wrong with an expression. All are ValueErrors: callers decide the HTTP status."""

from __future__ import annotations


class FhirPathError(ValueError):
    """The expression cannot be evaluated on this input (types, cardinality, unknown names)."""


class FhirPathSyntaxError(FhirPathError):
    """The text is not an expression; ``position`` counts characters from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} at {position}")
        self.position = position


class FhirPathNotSupported(FhirPathError):
    """A part of the specification that is not there (yet), or that lacks its service."""


class FhirPathBudgetError(FhirPathError):
    """The evaluation took more steps, items or characters than its budget allows."""
