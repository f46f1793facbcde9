"""The records of several patients, for a job that asks the same of each: what is read whole of a
patient (conditions, medications) is searched for once for all of them.

The session's policy is in that search as in any. Where it does not tell whose a resource is, or is
refused, each record is searched for itself, as it is for one patient.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from fhir_server.access.session import Session
from fhir_server.formats.json import recalled
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Problem
from fhir_server.search.plan import All, Any, InPatient, ReferenceIs, Scan, Search

from .record import Item, versioned
from .session_record import NEXT, IndexNames, SessionRecord

MOST: Final = 10_000
"""Resources of a type that are looked through for all."""
ABOUT: Final = ("subject", "patient")

Shares: TypeAlias = Mapping[str, list[Item]]
"""By patient, newest first."""


class Cohort:
    """Use inside one event loop, for one look at these patients."""

    def __init__(self, session: Session, patients: Sequence[str], index: IndexNames) -> None:
        self._session = session
        self._patients = tuple(dict.fromkeys(patients))
        self._index = index
        self._found: dict[str, asyncio.Task[Shares | None]] = {}

    def record(self, patient: str) -> SessionRecord:
        return _Member(self, self._session, patient, self._index)

    async def whole(self, type_: str) -> Shares | None:
        """None: it is to be asked patient by patient."""
        if len(self._patients) < 2:
            return None
        if type_ not in self._found:
            self._found[type_] = asyncio.ensure_future(self._shared(type_))
        return await self._found[type_]

    async def _shared(self, type_: str) -> Shares | None:
        names, ids = self._index(type_, "patient"), self._patients
        about = Any(tuple(ReferenceIs(name, "Patient", id_) for name in names for id_ in ids))
        scan = Scan(type_, All((InPatient(ids), about)))
        search: Search | None = Search((scan,), count=NEXT, total="none")
        shares: dict[str, list[Item]] = {id_: [] for id_ in ids}
        read = 0
        while search is not None:
            try:
                page = await self._session.search(search)
            except Problem:
                return None  # told to each patient for himself
            for stored in page.matches:
                resource = recalled(stored.body)
                whose = _patient_of(resource)
                if whose not in shares:
                    return None
                shares[whose].append(Item(versioned(str(stored.key), resource), resource))
            read += len(page.matches)
            if page.next and read >= MOST:
                return None
            search = replace(search, after=page.next) if page.next else None
        return shares


class _Member(SessionRecord):
    def __init__(self, cohort: Cohort, session: Session, patient: str, index: IndexNames) -> None:
        super().__init__(session, patient, index)
        self._cohort = cohort
        self._patient = patient

    async def whole(self, type_: str) -> list[Item] | None:
        shares = await self._cohort.whole(type_)
        return await super().whole(type_) if shares is None else shares[self._patient]


def _patient_of(resource: Json) -> str:
    """As it is written, if that is a plain reference; "" if nobody can tell from it."""
    told = next((resource[name] for name in ABOUT if name in resource), None)
    reference = told.get("reference") if isinstance(told, dict) else None
    return reference.removeprefix("Patient/") if isinstance(reference, str) else ""
