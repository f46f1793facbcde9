"""The route table: every URL of the FHIR base, once.

https://hl7.org/fhir/R4/http.html#summary. The dispatcher, the capability statement, the
deny-every-route test and the documentation iterate over these rows. A row whose interaction
has no handler answers 501 and is absent from the capability statement.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from fhir_server.model.problem import BadRequest, MethodNotAllowed, NotFound
from fhir_server.model.resource import ID_PATTERN

Body = Literal["none", "resource", "optional", "form", "patch", "content"]


@dataclass(frozen=True, slots=True)
class Route:
    """One row. In ``pattern`` a ``{name}`` captures a segment; ``body``: what it takes.

    A row of one type, such as ``Binary/{id}``, goes before that of all types. ``raw``: the
    answer need not be a resource.
    """

    method: str
    pattern: str
    interaction: str
    description: str
    body: Body = "none"
    public: bool = False
    raw: bool = False

    @property
    def verb(self) -> str:
        """The interaction, also of a conditional one."""
        return self.interaction.removeprefix("conditional-")


ANY_TYPE: Final = "{type}"
BINARY: Final = "Binary"
"""The type that has rows of its own."""

LOGICAL: Final = frozenset({"ViewDefinition"})
"""Types of guides that R4 does not know: they have operations, no resources."""
OWN_FORMATS: Final = frozenset({"$run", "$viewdefinition-run"})
"""Operations whose answer is no resource; they negotiate its format themselves."""

ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "metadata", "capabilities", "What this server can do", public=True),
    Route(
        "GET",
        ".well-known/smart-configuration",
        "smart-configuration",
        "Where and how an app gets a token (SMART)",
        public=True,
        raw=True,
    ),
    Route("POST", "", "transaction", "Execute a batch or a transaction", "resource"),
    Route("GET", "", "search-system", "Search over all types"),
    Route("POST", "_search", "search-system", "Search over all types by form", "form"),
    Route("GET", "_history", "history-system", "Versions of all resources"),
    Route("GET", "_async/{job}", "async-status", "How far a job of yours is, or its result"),
    Route("DELETE", "_async/{job}", "async-cancel", "Stop a job of yours and remove it"),
    Route("GET", "_jobs", "jobs", "Jobs of yours, as Tasks"),
    Route("GET", "_jobs/{job}", "job", "A job of yours, as a Task"),
    Route("GET", "_async/{job}/{file}", "async-file", "A file of a job of yours", raw=True),
    Route("GET", "{operation}", "operation", "Run an operation on the system"),
    Route("POST", "{operation}", "operation", "Run an operation on the system", "optional"),
    Route("GET", "{type}", "search-type", "Search one type"),
    Route("POST", "{type}/_search", "search-type", "Search one type by form", "form"),
    Route("POST", "{type}", "create", "Create a resource; the server chooses the id", "resource"),
    Route("PUT", "{type}", "conditional-update", "Update by a search", "resource"),
    Route("PATCH", "{type}", "conditional-patch", "Patch by a search", "patch"),
    Route("DELETE", "{type}", "conditional-delete", "Delete by a search"),
    Route("GET", "{type}/_history", "history-type", "Versions of all resources of a type"),
    Route("GET", "{type}/{operation}", "operation", "Run an operation on a type"),
    Route("POST", "{type}/{operation}", "operation", "Run an operation on a type", "optional"),
    Route("GET", "{type}/{id}", "read", "The current version"),
    Route("PUT", "{type}/{id}", "update", "A new version of a resource", "resource"),
    Route("PATCH", "{type}/{id}", "patch", "Change parts of a resource", "patch"),
    Route("DELETE", "{type}/{id}", "delete", "Delete a resource; its versions remain"),
    Route("GET", "{type}/{id}/_history", "history-instance", "Versions of a resource"),
    Route("GET", "{type}/{id}/_history/{version}", "vread", "One version of a resource"),
    Route("GET", "{type}/{id}/{operation}", "operation", "Run an operation on a resource"),
    Route(
        "POST", "{type}/{id}/{operation}", "operation", "Run an operation on a resource", "optional"
    ),
    Route(
        "GET", "{type}/{id}/_history/{version}/{operation}", "operation", "Ask about one version"
    ),
    Route("POST", "Binary", "create-binary", "Create a Binary, also from raw content", "content"),
    Route("GET", "Binary/{id}", "read-binary", "The content, or the Binary", raw=True),
    Route("PUT", "Binary/{id}", "update-binary", "New content of a Binary", "content"),
    Route("GET", "Binary/{id}/_history/{version}", "vread-binary", "One version of it", raw=True),
    Route("GET", "{type}/{id}/{compartment}", "search-compartment", "Search in a compartment"),
    Route(
        "POST",
        "{type}/{id}/{compartment}/{search}",
        "search-compartment",
        "Search in a compartment by form",
        "form",
    ),
)


@dataclass(frozen=True, slots=True)
class _Place:
    """The rows of one shape of URL by method, and which segments they capture."""

    captured: tuple[int, ...]
    names: tuple[str, ...]
    rows: dict[str, Route]


Shape = tuple[int, str]
"""Number of segments, and the one that is not a type, id or version (``$`` for operations)."""


def _shape(segments: Sequence[str]) -> Shape:
    """The shape of a URL; ``metadata`` counts only as the first and only segment."""
    count = len(segments)
    if count == 1 and segments[0] == "metadata":
        return 1, "metadata"
    first = segments[0][:1] if count else ""
    if first == "_" or first == ".":
        return count, "/".join(segments) if first == "." else segments[0]
    marked = segments[min(count, 3) - 1] if count else ""
    if marked[:1] == "$":
        return count, "$"
    return count, marked if marked[:1] == "_" else ""


def _sample(pattern: str) -> list[str]:
    return ["$" if part == "{operation}" else part for part in pattern.split("/")]


_INSTANCE: Final = ("type", "id")


class Router:
    """Finds the row of a request by dictionary, not by trying patterns."""

    def __init__(self, rows: Sequence[Route], types: Collection[str]) -> None:
        self._types = frozenset(types)
        self._places: dict[Shape, _Place] = {}
        self._own: dict[tuple[str, str], Route] = {}
        for row in rows:
            parts = row.pattern.split("/") if row.pattern else []
            if parts and parts[0] in self._types:
                self._own[row.method, row.pattern] = row
                continue
            captured = tuple(i for i, part in enumerate(parts) if part[:1] == "{")
            names = tuple(parts[i][1:-1] for i in captured)
            shape = _shape(_sample(row.pattern) if parts else [])
            place = self._places.setdefault(shape, _Place(captured, names, {}))
            place.rows[row.method] = row

    def resolve(self, method: str, segments: Sequence[str]) -> tuple[Route, tuple[str, ...]]:
        """The row and the captured segments.

        NotFound for an unknown URL or type, BadRequest for a malformed id,
        MethodNotAllowed with Allow for a verb that this URL does not know.
        """
        place = self._places.get(_shape(segments))
        if place is None:
            raise NotFound("this URL is not known")
        path = tuple([segments[i] for i in place.captured])
        if place.names and not self._valid(place.names, path):
            self._check(place.names, path)
        row = place.rows.get("GET" if method == "HEAD" else method)
        if row is None:
            raise MethodNotAllowed(
                f"{method} is not known here", headers={"Allow": _allow(place.rows)}
            )
        if path and path[0] == BINARY and row.pattern.startswith(ANY_TYPE):
            row = self._own.get((row.method, BINARY + row.pattern.removeprefix(ANY_TYPE)), row)
        return row, path

    def _valid(self, names: tuple[str, ...], path: tuple[str, ...]) -> bool:
        """Quickly, for the commonest shape."""
        return (
            names == _INSTANCE
            and path[0] in self._types
            and ID_PATTERN.fullmatch(path[1]) is not None
        )

    def _check(self, names: tuple[str, ...], path: tuple[str, ...]) -> None:
        for name, segment in zip(names, path, strict=True):
            if name == "type" or name == "compartment":
                if segment in LOGICAL and "operation" in names:
                    continue
                if segment not in self._types and (name, segment) != ("compartment", "*"):
                    raise NotFound(f"unknown resource type: {segment[:64]}")
            elif name == "id" and ID_PATTERN.fullmatch(segment) is None:
                raise BadRequest(f"not an id: {segment[:80]}")
            elif (name == "operation" and segment[:1] != "$") or (
                name == "search" and segment != "_search"
            ):
                raise NotFound("this URL is not known")
            elif name == "version" and ID_PATTERN.fullmatch(segment) is None:
                raise BadRequest(f"not a version id: {segment[:80]}")


def _allow(rows: Mapping[str, Route]) -> str:
    return ", ".join(sorted({*rows, *({"HEAD"} if "GET" in rows else ())}))


def routes_table() -> str:
    """The routes as a Markdown table, for the documentation."""
    lines = ["| method | URL | interaction | what it does |", "|---|---|---|---|"]
    lines += [
        f"| {row.method} | `/fhir/{row.pattern}` | {row.interaction} | {row.description} |"
        for row in ROUTES
    ]
    return "\n".join(lines) + "\n"
