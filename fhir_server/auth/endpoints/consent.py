"""The pages between signing in and the code: which patient, and what the app may do."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from fhir_server.access.ports import Row
from fhir_server.auth.codes import Codes, Grounds
from fhir_server.auth.exchange import Ask, PageRefusal, RedirectRefusal, Reply, redirect
from fhir_server.auth.launches import Launch, Launches
from fhir_server.auth.negotiation import chosen, needs_patient
from fhir_server.auth.notes import note
from fhir_server.auth.render import catalogue, language_of, page
from fhir_server.auth.requests import Asked, answered, refused
from fhir_server.auth.server import Server, Visit
from fhir_server.auth.steps import (
    Step,
    browser,
    check_csrf,
    csrf,
    opened,
    renewed,
    sealed,
    signed_in,
    step_url,
)
from fhir_server.auth.tokens import Held
from fhir_server.auth.websessions import WebSession
from fhir_server.auth.wording import lines

MOST_CHARTS = 200
"""Patients on one page of the picker; the filter finds the others."""


async def choose(server: Server, ask: Ask, step: Step, session: WebSession) -> Reply:
    """The picker or the consent page; RedirectRefusal becomes the answer to the app."""
    asked = _asked(step)
    try:
        launch = await _launch(server, asked, session)
        patient = await _patient(server, step, session, launch)
    except RedirectRefusal as refusal:
        return refused(server, asked.redirect, asked.state, refusal)
    if patient is None:
        return await _picker(server, ask, step, session)
    if _asks_encounter(asked) and step.encounter is None:
        visits = await server.record.visits(patient, session.user.name)
        if visits:
            return await _visits(
                server, ask, renewed(server, step, patient=patient), session, visits
            )
    return await _consent(server, ask, renewed(server, step, patient=patient), session)


def _asked(step: Step) -> Asked:
    if step.asked is None:
        raise PageRefusal("bad-request")
    return step.asked


async def _launch(server: Server, asked: Asked, session: WebSession) -> tuple[Launch, Row] | None:
    if not asked.launch:
        return None
    found = await Launches(server.identities.records).find(asked.launch)
    if found is None or (found[0].user, found[0].client) != (session.user.name, asked.client):
        raise RedirectRefusal("invalid_request", "launch is not known")
    return found


async def _patient(
    server: Server, step: Step, session: WebSession, launch: tuple[Launch, Row] | None
) -> str | None:
    """The patient in context, "" if none is needed, None if the user has to choose."""
    patients = await server.identities.people.patients(session.user)
    if launch is not None:
        if launch[0].patient not in patients:
            raise RedirectRefusal("access_denied", "the patient is not in the user's care")
        return launch[0].patient
    if not needs_patient(_asked(step).scope):
        return ""
    if not patients:
        raise RedirectRefusal("access_denied", "no patient is in the user's care")
    if patients == (session.user.patient,):
        return session.user.patient
    return step.patient if step.patient in patients else None


async def _picker(server: Server, ask: Ask, step: Step, session: WebSession) -> Reply:
    wanted = "".join(value for name, value in ask.query if name == "filter").casefold()
    patients = await server.identities.people.patients(session.user)
    charts = await server.record.charts(patients)
    known = {chart.id for chart in charts}
    found = [c for c in charts if wanted in c.name.casefold() or wanted == c.id.casefold()]
    form, cookies = browser(server, ask)
    values = {
        "title": "patient-title",
        "request": sealed(server, step),
        "csrf": csrf(server, form, session),
        "charts": sorted(found, key=lambda c: (c.name.casefold(), c.id))[:MOST_CHARTS],
        "filter": wanted,
        "filtered": len(known) > 10,
    }
    return page(server, ask, "patient", values, cookies=cookies)


async def patient(server: Server, ask: Ask) -> Reply:
    """Takes the choice of the picker."""
    step = opened(server, ask.value("request"))
    session = await signed_in(server, ask)
    check_csrf(server, ask, session)
    if session is None:
        return redirect(step_url(server, renewed(server, step)))
    wanted = ask.value("patient")
    if wanted not in await server.identities.people.patients(session.user):
        raise PageRefusal("not-your-patient", 403)
    return redirect(step_url(server, renewed(server, step, patient=wanted)))


def _asks_encounter(asked: Asked) -> bool:
    """A standalone app that wants an encounter; with a launch it is the EHR's."""
    return "launch/encounter" in asked.scope and not asked.launch


async def _visits(
    server: Server, ask: Ask, step: Step, session: WebSession, visits: list[Visit]
) -> Reply:
    form, cookies = browser(server, ask)
    charts = await server.record.charts((step.patient,))
    values = {
        "title": "encounter-title",
        "request": sealed(server, step),
        "csrf": csrf(server, form, session),
        "patient": charts[0].name if charts else step.patient,
        "visits": visits,
    }
    return page(server, ask, "encounter", values, cookies=cookies)


