"""The authorization server, put together from what it is handed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from fhir_server.access.policy import CompileFilter
from fhir_server.access.session import Session
from fhir_server.auth.approvals import Approvals
from fhir_server.auth.assertions import Assertions
from fhir_server.auth.identities import Identities
from fhir_server.auth.keys import Keys
from fhir_server.auth.negotiation import Negotiation
from fhir_server.auth.outbound import Outbound
from fhir_server.auth.rates import Rates
from fhir_server.auth.server import Chart, Record, Rules, Server
from fhir_server.auth.websessions import WebSessions
from fhir_server.formats.json import loads
from fhir_server.search.plan import All, IdIn, InPatient, Scan, Search

TOGETHER: Final = 500
"""Patients that are read at a time."""


def authorization_server(
    identities: Identities,
    rules: Rules,
    keys: Path | None,
    outbound: Outbound,
    session: Session,
    types: Collection[str],
    compile_filter: CompileFilter,
    rates: Rates,
) -> Server:
    """``keys``: the folder of the key file, None to keep none. ``session``: a system session
    by which names of patients are read for the pages.
    """
    records = identities.records
    ring = Keys(keys, records.now)
    sessions = WebSessions(records, identities.users)
    return Server(
        rules=rules,
        identities=identities,
        keys=ring,
        sessions=sessions,
        approvals=Approvals(records, identities.tokens, sessions, ring.seals),
        assertions=Assertions(records, outbound, rules.url("token")),
        negotiation=Negotiation(frozenset(types), compile_filter),
        record=_record(session),
        rates=rates,
    )


def _record(session: Session) -> Record:
    async def charts(patients: tuple[str, ...]) -> list[Chart]:
        found: list[Chart] = []
        for start in range(0, len(patients), TOGETHER):
            ids = patients[start : start + TOGETHER]
            search = Search((Scan("Patient", IdIn(ids)),), count=len(ids), total="none")
            found += [_chart(loads(m.body)) for m in (await session.search(search)).matches]
        return found

    async def has_encounter(encounter: str, patient: str) -> bool:
        where = All((IdIn((encounter,)), InPatient((patient,))))
        return bool((await session.find(Scan("Encounter", where))).ids)

    return Record(charts, has_encounter)


def _chart(patient: dict[str, Any]) -> Chart:
    names = sorted(patient.get("name", ()), key=lambda n: n.get("use") != "official")
    name = names[0] if names else {}
    given = " ".join(str(part) for part in name.get("given", ()) if part)
    whole = name.get("text") or f"{given} {name.get('family', '')}".strip()
    return Chart(patient["id"], whole, str(patient.get("birthDate", "")))
