"""search in one type: https://hl7.org/fhir/R4/http.html#search"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final, TypeVar

from fhir_server.access.ports import Page
from fhir_server.access.session import Session
from fhir_server.formats.json import dumps
from fhir_server.interactions.answer import preference
from fhir_server.interactions.cursors import PARAMETER, Cursors
from fhir_server.interactions.history import PageSizes
from fhir_server.interactions.ports import Criteria, Handler
from fhir_server.interactions.splice import bundle, search_entry
from fhir_server.model.exchange import Request, Response
from fhir_server.model.problem import BadRequest, Issue, outcome
from fhir_server.search.explain import Trace
from fhir_server.search.link import query_string
from fhir_server.search.parameters import Context
from fhir_server.search.parse import Parsed, parse_criteria, parse_search
from fhir_server.search.plan import Cursor, Scan
from fhir_server.search.schema import SearchSchema
from terminology.codes import Code
from terminology.stored import Known, Question, Unloaded

T = TypeVar("T")
MOST_QUESTIONS: Final = 20
"""Value sets and hierarchies that one query may use."""
EXPLAIN: Final = "_explain"
"""Asks for the plan, what drove it and what it cost; for who sees the domain whole."""


@dataclass(frozen=True, slots=True)
class Searching:
    """What a search needs to be understood. ``now``: microseconds since the epoch.

    ``answer``: of the terminology of this server.
    """

    schema: SearchSchema
    cursors: Cursors
    sizes: PageSizes
    zone: tzinfo
    now: Callable[[], int]
    base: str
    answer: Callable[[Question], Awaitable[tuple[Code, ...]]]

    def context(self) -> Context:
        return Context(self.base, self.now(), self.zone)

    def criteria(self) -> Criteria:
        """The reader of conditions: strict, and never empty."""

        def read(type_: str, query: Sequence[tuple[str, str]]) -> Scan:
            if type_ not in self.schema.types:
                raise BadRequest(f"unknown resource type: {type_[:64]}")
            return parse_criteria(self.schema, type_, query, self.context())

        return read

    async def understood(self, read: Callable[[Context], T]) -> T:
        """What ``read`` makes of a query, with the terminology that it turns out to need."""
        known = Known()
        context = self.context()._replace(terminology=known)
        for _ in range(MOST_QUESTIONS):
            try:
                return read(context)
            except Unloaded as missing:
                known.learn(missing.question, await self.answer(missing.question))
        raise BadRequest(f"more than {MOST_QUESTIONS} value sets", code="too-costly")

    async def parse(
        self, type_: str, query: tuple[tuple[str, str], ...], after: Cursor | None, *, strict: bool
    ) -> Parsed:
        """The plan of one page."""
        return await self.understood(
            lambda context: parse_search(
                self.schema,
                type_,
                query,
                context,
                strict=strict,
                after=after,
                default_count=self.sizes.default,
                most_count=self.sizes.greatest,
            )
        )


def search(searching: Searching) -> Handler:
    """The handler of search-type, by GET and by POST."""

    async def search_(request: Request, session: Session) -> Response:
        (type_,) = request.path
        query, trace = explained(request.query)
        after, here = None, None
        if any(name == PARAMETER for name, _ in query):
            if len(query) != 1:
                raise BadRequest(f"{PARAMETER} goes with no other parameter")
            here = query[0][1]
            position = searching.cursors.open(session.principal, type_, here)
            query, after = position.query, position.after
        strict = preference(request, "handling") == "strict"
        parsed = await searching.parse(type_, query, after, strict=strict)
        page = await session.search(parsed.search, trace)
        links = [("self", _self(request, type_, parsed, here))]
        if page.next is not None:
            sealed = searching.cursors.seal(session.principal, type_, query, page.next)
            links.append(("next", f"{request.base}/{type_}?{PARAMETER}={sealed}"))
        entries = _entries(request.base.encode(), page, parsed.warnings)
        if trace is not None:
            entries.append(explanation(trace))
        return Response(200, bundle("searchset", entries, total=page.total, links=links))

    return search_


def _self(request: Request, type_: str, parsed: Parsed, here: str | None) -> str:
    shown = f"{PARAMETER}={here}" if here is not None else query_string(parsed.applied)
    if any(name == EXPLAIN for name, _ in request.query):
        shown += f"{'&' if shown else ''}{EXPLAIN}=true"
    return f"{request.base}/{type_}" + (f"?{shown}" if shown else "")


def explained(
    query: tuple[tuple[str, str], ...],
) -> tuple[tuple[tuple[str, str], ...], Trace | None]:
    """The query without ``_explain``, and a trace if it is asked for."""
    values = {value for name, value in query if name == EXPLAIN}
    if not values:
        return query, None
    if not values <= {"true", "false"} or len(values) > 1:
        raise BadRequest(f"{EXPLAIN} is true or false")
    rest = tuple(pair for pair in query if pair[0] != EXPLAIN)
    return rest, Trace() if values == {"true"} else None


def explanation(trace: Trace) -> bytes:
    """The outcome entry of a search that was explained: the plan, then one issue per step."""
    issues = [Issue("informational", text, severity="information") for text in trace.texts()]
    return dumps({"resource": outcome(issues), "search": {"mode": "outcome"}})


def _entries(base: bytes, page: Page, warnings: tuple[str, ...]) -> list[bytes]:
    entries = [search_entry(base, stored, b"match") for stored in page.matches]
    entries += [search_entry(base, stored, b"include") for stored in page.included]
    if warnings:
        issues = [Issue("not-supported", text, severity="warning") for text in warnings]
        entries.append(dumps({"resource": outcome(issues), "search": {"mode": "outcome"}}))
    return entries
