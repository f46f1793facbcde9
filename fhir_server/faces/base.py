"""A face put together: its gate, its dispatcher and the runner of its jobs."""

from __future__ import annotations

from fhir_server.access.audit.log import AuditLog
from fhir_server.access.gate import Gate, Grant
from fhir_server.access.reindexing import Reindexing
from fhir_server.access.session import Session
from fhir_server.auth.rates import Rates
from fhir_server.http.bodies import Bodies
from fhir_server.http.dispatch import Base, FhirBase, Meter
from fhir_server.http.recording import recorded_work, replayed
from fhir_server.http.routes import ROUTES, Router
from fhir_server.interactions.exporting import exports
from fhir_server.interactions.operation import deferring
from fhir_server.interactions.ports import Handler
from fhir_server.interactions.search import scope_filter
from fhir_server.jobs.model import Job
from fhir_server.jobs.pattern import AsyncPattern
from fhir_server.jobs.queue import Queue
from fhir_server.jobs.request import KIND as REQUEST
from fhir_server.jobs.request import replay
from fhir_server.jobs.runner import Runner
from operations.bulk.delivery import Delivery
from operations.bulk.taking import IMPORT, import_body
from operations.bulk.walking import EXPORT, export_body
from operations.deidentification import deidentification
from operations.import_codes import KIND as IMPORT_CODES
from operations.import_codes import import_codes_body
from operations.registry import Operations
from operations.reindex import KIND as REINDEX
from operations.reindex import reindex_body
from operations.views.assembly import views

from .face import Face
from .interactions import interactions


def fhir_base(
    face: Face,
    rows: Operations,
    meter: Meter,
    queue: Queue,
    audit: AuditLog | None,
    rates: Rates,
) -> tuple[FhirBase, Runner]:
    """The FHIR base, and the runner of its jobs. ``audit`` None: it is open to everybody, and
    nothing is recorded.
    """
    open_, settings, tokens = audit is None, face.settings, face.tokens

    async def recall(grant: str) -> Grant | None:
        return await tokens.grant(grant, face.path)

    gate = Gate(
        face.engine,
        tokens.for_audience(face.path),
        scope_filter(face.searching),
        recall=recall,
        patients=None if open_ else face.patients,
        policy=face.policy,
        open_=open_,
    )

    async def reopen(job: Job) -> Session:
        return await gate.reopen(job.grant, job.purpose)

    exported = exports(face.searching, deidentification(settings), face.codes)
    tables = views(exported, queue)
    delivery = Delivery(exported, queue.files, gate.reopen, tokens=not open_)
    pattern = AsyncPattern(
        queue, reopen, {EXPORT: delivery, **tables.shown(gate.reopen), **rows.shown}
    )
    router = Router(ROUTES, face.definitions.resource_types)
    handlers: dict[str, Handler] = {}
    bodies = Bodies(face.definitions, settings.json_limits())
    limits = Base(
        face.path, face.base, bodies, settings.request_seconds, settings.compress_above, rates
    )
    defer = deferring(rows, handlers.__getitem__, pattern.respond_async)
    base = FhirBase(limits, gate, router, handlers, meter, defer, audit)
    handlers.update(interactions(face, rows, base.perform, open_=open_))
    handlers.update(pattern.handlers())
    work = {
        REQUEST: replay(replayed(handlers.__getitem__, audit), settings.json_limits()),
        REINDEX: reindex_body(Reindexing(face.engine)),
        **recorded_work(
            {
                EXPORT: export_body(exported),
                IMPORT_CODES: import_codes_body(),
                IMPORT: import_body(settings.imports, settings.json_limits()),
                **tables.work(),
                **rows.work,
            },
            audit,
        ),
    }
    return base, Runner(queue, work, reopen, settings.running_jobs)
