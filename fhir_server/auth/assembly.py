"""The authorization server, put together from what it is handed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from fhir_server.access.gate import Gate, Grant
from fhir_server.access.policy import CompileFilter
from fhir_server.access.session import Session
from fhir_server.auth.approvals import Approvals
from fhir_server.auth.assertions import Assertions
from fhir_server.auth.identities import Identities
from fhir_server.auth.keys import Keys
from fhir_server.auth.negotiation import Negotiation
from fhir_server.auth.outbound import Outbound
from fhir_server.auth.provider import External, Provider, provider_of
from fhir_server.auth.rates import Rates
from fhir_server.auth.server import Chart, FindCharts, Record, Rules, Server, Visit
from fhir_server.auth.websessions import WebSessions
from fhir_server.config import Settings
from fhir_server.formats.json import loads
from fhir_server.search.plan import All, IdIn, InPatient, Scan, Search

VISITS: Final = 50
"""Encounters in the picker."""
TOGETHER: Final = 500
"""Patients that are read at a time."""


def rules_of(settings: Settings, face: str) -> Rules:
    """``face``: the path of the base that tokens are for."""
    required = settings.second_factor == "required"
    registration = settings.registration == "token"
    zone = settings.time_zone
    further = ("/research",) if settings.research == "on" else ()
    return Rules(settings.domain, settings.base_url, face, required, registration, zone, further)


def authorization_server(
    identities: Identities,
    rules: Rules,
    session: Session,
    gate: Gate,
    types: Collection[str],
    compile_filter: CompileFilter,
    rates: Rates,
    settings: Settings,
) -> Server:
    """``session``: a system session by which names of patients are read for the pages; ``gate``: by
    which they read what a user may see.

    SettingsError for a login provider that cannot be used.
    """
    provider = provider_of(settings.login_provider) if settings.login_provider else None
    inside = (urlsplit(provider.issuer).hostname or "",) if provider and provider.private else ()
    outbound = Outbound(loopback=settings.outbound_loopback == "yes", inside=inside)
    records = identities.records
    ring = Keys(None if settings.store == "memory:" else settings.data, records.now)
    sessions = WebSessions(records, identities.users)
    return Server(
        rules=rules,
        identities=identities,
        keys=ring,
        sessions=sessions,
        approvals=Approvals(records, identities.tokens, sessions, ring.seals),
        assertions=Assertions(records, outbound, rules.url("token")),
        negotiation=Negotiation(frozenset(types), compile_filter),
        record=record_of(session, gate, identities),
        rates=rates,
        external=_external(provider, outbound, records.now, rules) if provider else None,
    )


def _external(
    provider: Provider, outbound: Outbound, now: Callable[[], float], rules: Rules
) -> External:
    return External(provider, outbound, now, rules.url("external/callback"))


def record_of(session: Session, gate: Gate, identities: Identities) -> Record:
    """Names by a system session, visits as the user may see them."""

    async def seen(user: str, patient: str) -> Session:
        standing, _ = await identities.people.standing(user)
        epoch = await identities.records.epoch()
        name = f"pages:{user}:{patient}"
        return await gate.of(Grant(name, "", user, VISITING, patient, epoch, standing, epoch))

    async def has_encounter(encounter: str, patient: str, user: str) -> bool:
        where = All((IdIn((encounter,)), InPatient((patient,))))
        return bool((await (await seen(user, patient)).find(Scan("Encounter", where))).ids)

    async def visits(patient: str, user: str) -> list[Visit]:
        where = Scan("Encounter", InPatient((patient,)))
        search = Search((where,), count=VISITS, total="none")
        found = await (await seen(user, patient)).search(search)
        return [_visit(loads(match.body)) for match in found.matches]

    return Record(charts_of(session), has_encounter, visits)


def charts_of(session: Session) -> FindCharts:
    """The names of patients as a system session reads them."""

    async def charts(patients: tuple[str, ...]) -> list[Chart]:
        found: list[Chart] = []
        for start in range(0, len(patients), TOGETHER):
            ids = patients[start : start + TOGETHER]
            search = Search((Scan("Patient", IdIn(ids)),), count=len(ids), total="none")
            found += [_chart(loads(m.body)) for m in (await session.search(search)).matches]
        return found

    return charts


VISITING: Final = "patient/Encounter.rs"
"""What the pages read of a patient, within role, relationship and consent."""


def _chart(patient: dict[str, Any]) -> Chart:
    names = sorted(patient.get("name", ()), key=lambda n: n.get("use") != "official")
    name = names[0] if names else {}
    given = " ".join(str(part) for part in name.get("given", ()) if part)
    whole = name.get("text") or f"{given} {name.get('family', '')}".strip()
    return Chart(patient["id"], whole, str(patient.get("birthDate", "")))


def _visit(encounter: dict[str, Any]) -> Visit:
    types = [one.get("text") or _shown(one.get("coding", ())) for one in encounter.get("type", ())]
    what = next(filter(None, types), "") or _shown([encounter.get("class", {})])
    when = str(encounter.get("period", {}).get("start", ""))
    return Visit(encounter["id"], when[:16].replace("T", " "), what)


def _shown(codings: Sequence[dict[str, Any]]) -> str:
    texts = (coding.get("display") or coding.get("code", "") for coding in codings)
    return str(next(filter(None, texts), ""))
