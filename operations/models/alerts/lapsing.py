"""Alerts that nothing supports any more end, also where nothing comes that would tell.

A patient who is not observed again sends no change by which his alert would be looked at. So the
models with alerts are asked again about the patients with an active one, by the clock: their
look-back is the rule by which a value is too old.
"""

from __future__ import annotations

from dataclasses import replace

from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.datatypes import parse_datetime
from fhir_server.model.problem import Gone, NotFound
from fhir_server.search.plan import All, Any, DateIs, Scan, Search, TokenIs

from ..asking import Asking
from ..evidence import Moment
from ..inference import needed
from ..registry import Registry
from ..session_record import IndexNames, SessionRecord
from ..triggers import subject_of
from .raising import ALERT, FLAG, Alerting

PAGE = 100


async def lapse(registry: Registry, session: Session, index: IndexNames, told: Alerting) -> None:
    """Raises Unavailable where a model cannot be run now: then no alert ends."""
    identified = Any(tuple(TokenIs(name, ALERT, None) for name in index(FLAG, "identifier")))
    now = parse_datetime(told.now).lo
    open_ = Any(tuple(DateIs(name, "gt", now, now + 1) for name in index(FLAG, "date")))
    scan = Scan(FLAG, All((identified, open_)))  # an active one has no end
    search: Search | None = Search((scan,), count=PAGE, total="none")
    while search is not None:
        page = await session.search(search)
        for stored in page.matches:
            flag = loads(stored.body)
            model = next(one["value"] for one in flag["identifier"] if one["system"] == ALERT)
            try:
                await _ask(registry, SessionRecord(session, subject_of(flag), index), model, told)
            except (NotFound, Gone):  # the patient is erased, or the model retired
                await told.close([stored.key.id])
        search = replace(search, after=page.next) if page.next else None


async def _ask(registry: Registry, reader: SessionRecord, model: str, told: Alerting) -> None:
    package = await registry.champion(model)
    asking = Asking(registry, [package], await needed(registry, [package]), asked=True)
    for inference in (await asking.about(reader, Moment.of(told.now))).inferences:
        await told.tell(inference)
