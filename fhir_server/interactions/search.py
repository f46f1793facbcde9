"""search in one type, in all or in a compartment: https://hl7.org/fhir/R4/http.html#search"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from functools import partial
from typing import Final, TypeVar

from fhir_server.access.policy import CompileFilter, joinless
from fhir_server.access.ports import Page
from fhir_server.access.session import Session
from fhir_server.formats.json import dumps
from fhir_server.interactions.answer import preference
from fhir_server.interactions.contained import alone_page
from fhir_server.interactions.cursors import PARAMETER, Cursors
from fhir_server.interactions.history import PageSizes
from fhir_server.interactions.lineage import lineage
from fhir_server.interactions.ports import Criteria, Handler
from fhir_server.interactions.splice import bundle, search_entry
from fhir_server.interactions.subset import Cut, Subsets, subset, subset_of_included
from fhir_server.interactions.versioned import as_referred
from fhir_server.model.exchange import Request, Response
from fhir_server.model.problem import BadRequest, Issue, NotFound, outcome
from fhir_server.search.compartment import compartment_types, in_compartment
from fhir_server.search.explain import Trace
from fhir_server.search.link import query_string
from fhir_server.search.parameters import Context, defined_case
from fhir_server.search.parse import Parsed, parse_criteria, parse_search
from fhir_server.search.plan import Cursor, Predicate, Scan
from fhir_server.search.schema import SearchSchema
from terminology.codes import Code
from terminology.stored import Known, Question, Unloaded

T = TypeVar("T")
MOST_QUESTIONS: Final = 20
"""Value sets and hierarchies that one query may use."""
MOST_REMEMBERED: Final = 10_000
MOST_SYSTEMS: Final = 200
"""Code systems that FHIR does not define, of which one query may use codes with letters."""
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
        return Context(self.base, self.now(), self.zone, limits=self.sizes.limits)

    def criteria(self) -> Criteria:
        """The reader of conditions: strict, and never empty. Value sets and hierarchies are read
        before the write that depends on the condition.
        """

        async def read(type_: str, query: Sequence[tuple[str, str]]) -> Scan:
            return await self.understood(lambda context: self._condition(type_, query, context))

        return read

    def scope(self, type_: str, query: Sequence[tuple[str, str]]) -> Predicate:
        """What a SMART scope says of a type: by index values alone, and without terminology,
        whose content may change while the scope is in use."""
        return self._condition(type_, query, self.context()._replace(bodies=False)).where

    def _condition(self, type_: str, query: Sequence[tuple[str, str]], context: Context) -> Scan:
        if type_ not in self.schema.types:
            raise BadRequest(f"unknown resource type: {type_[:64]}")
        return parse_criteria(self.schema, type_, query, context)

    async def understood(self, read: Callable[[Context], T], session: Session | None = None) -> T:
        """What ``read`` makes of a query, with the terminology that it turns out to need, and
        the lineages that ``session`` may see.
        """
        known, cases = Known(), self.schema.cases
        context = self.context()._replace(terminology=known, case_matters=partial(_case, cases))
        left = {True: MOST_SYSTEMS, False: MOST_QUESTIONS}
        while all(left.values()):
            try:
                return read(context)
            except Unloaded as missing:
                question, of_case = missing.question, missing.question.kind == "case"
                answer = await self._answer(question, session)
                left[of_case] -= 1
            if not of_case:
                known.learn(question, answer)
            elif len(cases) < MOST_REMEMBERED:
                cases[question.about] = bool(answer)
            else:
                cases.clear()
        raise BadRequest("too many value sets or code systems", code="too-costly")

    async def _answer(self, question: Question, session: Session | None) -> tuple[Code, ...]:
        if question.kind not in ("under", "over"):
            return await self.answer(question)
        if session is None:
            text = ":below and :above of references are of searches only"
            raise BadRequest(text, code="not-supported")
        return await lineage(self.schema, session, question)

    async def parse(
        self,
        place: tuple[str, ...],
        query: tuple[tuple[str, str], ...],
        after: Cursor | None,
        session: Session | None = None,
        *,
        strict: bool,
    ) -> Parsed:
        """The plan of one page. ``place``: (), (type,) or (compartment, id, type or ``*``)."""
        type_, within = self._scope(place)
        return await self.understood(
            lambda context: parse_search(
                self.schema,
                type_,
                query,
                context,
                strict=strict,
                within=within,
                after=after,
                default_count=self.sizes.default,
                most_count=self.sizes.greatest,
            ),
            session,
        )

    def _scope(self, place: tuple[str, ...]) -> tuple[str | None, Mapping[str, Predicate] | None]:
        """The type that is searched, None for several, and what is conjoined to each."""
        if len(place) < 3:
            return (place[0] if place else None), None
        code, id_, wanted = place[:3]
        types = compartment_types(self.schema, code)
        if wanted != "*":
            if wanted not in types:
                raise NotFound(f"there is no {wanted[:64]} in a compartment of {code[:64]}")
            types = (wanted,)
        if not types:
            raise NotFound(f"{code[:64]} is not a compartment")
        within = {type_: in_compartment(self.schema, code, id_, type_) for type_ in types}
        return (None if wanted == "*" else wanted), within


def _case(cases: Mapping[str, bool | None], system: str) -> bool | None:
    """What FHIR says of a code system, else the one that is stored."""
    defined = defined_case(system)
    if defined is None:
        if system not in cases:
            raise Unloaded(Question("case", system))
        return cases[system]
    return defined


def search(searching: Searching, subsets: Subsets) -> Handler:
    """The handler of searches in one type, in all, and in a compartment; by GET and by POST."""

    async def search_(request: Request, session: Session) -> Response:
        path = request.path[:3]
        place = "/".join(path)
        url = f"{request.base}/{place}" if place else request.base
        query, trace = explained(request.query)
        after, rest, here = None, None, None
        if any(name == PARAMETER for name, _ in query):
            if len(query) != 1:
                raise BadRequest(f"{PARAMETER} goes with no other parameter")
            here = query[0][1]
            position = searching.cursors.open(session.principal, place, here)
            query, after, rest = position.query, position.after or None, position.rest
        strict = preference(request, "handling") == "strict"
        parsed = await searching.parse(path, query, after, session, strict=strict)
        cuts = (
            session.noting(subset(subsets, parsed.summary, parsed.elements)),
            session.noting(subset_of_included(subsets, parsed.summary, parsed.elements)),
        )
        if parsed.alone is not None:
            if trace is not None:
                raise BadRequest(f"{EXPLAIN} goes with no _containedType=contained")
            alone = await alone_page(parsed.search, parsed.alone, rest, session)
            entries = alone.entries(request.base, cuts[0]) + outcomes(parsed.warnings)
            links = [("self", _self(url, parsed, here, explain=False))]
            if alone.next is not None:
                sealed = searching.cursors.seal(session.principal, place, query, *alone.next)
                links.append(("next", f"{url}?{PARAMETER}={sealed}"))
            return Response(200, bundle("searchset", entries, total=alone.total, links=links))
        asked = parsed.search if rest is None else replace(parsed.search, rest=rest)
        found = await session.search(asked, trace)
        page = await as_referred(found, session)
        links = [("self", _self(url, parsed, here, explain=trace is not None))]
        if page.rest is not None or page.next is not None:
            begin = (after if page.rest is not None else page.next) or ()
            sealed = searching.cursors.seal(session.principal, place, query, begin, page.rest)
            links.append(("next", f"{url}?{PARAMETER}={sealed}"))
        entries = _entries(request.base.encode(), page, parsed.warnings, cuts)
        if trace is not None:
            entries.append(explanation(trace))
        return Response(200, bundle("searchset", entries, total=page.total, links=links))

    return search_


def _self(url: str, parsed: Parsed, here: str | None, *, explain: bool) -> str:
    shown = f"{PARAMETER}={here}" if here is not None else query_string(parsed.applied)
    if explain:
        shown += f"{'&' if shown else ''}{EXPLAIN}=true"
    return f"{url}?{shown}" if shown else url


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


_MORE: Final = "more is included: the next link leads to it, then to the next matches"


def _entries(
    base: bytes,
    page: Page,
    warnings: tuple[str, ...],
    cuts: tuple[Cut | None, Cut | None] = (None, None),
) -> list[bytes]:
    """``cuts``: what is left of the matches, and of what is included."""
    matches, included = page.matches, page.included
    cut, cut_included = cuts
    if cut is not None:
        matches = [cut(m) for m in matches]
    if cut_included is not None:
        included = [cut_included(i) for i in included]
    entries = [search_entry(base, stored, b"match") for stored in matches]
    entries += [search_entry(base, stored, b"include") for stored in included]
    return entries + outcomes(warnings, more=page.rest is not None)


def outcomes(warnings: tuple[str, ...], *, more: bool = False) -> list[bytes]:
    """The entry that says what was dropped, if there is anything to say."""
    issues = [Issue("not-supported", text, severity="warning") for text in warnings]
    if more:
        issues.append(Issue("incomplete", _MORE, severity="information"))
    if not issues:
        return []
    return [dumps({"resource": outcome(issues), "search": {"mode": "outcome"}})]


def scope_filter(searching: Searching) -> CompileFilter:
    """Compiles the search parameters of a scope, which are FHIR's own: what a posted one
    means may change while the scope is in use."""
    return joinless(replace(searching, schema=SearchSchema(searching.schema.definitions)).scope)