async def encounter(server: Server, ask: Ask) -> Reply:
    """Takes the choice of an encounter, or of none."""
    step = opened(server, ask.value("request"))
    session = await signed_in(server, ask)
    check_csrf(server, ask, session)
    if session is None:
        return redirect(step_url(server, renewed(server, step)))
    wanted = ask.value("encounter")
    if step.patient not in await server.identities.people.patients(session.user):
        raise PageRefusal("not-your-patient", 403)
    if wanted and not await server.record.has_encounter(wanted, step.patient, session.user.name):
        raise PageRefusal("not-your-patient", 403)
    return redirect(step_url(server, renewed(server, step, encounter=wanted)))


async def _consent(server: Server, ask: Ask, step: Step, session: WebSession) -> Reply:
    asked = _asked(step)
    client = await server.identities.clients.find(asked.client)
    if client is None or client.disabled:
        raise PageRefusal("unknown-client")
    charts = await server.record.charts((step.patient,)) if step.patient else []
    form, cookies = browser(server, ask)
    offline, online = "offline_access" in asked.scope, "online_access" in asked.scope
    target = urlsplit(asked.redirect)
    values: dict[str, Any] = {
        "title": "consent-title",
        "request": sealed(server, step),
        "csrf": csrf(server, form, session),
        "app": client.name,
        "user": session.user.name,
        "patient": charts[0].name if charts else step.patient,
        "host": target.netloc or target.scheme,
        "lines": lines(server.negotiation.offers(asked.scope), catalogue(language_of(server, ask))),
        "duration": "offline" if offline else "online" if online else "once",
    }
    back = f"{target.scheme}://{target.netloc}" if target.netloc else f"{target.scheme}:"
    return page(server, ask, "consent", values, target=back, cookies=cookies)


async def consent(server: Server, ask: Ask) -> Reply:
    """Takes the decision, and gives the app a code or an error."""
    step = opened(server, ask.value("request"))
    session = await signed_in(server, ask)
    check_csrf(server, ask, session)
    if session is None:
        return redirect(step_url(server, renewed(server, step)))
    asked = _asked(step)
    who = {"user": session.user.name, "client": asked.client}
    try:
        code, held = await _decided(server, ask, step, session)
    except RedirectRefusal as refusal:
        await note(server, ask, "authorize", "refused", **who, reason=refusal.error)
        return refused(server, asked.redirect, asked.state, refusal)
    await note(server, ask, "authorize", **who, patient=held.patient or "")
    return answered(server, asked.redirect, asked.state, code=code)


async def _decided(server: Server, ask: Ask, step: Step, session: WebSession) -> tuple[str, Held]:
    """A code for what was approved. Everything is judged anew: time has gone by."""
    asked = _asked(step)
    if ask.value("decision") != "approve":
        raise RedirectRefusal("access_denied", "the user refused")
    client = await server.identities.clients.find(asked.client)
    if client is None or client.disabled or not client.redirects_to(asked.redirect):
        raise PageRefusal("unknown-client")
    scope = chosen(server.negotiation.offers(asked.scope), ask.values("scope"))
    if scope is None:
        raise PageRefusal("bad-request")
    if not scope:
        raise RedirectRefusal("access_denied", "the user left nothing to the app")
    launch = await _launch(server, asked, session)
    patient = await _patient(server, step, session, launch)
    if patient is None:
        raise PageRefusal("bad-request")
    wanted = patient if needs_patient(scope) or "launch" in scope else ""
    held = Held(
        " ".join(scope),
        client.id,
        session.user.name,
        wanted or None,
        asked.face,
        context=_context(server, scope, await _open(server, step, launch, wanted, session), wanted),
    )
    grounds = Grounds(asked.redirect, asked.challenge, asked.nonce, session.id, session.since, held)
    code, write = Codes(server.identities.records, server.approvals).made(grounds)
    launches = Launches(server.identities.records)
    spent = (launches.spending(launch[1]),) if launch else ()
    if not await server.identities.records.commit(write, *spent):
        raise RedirectRefusal("invalid_request", "launch was used before")
    return code, held


async def _open(
    server: Server,
    step: Step,
    launch: tuple[Launch, Row] | None,
    patient: str,
    session: WebSession,
) -> Launch | None:
    """What is open beside the patient: of the launch, or as the user chose."""
    if not patient:
        return None
    if launch is not None:
        return launch[0]
    chosen_ = step.encounter if step.patient == patient else ""
    if not chosen_ or not await server.record.has_encounter(chosen_, patient, session.user.name):
        return None
    return Launch("", "", patient, chosen_)


def _context(
    server: Server, scope: list[str], launch: Launch | None, patient: str
) -> dict[str, Any]:
    """What the app is told beside the patient."""
    found: dict[str, Any] = {}
    if patient:
        found["need_patient_banner"] = True
        found["smart_style_url"] = server.rules.url("style.json")
    if launch is None:
        return found
    if launch.encounter and {"launch", "launch/encounter"} & set(scope):
        found["encounter"] = launch.encounter
    if launch.intent:
        found["intent"] = launch.intent
    if launch.context:
        found["fhirContext"] = launch.context
    return found
