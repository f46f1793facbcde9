"""What one kick-off asks for, understood once and kept with the job as small JSON.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html#query-parameters. What is not understood is
refused; under ``Prefer: handling=lenient`` it is passed over and told in the error file.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import parse_qsl

from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.jobs.request import prefers_async
from fhir_server.model.datatypes import parse_instant
from fhir_server.model.exchange import Json, Request
from fhir_server.model.problem import BadRequest, Forbidden, Problem
from fhir_server.model.resource import ID_PATTERN, Stored
from fhir_server.search.plan import (
    FALSE,
    TRUE,
    Any,
    EachPatient,
    IdIn,
    InPatient,
    Not,
    Predicate,
    Present,
    ReferenceIs,
    Scan,
    Search,
    UpdatedIs,
    both,
)
from fhir_server.search.schema import SearchSchema
from operations.deid.assembly import Deidentification
from operations.parameters import Arguments

from .generalising import ParentsFor

FORMATS: Final = frozenset(
    {"application/fhir+ndjson", "application/fhir ndjson", "application/ndjson", "ndjson"}
)
"""``_outputFormat``; a plus sign that was not escaped arrives as a space."""

FEW: Final = 100
"""Patients of whom the compartments are walked; of more, the whole types are."""

TOGETHER: Final = 1000
"""Patients that one search names."""

MOST_NAMED: Final = 10_000
"""Patients that a kick-off may name; they are kept with the job."""

BESIDE: Final = {"Device": "patient"}
"""A type outside of the Patient compartment (R4) that clients expect with it, and the parameter
by which it names its patient, one at most (https://hl7.org/fhir/R4/device.html)."""

_NEXT_FILTER: Final = re.compile(r",(?=[A-Z][A-Za-z]+\?)")

Read = Callable[[str, Sequence[tuple[str, str]]], Awaitable[Scan]]
"""(type, search parameters) -> the Scan; BadRequest for what is not understood."""

Cut = Callable[[Stored], Stored]
Part = Callable[[tuple[str, ...], str], Cut | None]
"""(types, ``_elements``) -> what is left of a resource."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One export. ``level``: system, Patient or Group; ``group``, ``version``: of the Group.
    ``patients``: those that are named, None: all. ``since``: as it was written. ``as_of``: position
    in the change feed; ``moment``: microseconds, taken just before. ``ignored``: what a lenient
    client is told. ``anonymize``, ``project``: the profile by which it is de-identified, "": not.
    """

    level: str
    types: tuple[str, ...]
    group: str = ""
    version: int = 0
    patients: tuple[str, ...] | None = None
    since: str = ""
    elements: str = ""
    filters: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    as_of: int = 0
    moment: int = 0
    method: str = "GET"
    url: str = ""
    anonymize: str = ""
    project: str = ""

    def to_json(self) -> Json:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def of(cls, stored: Mapping[str, object]) -> Wanted:
        """From the job's request, which knows lists only."""
        values = {name: _tuples(value) for name, value in stored.items()}
        return cls(**values)  # type: ignore[arg-type]

    def asked(self) -> bytes:
        """What the audit trail tells of it: the kinds of data, and if it was without names."""
        profile = f"&_anonymize={self.anonymize}" if self.anonymize else ""
        return f"_type={','.join(self.types)}{profile}".encode()

    @property
    def updated(self) -> Predicate:
        """``_since``: strictly later, as finely as it is written."""
        if not self.since:
            return TRUE
        moment = parse_instant(self.since) + 1000
        return UpdatedIs("ge", moment, moment + 1)


def _tuples(value: object) -> object:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Exports:
    """What exports are understood and walked with. ``read``, ``part``: of searches. ``deid``: None
    where nothing is de-identified. ``parents``: what codes are kinds of; None: nobody is asked."""

    schema: SearchSchema
    read: Read
    part: Part
    deid: Deidentification | None = None
    parents: ParentsFor | None = None

    def types(self, level: str) -> frozenset[str]:
        """What a level may hold."""
        if level == "system":
            return self.schema.types
        return frozenset({"Patient", *self.schema.definitions.compartment("Patient"), *BESIDE})

    async def understood(
        self, level: str, arguments: Arguments, session: Session, request: Request
    ) -> Wanted:
        """The export; a Problem for what cannot be done."""
        asking = _Asking(self, level, arguments, session, lenient(request))
        asking.formalities(request)
        profile, project = asking.anonymize(request)
        wanted = Wanted(
            level,
            types=asking.types(),
            since=arguments.one("_since", ""),
            method=request.method,
            anonymize=profile,
            project=project,
        )
        elements = ",".join(arguments.all("_elements"))
        if elements:
            self.part(wanted.types, elements)
        filters = await asking.filters(wanted.types)
        return replace(wanted, elements=elements, filters=filters, ignored=tuple(asking.ignored))

    async def scans(self, wanted: Wanted, cohort: Sequence[str] | None) -> list[Scan]:
        """The searches, in order of types. ``cohort``: the patients, None: all of them."""
        found: list[Scan] = []
        for type_ in wanted.types:
            of_type = [
                (await self.read(type_, pairs(query))).where
                for named, query in wanted.filters
                if named == type_
            ]
            where = wanted.updated
            if of_type:
                where = both(of_type[0] if len(of_type) == 1 else Any(tuple(of_type)), where)
            members = self.members(wanted.level, type_, cohort)
            found += [Scan(type_, both(member, where)) for member in members]
        return found

    def members(self, level: str, type_: str, cohort: Sequence[str] | None) -> list[Predicate]:
        """What of a type belongs to an export: predicates of which no two hold together."""
        if level == "system":
            return [TRUE]
        if type_ == "Patient":
            if cohort is None:
                return [TRUE]
            some = range(0, len(cohort), TOGETHER)
            return [IdIn(tuple(cohort[start : start + TOGETHER])) for start in some]
        if type_ in BESIDE:
            return self._about(type_, cohort)
        params = self.schema.of(type_).patient
        if cohort is None:
            return [Not(EachPatient({}, FALSE, params))]
        if not cohort:
            return []
        if len(cohort) <= FEW:
            return [InPatient(tuple(cohort))]
        return [Not(EachPatient(dict.fromkeys(cohort, FALSE), TRUE, params))]

    def _about(self, type_: str, cohort: Sequence[str] | None) -> list[Predicate]:
        """Of a type outside of the compartment, what names one of the patients."""
        index = self.schema.of(type_).parameters[BESIDE[type_]].index
        if cohort is None:
            return [Present(index, "reference", ("Patient",))]
        return [
            Any(tuple(ReferenceIs(index, "Patient", id_) for id_ in cohort[start : start + FEW]))
            for start in range(0, len(cohort), FEW)
        ]


@dataclass(slots=True)
class _Asking:
    """One kick-off while it is being read."""

    exports: Exports
    level: str
    arguments: Arguments
    session: Session
    lenient: bool
    ignored: list[str]

    def __init__(
        self, exports: Exports, level: str, arguments: Arguments, session: Session, lenient: bool
    ) -> None:
        self.exports, self.level, self.arguments = exports, level, arguments
        self.session, self.lenient, self.ignored = session, lenient, []

    def refuse(self, problem: Problem) -> None:
        """Or note it, if the client would rather have the rest."""
        if not self.lenient:
            raise problem
        self.ignored += [issue.diagnostics for issue in problem.issues]

    def formalities(self, request: Request) -> None:
        if not prefers_async(request):
            raise BadRequest("$export needs the header Prefer: respond-async", code="required")
        format_ = self.arguments.one("_outputFormat", "ndjson")
        if format_ not in FORMATS:
            text = f"_outputFormat: {format_[:80]!r} is not supported, only ndjson"
            raise BadRequest(text, code="not-supported")
        if self.arguments.all("includeAssociatedData"):
            text = "includeAssociatedData is not supported"
            self.refuse(BadRequest(text, code="not-supported"))
        for name, _ in self.arguments.criteria:
            text = f"the parameter {name[:80]!r} is not supported"
            self.refuse(BadRequest(text, code="not-supported"))

    def anonymize(self, request: Request) -> tuple[str, str]:
        """Profile and project, if they can be used: also a lenient client is refused, never given
        what is not de-identified."""
        profile: str = self.arguments.one("_anonymize", "")
        project: str = self.arguments.one("_project", "")
        if not profile:
            if project or "_anonymize" in dict(request.query):
                raise BadRequest("_anonymize: the name of a profile is needed", code="required")
        elif self.exports.deid is None:
            raise BadRequest("_anonymize is not supported here", code="not-supported")
        else:
            self.exports.deid.begin(profile, project, 0, request.base)
        return profile, project

    def types(self) -> tuple[str, ...]:
        """Those that are asked for, or all that the scopes open."""
        known, policy = self.exports.types(self.level), self.session.policy
        asked = [t for text in self.arguments.all("_type") for t in text.split(",")]
        chosen: dict[str, None] = {}
        for type_ in asked:
            if type_ not in known:
                text = f"_type: {type_[:64]!r} is not part of this export"
                self.refuse(BadRequest(text, code="not-supported"))
            elif not (policy.allows("r", type_) and policy.allows("s", type_)):
                self.refuse(Forbidden(f"not permitted: export {type_}"))
            else:
                chosen[type_] = None
        if asked:
            return tuple(sorted(chosen))
        return tuple(t for t in sorted(known) if policy.allows("r", t) and policy.allows("s", t))

    async def filters(self, types: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """(type, query) of each ``_typeFilter``."""
        found: list[tuple[str, str]] = []
        for text in self.arguments.all("_typeFilter"):
            for one in _NEXT_FILTER.split(text):
                type_, _, query = one.partition("?")
                try:
                    if type_ not in types:
                        raise BadRequest(f"_typeFilter: {type_[:64]!r} is not exported")
                    await self.exports.read(type_, pairs(query))
                except Problem as problem:
                    self.refuse(problem)
                else:
                    found.append((type_, query))
        return tuple(found)


def lenient(request: Request) -> bool:
    """https://hl7.org/fhir/R4/search.html#lenient"""
    return "handling=lenient" in (request.header("prefer") or "").replace(" ", "").lower()


def pairs(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)


def named_patients(references: Sequence[Json]) -> tuple[str, ...] | None:
    """The ids of ``patient``; None if nobody is named. BadRequest for what is no patient."""
    found: dict[str, None] = {}
    for reference in references:
        literal = reference.get("reference")
        id_ = literal.rpartition("Patient/")[2] if isinstance(literal, str) else ""
        if not isinstance(literal, str) or ID_PATTERN.fullmatch(id_) is None:
            raise BadRequest("patient: a reference to a Patient is needed", code="value")
        found[id_] = None
    if len(found) > MOST_NAMED:
        raise BadRequest(f"more than {MOST_NAMED} patients", code="too-costly")
    return tuple(found) if found else None


def members_of(group: Stored) -> tuple[str, ...]:
    """The patients of a Group, without those who have left it."""
    found: dict[str, None] = {}
    for member in loads(group.body).get("member", ()):
        literal = member.get("entity", {}).get("reference", "")
        if not member.get("inactive") and "Patient/" in literal:
            found[literal.rpartition("Patient/")[2].partition("/")[0]] = None
    return tuple(found)


async def visible_patients(session: Session, ids: Sequence[str]) -> frozenset[str]:
    """Those of them whom the caller may see now."""
    found: set[str] = set()
    for start in range(0, len(ids), TOGETHER):
        scan = Scan("Patient", IdIn(tuple(ids[start : start + TOGETHER])))
        page = await session.search(Search((scan,), count=TOGETHER, total="none"))
        found.update(stored.key.id for stored in page.matches)
    return frozenset(found)
