"""Problems: what can go wrong, with its HTTP status and FHIR issue code.

Raise one; it is rendered once, as an OperationOutcome
(https://hl7.org/fhir/R4/operationoutcome.html). Diagnostics name the client's own
input or a fixed text, never stored data of others, paths of files or stack traces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Issue:
    """One OperationOutcome.issue. ``code`` is from the issue-type value set."""

    code: str
    diagnostics: str
    expression: str | None = None
    severity: str = "error"

    def to_json(self) -> dict[str, Any]:
        issue: dict[str, Any] = {
            "severity": self.severity,
            "code": self.code,
            "diagnostics": self.diagnostics,
        }
        if self.expression is not None:
            issue["expression"] = [self.expression]
        return issue


def outcome(issues: Iterable[Issue]) -> dict[str, Any]:
    """An OperationOutcome resource of these issues."""
    return {"resourceType": "OperationOutcome", "issue": [i.to_json() for i in issues]}


class Problem(Exception):
    """Base of every expected failure: an HTTP status and at least one issue."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "exception"

    def __init__(
        self,
        diagnostics: str | Iterable[Issue] = "",
        *,
        code: str | None = None,
        expression: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        if isinstance(diagnostics, str):
            text = diagnostics or self.__class__.__name__
            self.issues: tuple[Issue, ...] = (Issue(code or self.code, text, expression),)
        else:
            self.issues = tuple(diagnostics)
        self.headers = headers or {}
        super().__init__("; ".join(i.diagnostics for i in self.issues))

    def outcome(self) -> dict[str, Any]:
        return outcome(self.issues)

    def under(self, path: str) -> Problem:
        """The same problem, its expressions set below ``path`` (for example a Bundle entry)."""
        moved = [
            Issue(i.code, i.diagnostics, _join(path, i.expression), i.severity) for i in self.issues
        ]
        return type(self)(moved, headers=self.headers)


def _join(path: str, expression: str | None) -> str:
    """``Bundle.entry[0]`` and ``Patient.name`` as one FHIRPath expression."""
    if not expression:
        return path
    _, dot, below = expression.partition(".")
    return f"{path}.resource{dot}{below}"


class BadRequest(Problem):
    status, code = 400, "invalid"


class Unauthorized(Problem):
    status, code = 401, "login"


class Forbidden(Problem):
    status, code = 403, "forbidden"


class NotFound(Problem):
    status, code = 404, "not-found"


class MethodNotAllowed(Problem):
    status, code = 405, "not-supported"


class NotAcceptable(Problem):
    status, code = 406, "not-supported"


class RequestTimeout(Problem):
    status, code = 408, "timeout"


class Conflict(Problem):
    status, code = 409, "conflict"


class Gone(Problem):
    status, code = 410, "deleted"


class PreconditionFailed(Problem):
    status, code = 412, "conflict"


class TooLarge(Problem):
    status, code = 413, "too-long"


class UnsupportedMediaType(Problem):
    status, code = 415, "not-supported"


class RangeNotSatisfiable(Problem):
    status, code = 416, "value"


class Unprocessable(Problem):
    status, code = 422, "invalid"


class TooManyRequests(Problem):
    status, code = 429, "throttled"


class ServerError(Problem):
    status, code = 500, "exception"


class NotSupported(Problem):
    """A part of FHIR that this server does not implement (501)."""

    status, code = 501, "not-supported"


class Unavailable(Problem):
    status, code = 503, "transient"
