"""The research face: the clinical data bank, read by researchers alone.

Searches that single people out are refused, totals are blurred (``operations/research/counting``).
There is no history, and nothing is written by HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from fhir_server.access.bank import BankPolicy, Feed
from fhir_server.access.consent.assembly import Patients
from fhir_server.access.engine import Engine
from fhir_server.access.gate import Gate, Grant, system_session
from fhir_server.access.policy import CompileFilter
from fhir_server.access.session import Session
from fhir_server.auth.identities import Identities
from fhir_server.auth.tokens import Tokens
from fhir_server.config import Settings
from fhir_server.formats.json import dumps
from fhir_server.interactions.exporting import exports
from fhir_server.interactions.ports import Handler
from fhir_server.interactions.search import Searching
from fhir_server.jobs.queue import Queue
from fhir_server.model.exchange import Request, Response
from fhir_server.model.problem import Forbidden
from operations.deidentification import deidentification
from operations.registry import Operations
from operations.research.asking import cohort_count, data_quality, lineage
from operations.research.bank import Bank
from operations.research.counting import WITHHELD, Blur
from operations.terminology import terminology_operations
from operations.terms import SourceOf
from operations.views.assembly import views

from .face import Face

RESEARCH: Final = "/research"
SEARCHES: Final = frozenset({"search-type", "search-system", "search-compartment"})
OFFERED: Final = SEARCHES | {"read", "operation"}
"""Interactions of this face."""

SINGLING: Final = frozenset({"identifier", "_id"})
"""Search parameters that find single people, also behind chains and ``_has``."""
_DAY: Final = re.compile(r"(?:eq|ne|gt|lt|ge|le|sa|eb|ap)?\d{4}-\d{2}-\d{2}.*")
_TOTAL: Final = re.compile(rb'"total":(\d+)')
_FORM: Final = frozenset({"_count", "_sort", "_summary", "_total", "_elements", "_format"})
"""Parameters that change how an answer looks, not what is found."""


def research_face(
    settings: Settings, engine: Engine, searching: Searching, tokens: Tokens, blur: Blur
) -> Face:
    """``engine``, ``searching``: of the bank; ``tokens``: of the domain."""

    def shape(handlers: dict[str, Handler]) -> dict[str, Handler]:
        offered = {name: one for name, one in handlers.items() if name in OFFERED}
        return offered | {name: blurred(handlers[name], blur) for name in SEARCHES}

    return Face(RESEARCH, settings, engine, searching, tokens, None, BankPolicy, shape)


def research_operations(face: Face, codes: SourceOf, queue: Queue, blur: Blur) -> Operations:
    """What may be asked of the bank. ``codes``: its terminology."""
    read, ledger = face.searching.criteria(), face.engine.store.ledger
    return Operations(
        (
            cohort_count(read, refuse_singling, blur),
            lineage(ledger, blur),
            data_quality(ledger, read, blur),
            *views(exports(face.searching), queue).operations(),
            *terminology_operations(codes, queue, ledger),
        )
    )


def research_bank(
    source: Engine,
    engine: Engine,
    patients: Patients,
    identities: Identities,
    scopes: CompileFilter,
    settings: Settings,
) -> Bank:
    """What the pipeline works with. ``source``: of the record, ``engine``: of the bank."""

    async def nobody(token: str) -> Grant | None:
        return None

    gate = Gate(source, nobody, scopes, patients=patients)

    async def reader() -> Session:
        epoch = await identities.records.epoch()
        grant = Grant(PIPELINE, PIPELINE, "", "system/*.rs", None, 1, epoch=epoch)
        return await gate.of(grant, "HRESCH")

    return Bank(
        feed=Feed(source),
        reader=reader,
        record=source.store.ledger,
        writer=system_session(engine, PIPELINE),
        lineage=engine.store.ledger,
        deid=deidentification(settings),
        project=settings.research_project,
        base=settings.base_url + "/fhir",
        compartment=frozenset(source.definitions.compartment("Patient")),
        now=source.now,
    )


PIPELINE: Final = "system:research"


def blurred(search: Handler, blur: Blur) -> Handler:
    """A search whose totals are blurred and that singles nobody out."""

    async def searched(request: Request, session: Session) -> Response:
        refuse_singling(request.query)
        response = await search(request, session)
        if isinstance(response.body, bytes):
            response.body = _blurred(response.body, _question(request), blur)
        return response

    return searched


def refuse_singling(query: Sequence[tuple[str, str]]) -> None:
    """Forbidden: an identifier, an id, or a day."""
    for name, value in query:
        if not SINGLING.isdisjoint(re.split(r"[.:]", name)):
            raise Forbidden(f"not permitted: {name[:80]!r} finds single people")
        if name != "_since" and any(_DAY.fullmatch(one) for one in value.split(",")):
            raise Forbidden(f"not permitted: {name[:80]!r} by the day; months are")


def _question(request: Request) -> str:
    asked = sorted(pair for pair in request.query if pair[0] not in _FORM)
    return repr((request.path, asked))


def _blurred(body: bytes, question: str, blur: Blur) -> bytes:
    """The total stands before the entries."""
    end = body.find(b'"entry":')
    found = _TOTAL.search(body, 0, end if end >= 0 else len(body))
    if found is None:
        return body
    told = blur.told(int(found[1]), question)
    shown = b'"_total":' + dumps(WITHHELD) if told is None else b'"total":%d' % told
    return body[: found.start()] + shown + body[found.end() :]
