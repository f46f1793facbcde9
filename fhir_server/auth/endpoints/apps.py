"""The page of apps with access, where a user withdraws it."""

from __future__ import annotations

from datetime import UTC, datetime

from fhir_server.auth.exchange import Ask, PageRefusal, Reply, redirect
from fhir_server.auth.notes import note
from fhir_server.auth.render import catalogue, language_of, page
from fhir_server.auth.server import AUTH, Server
from fhir_server.auth.steps import begin, browser, check_csrf, csrf, signed_in
from fhir_server.auth.wording import lines


async def apps(server: Server, ask: Ask) -> Reply:
    """What the signed-in user let apps do."""
    session = await signed_in(server, ask)
    if session is None:
        return begin(server, "apps", None)
    form, cookies = browser(server, ask)
    texts = catalogue(language_of(server, ask))
    approvals = await server.approvals.of_user(session.user.name)
    wanted = {one.held.patient for one in approvals if one.held.patient}
    names = {c.id: c.name for c in await server.record.charts(tuple(sorted(wanted)))}
    rows = []
    for approval in approvals:
        if not await server.approvals.acts(approval):
            continue
        client = await server.identities.clients.find(approval.held.client)
        offers = server.negotiation.offers(approval.held.scope.split())
        rows.append(
            {
                "id": approval.id,
                "app": client.name if client else approval.held.client,
                "patient": names.get(patient := approval.held.patient or "") or patient,
                "lines": [line["text"] for line in lines(offers, texts)],
                "since": _day(approval.created),
                "used": _day(approval.used),
                "offline": approval.refreshes and not approval.session,
            }
        )
    values = {"title": "apps-title", "rows": rows, "csrf": csrf(server, form, session)}
    return page(server, ask, "apps", values, cookies=cookies)


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


async def withdraw(server: Server, ask: Ask) -> Reply:
    """One click: the app's next request is refused."""
    session = await signed_in(server, ask)
    check_csrf(server, ask, session)
    if session is None:
        return begin(server, "apps", None)
    approvals = await server.approvals.of_user(session.user.name)
    own = {approval.id: approval.held for approval in approvals}
    held = own.get(ask.value("approval"))
    if held is None:
        raise PageRefusal("bad-request", 403)
    await server.approvals.withdraw(ask.value("approval"))
    who = {"user": session.user.name, "client": held.client, "patient": held.patient or ""}
    await note(server, ask, "withdraw", **who)
    return redirect(f"{AUTH}/apps")
