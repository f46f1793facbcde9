"""Entries of a batch or transaction: https://hl7.org/fhir/R4/bundle.html#bundle-definitions

What an entry may hold is a table; anything else is refused, never dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from fhir_server.formats.json import loads
from fhir_server.interactions.answer import http_date
from fhir_server.interactions.ports import Call
from fhir_server.interactions.splice import entry as entry_bytes
from fhir_server.interactions.target import Pairs, pairs, segments
from fhir_server.model.datatypes import format_instant, parse_instant
from fhir_server.model.exchange import Json, Request, Response
from fhir_server.model.problem import BadRequest, Problem, TooLarge, Unprocessable

METHODS: Final = ("DELETE", "POST", "PUT", "PATCH", "GET", "HEAD")
"""In the order in which a transaction runs them (https://hl7.org/fhir/R4/http.html#trules)."""

_ELEMENT: Final = {"id", "extension", "modifierExtension"}
_BUNDLE: Final = frozenset(
    {"resourceType", "id", "meta", "implicitRules", "language", "identifier", "type", "timestamp"}
    | {"_type", "_timestamp", "_id", "_language", "_implicitRules", "link", "entry", "signature"}
)
_ENTRY: Final = frozenset(
    _ELEMENT | {"link", "fullUrl", "_fullUrl", "resource", "search", "request", "response"}
)
_REQUEST: Final = {
    "method": None,
    "url": None,
    "ifNoneMatch": "if-none-match",
    "ifModifiedSince": "if-modified-since",
    "ifMatch": "if-match",
    "ifNoneExist": "if-none-exist",
}
"""Members of Bundle.entry.request and the header that each stands for."""


@dataclass(slots=True)
class Entry:
    """One entry, its URL taken apart. ``headers``: the conditions, as header fields."""

    index: int
    method: str
    url: str
    path: tuple[str, ...]
    query: Pairs
    headers: dict[str, str]
    full_url: str | None
    resource: Json | None

    @property
    def place(self) -> str:
        return f"Bundle.entry[{self.index}]"

    @property
    def conditional(self) -> bool:
        """Does a search say which resource is meant?"""
        return len(self.path) == 1 and self.method in ("PUT", "PATCH", "DELETE")

    @property
    def operates(self) -> bool:
        """Is it an operation?"""
        return bool(self.path) and self.path[-1].startswith("$")

    @property
    def searches(self) -> bool:
        """Is it a search by POST? Its parameters are those of its URL: an entry has no form."""
        return self.method == "POST" and self.path[-1:] == ("_search",)

    def call(self, prefer: str | None) -> Call:
        headers = self.headers if prefer is None else {**self.headers, "prefer": prefer}
        return Call(self.method, self.url, headers, self.resource)


class entry_problems:
    """Problems raised inside name the entry."""

    def __init__(self, entry: Entry) -> None:
        self._place = entry.place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Problem):
            raise error.under(self._place) from None


def raw_entries(bundle: Json, most: int) -> list[Any]:
    """Bundle.entry, if the Bundle is one that can be executed; TooLarge over ``most``."""
    unknown = bundle.keys() - _BUNDLE
    if unknown:
        raise Unprocessable(f"unknown element {min(unknown)[:80]!r}", expression="Bundle")
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        raise Unprocessable("entry is an array", code="structure", expression="Bundle.entry")
    if len(entries) > most:
        raise TooLarge(f"the Bundle has more than {most} entries", expression="Bundle.entry")
    return entries


def parse_entry(index: int, raw: Any, base: str = "") -> Entry:
    """One entry; a Problem names its place. ``base``: its URL may also begin with that."""
    try:
        return _parse(index, raw, base)
    except Problem as problem:
        raise problem.under(f"Bundle.entry[{index}]") from None


def _parse(index: int, raw: Any, base: str) -> Entry:
    request = raw.get("request") if isinstance(raw, dict) else None
    if not isinstance(request, dict):
        raise BadRequest("an entry has a request with method and url", code="required")
    _known(raw, _ENTRY)
    _known(request, _REQUEST.keys() | _ELEMENT)
    method = _string(request, "method", required=True)
    if method not in METHODS:
        raise BadRequest(f"unknown request.method {method[:20]!r}", code="value")
    url = _relative(_string(request, "url", required=True), base)
    path, _, query = url.partition("?")
    if "://" in path or path.startswith("/"):
        raise BadRequest("request.url is relative to the base", code="value")
    resource = raw.get("resource")
    if (
        method in ("POST", "PUT", "PATCH")
        and resource is not None
        and not isinstance(resource, dict)
    ):
        raise Unprocessable("resource is an object", code="structure")
    return Entry(
        index,
        method,
        url,
        tuple(segments(path)),
        pairs(query),
        _headers(request),
        _string(raw, "fullUrl") or None,
        resource if isinstance(resource, dict) else None,
    )


def _relative(url: str, base: str) -> str:
    """A URL without what some clients write before it: the base itself, or its slash."""
    path = url.partition("?")[0]
    if base and (path == base or path.startswith(f"{base}/")):
        url = url[len(base) :]
    return url.removeprefix("/")


def _known(members: Json, known: Any) -> None:
    unknown = members.keys() - known
    if unknown:
        raise Unprocessable(f"unknown element {min(unknown)[:80]!r}")


def _string(members: Json, name: str, *, required: bool = False) -> str:
    value = members.get(name, "")
    if not isinstance(value, str):
        raise Unprocessable(f"{name} is a string", code="structure")
    if required and not value and name not in members:
        raise BadRequest(f"request.{name} is needed", code="required")
    return value


def _headers(request: Json) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, header in _REQUEST.items():
        if header is not None and name in request:
            headers[header] = _string(request, name)
    since = headers.get("if-modified-since")
    if since is not None:
        try:
            headers["if-modified-since"] = http_date(parse_instant(since))
        except ValueError:
            raise BadRequest("ifModifiedSince is not an instant", code="value") from None
    return headers


def refuse_form(entry: Entry) -> None:
    """The parameters of a search by POST stand in its URL, not in a resource."""
    if entry.resource is not None:
        raise BadRequest("the parameters of a search in a Bundle are in request.url")


@cache
def status_line(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"


def answered(response: Response, request: Request) -> bytes:
    """The response entry of a request that was run on its own."""
    headers = response.headers
    parts: Json = {"status": status_line(response.status)}
    if "Location" in headers:
        parts["location"] = headers["Location"].removeprefix(request.base + "/")
    if "ETag" in headers:
        parts["etag"] = headers["ETag"]
    if response.updated is not None:
        parts["lastModified"] = format_instant(response.updated)
    body = response.body if isinstance(response.body, bytes) else b""
    read = "ETag" in headers and "Location" not in headers  # then it is what was asked for
    if body.startswith(b'{"resourceType":"OperationOutcome"') and not read:
        parts["outcome"] = loads(body)
        body = b""
    return entry_bytes(None, body, {"response": parts})


def failed(problem: Problem) -> bytes:
    """The response entry of a request that was refused."""
    parts: Json = {"status": status_line(problem.status), "outcome": problem.outcome()}
    if "ETag" in problem.headers:
        parts["etag"] = problem.headers["ETag"]
    return entry_bytes(None, b"", {"response": parts})
