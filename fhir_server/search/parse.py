"""A search query as a plan: https://hl7.org/fhir/R4/search.html

Unknown parameters are dropped with a warning, or refused when the client wants strict handling.
Everything else that is not understood is refused: it must never widen a search.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

from fhir_server.model.problem import BadRequest
from fhir_server.search.contained import within_containers
from fhir_server.search.criteria import Criteria, UnknownParameter, not_supported
from fhir_server.search.filtering import compile_filter
from fhir_server.search.parameters import Context
from fhir_server.search.plan import All, Cursor, Predicate, Scan, Search
from fhir_server.search.results import DEFAULT_COUNT, MOST_COUNT, RESULTS, Result
from fhir_server.search.schema import SearchSchema

Pairs = Iterable[tuple[str, str]]

MOST_PARAMETERS: Final = 100
ELSEWHERE: Final = frozenset({"_format", "_pretty", "_cursor"})
"""Read by the interaction or the HTTP layer, no part of the search."""
_EMPTY: Final = "{}: the value is empty"
REFUSED: Final = frozenset({"_query", "_score"})
"""Defined by FHIR for every type and not supported."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A search and what it was made of.

    ``applied``: the parameters that took effect, for the ``self`` link. ``warnings``: one text
    for each parameter that was dropped. ``summary`` true, text or data, or ``elements``: the
    parts of the resources that are wanted. ``alone``: what is sought; of a match the contained
    resources that this finds are wanted, and the match itself if it is found as well.
    """

    search: Search
    applied: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    summary: str = ""
    elements: tuple[str, ...] = ()
    alone: Scan | None = None


def parse_search(
    schema: SearchSchema,
    type: str | None,
    query: Pairs,
    context: Context,
    *,
    strict: bool = False,
    within: Mapping[str, Predicate] | None = None,
    after: Cursor | None = None,
    default_count: int = DEFAULT_COUNT,
    most_count: int = MOST_COUNT,
) -> Parsed:
    """The plan of a query. ``type`` None: a search over types, those of ``_type`` or all.

    ``within``: what is conjoined for each type, for example the compartment of the URL; other
    types are not searched. ``most_count``: a larger ``_count`` is clamped to it, and the self
    link says so. Raises BadRequest.
    """
    pairs = _checked(query)
    criteria = Criteria(schema, context)
    applied: list[tuple[str, str]] = []
    warnings: list[str] = []
    types = (type,) if type is not None else _types(criteria, pairs, within)
    result = Result(criteria, types, most_count, count=default_count)
    where: dict[str, list[Predicate]] = {t: [within[t]] if within else [] for t in types}
    seen: set[str] = set()
    for name, value in pairs:
        code, _, modifier = name.partition(":")
        if code in ELSEWHERE:
            continue
        if not value:
            # https://hl7.org/fhir/R4/search.html#errors: no error, but to be ignored.
            if strict:
                raise BadRequest(_EMPTY.format(name[:100]))
            warnings.append(_EMPTY.format(name[:100]))
        elif type is None and name == "_type":
            applied.append((name, value))
        elif code in RESULTS:
            applied.append((name, _apply(result, code, modifier, value, seen)))
        else:
            try:
                found = [_criterion(criteria, t, name, value) for t in types]
            except UnknownParameter as unknown:
                if strict:
                    raise BadRequest(str(unknown)) from None
                warnings.append(str(unknown))
                continue
            for t, predicate in zip(types, found, strict=True):
                where[t].append(predicate)
            applied.append((name, value))
    scans = tuple(Scan(t, _conjunction(where[t])) for t in types)
    alone = scans[0] if result.contained_alone and result.contained != "false" else None
    scans = within_containers(schema, result, scans, everywhere=within is None)
    search = _search(result, scans, after)
    if search.count and "_count" not in seen:
        applied.append(("_count", str(search.count)))
    return Parsed(search, tuple(applied), tuple(warnings), result.summary, result.elements, alone)


def parse_criteria(schema: SearchSchema, type: str, query: Pairs, context: Context) -> Scan:
    """The criteria of a conditional interaction: https://hl7.org/fhir/R4/http.html#ccreate

    Raises BadRequest also for unknown parameters, result parameters and no criteria at all.
    """
    criteria = Criteria(schema, context)
    parts: list[Predicate] = []
    for name, value in _checked(query):
        if name.partition(":")[0] in RESULTS:
            raise BadRequest(f"{name[:100]!r} is no criterion")
        try:
            parts.append(_criterion(criteria, type, name, value))
        except UnknownParameter as unknown:
            raise BadRequest(str(unknown)) from None
    if not parts:
        raise BadRequest("there are no search criteria")
    return Scan(type, _conjunction(parts))


def _checked(query: Pairs) -> list[tuple[str, str]]:
    """The pairs, refused when there are too many or when one is not text."""
    pairs = list(query)
    if len(pairs) > MOST_PARAMETERS:
        raise BadRequest(f"more than {MOST_PARAMETERS} parameters", code="too-costly")
    for text in chain.from_iterable(pairs):
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise BadRequest("the query is not valid UTF-8") from None
        if "\0" in text:
            raise BadRequest("the query contains a NUL character")
    return pairs


def _criterion(criteria: Criteria, type: str, name: str, value: str) -> Predicate:
    code = name.partition(":")[0]
    if code in REFUSED:
        not_supported(f"the search parameter {code!r} is not supported")
    if not value:
        raise BadRequest(_EMPTY.format(name[:100]))
    if name == "_filter":
        return compile_filter(criteria, type, value)
    return criteria.compile(type, name, value)


def _conjunction(parts: list[Predicate]) -> Predicate:
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _types(
    criteria: Criteria, pairs: list[tuple[str, str]], within: Mapping[str, Predicate] | None
) -> tuple[str, ...]:
    named = [value for name, value in pairs if name == "_type" and value]
    if not named:
        return tuple(sorted(criteria.schema.types if within is None else within))
    types = dict.fromkeys(type for value in named for type in value.split(","))
    for type in types:
        criteria.known_type(type, "_type")
        if within is not None and type not in within:
            raise BadRequest(f"_type: {type} is not in this compartment")
    return tuple(types)


def _apply(result: Result, code: str, modifier: str, value: str, seen: set[str]) -> str:
    row = RESULTS[code]
    if modifier and modifier not in row.modifiers:
        not_supported(f"{code}: the modifier ':{modifier[:64]}' is not supported here")
    if code in seen and not row.repeats:
        raise BadRequest(f"{code} is given more than once")
    seen.add(code)
    return row.apply(result, modifier, value)


def _search(result: Result, scans: tuple[Scan, ...], after: Cursor | None) -> Search:
    counting = result.summary == "count" or result.count == 0
    if result.includes and result.summary == "text":
        raise BadRequest("_summary=text goes with no _include and no _revinclude")
    return Search(
        scans,
        sort=result.sort,
        count=0 if counting else result.count,
        after=None if counting else after,
        includes=() if counting else tuple(result.includes),
        total="exact" if counting else result.total,
    )
