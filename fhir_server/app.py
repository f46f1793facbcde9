"""The composition root: the parts of the server and how they are put together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from fhir_server.access.audit.keeping import by_itself, recording
from fhir_server.access.audit.log import AuditLog, either
from fhir_server.access.commit import committing
from fhir_server.access.concepts import ConceptFiles
from fhir_server.access.conformance.assembly import conforming
from fhir_server.access.consent.assembly import Patients, patients
from fhir_server.access.consent.domain import as_implicit
from fhir_server.access.consent.source import Here
from fhir_server.access.contents import own_contents
from fhir_server.access.engine import Engine
from fhir_server.access.gate import Gate, system_session
from fhir_server.access.index_form import renew_index
from fhir_server.access.labels import Labelling, digest_of, labelled, sensitivity_rules
from fhir_server.access.parameters import PostedParameters
from fhir_server.access.previewing import Previewing
from fhir_server.access.session import Session
from fhir_server.access.upkeep import upkeep
from fhir_server.auth.assembly import authorization_server, rules_of
from fhir_server.auth.clients import Origins
from fhir_server.auth.identities import Identities
from fhir_server.auth.rates import Rates, rates_of
from fhir_server.auth.routes import ENDPOINTS
from fhir_server.auth.terminology import terminology_relay
from fhir_server.auth.tokens import Tokens
from fhir_server.config import Settings
from fhir_server.config_table import settings_rows
from fhir_server.definitions.registry import Definitions, load
from fhir_server.faces.base import fhir_base
from fhir_server.faces.face import Face
from fhir_server.faces.research import (
    RESEARCH,
    research_bank,
    research_face,
    research_operations,
)
from fhir_server.http.dispatch import Meter
from fhir_server.http.front import Front
from fhir_server.http.inference import InferenceFace
from fhir_server.http.middleware import Edge, edge_rules
from fhir_server.http.models import DEID, DOCUMENTS, ModelFace
from fhir_server.http.openapi import OpenApi
from fhir_server.http.openapi_auth import SCHEMES, auth_paths
from fhir_server.http.openapi_models import model_paths
from fhir_server.http.pages import Metrics, pages
from fhir_server.http.respond import Asgi
from fhir_server.http.routes import ROUTES
from fhir_server.http.security import SecurityTrail
from fhir_server.http.site import AuthSite
from fhir_server.interactions.cursors import Cursors, cursor_key
from fhir_server.interactions.exporting import exports
from fhir_server.interactions.history import PageSizes
from fhir_server.interactions.search import Searching, scope_filter
from fhir_server.interactions.searchsets import searchsets
from fhir_server.interactions.terminology import sources
from fhir_server.jobs.files import JobFiles
from fhir_server.jobs.model import JobRules
from fhir_server.jobs.queue import Queue
from fhir_server.model.fresh import micros as micros
from fhir_server.model.fresh import new_id
from fhir_server.model.software import software_version as software_version
from fhir_server.search.extended import ExtendedSchema
from fhir_server.search.extract import compile_extract
from fhir_server.search.match import matches
from fhir_server.search.parameters import Limits
from fhir_server.store.base import Store
from fhir_server.store.erase_log import EraseLog
from fhir_server.store.ledger import Ledger
from fhir_server.store.opening import bank_settings, data_folder, open_blobs, open_store
from fhir_server.store.opening import sole_server as sole_server
from operations.audit import audit_operations
from operations.bulk_import import import_operation
from operations.conformance import conformance_operations
from operations.consents import consent_operations
from operations.deid.text.assembly import text_cleaner
from operations.deidentification import deidentification, deidentification_operations
from operations.export import export_operations
from operations.expunge import Expunge, expunge_operation
from operations.matching.person import patient_keys
from operations.meta import meta_operations
from operations.model_monitor import monitor_operation
from operations.model_registry import registry_operations
from operations.models.assembly import Models, models_of
from operations.models.monitoring.metrics import ModelMetrics
from operations.predictions import Predictions
from operations.record import record_operations
from operations.registry import Operations
from operations.reindex import reindex_operation
from operations.research.bank import Bank
from operations.research.counting import Blur
from operations.research.sync import every
from operations.terminology import terminology_operations
from operations.terms import SourceOf
from operations.views.assembly import views
from terminology.stored import StoredTerminology

FHIR: Final = "/fhir"


@dataclass(frozen=True, slots=True)
class Domain:
    """Everything below HTTP: what the commands work with, beside or without a server."""

    settings: Settings
    store: Store
    engine: Engine
    searching: Searching
    identities: Identities
    patients: Patients
    codes: SourceOf

    @property
    def tokens(self) -> Tokens:
        return self.identities.tokens

    @property
    def base(self) -> str:
        return self.settings.base_url + FHIR

    @property
    def definitions(self) -> Definitions:
        return self.engine.definitions

    @property
    def face(self) -> Face:
        parts = self.engine, self.searching, self.tokens, self.patients
        return Face(FHIR, self.settings, *parts, codes=self.codes)

    def indexes(self, type_: str, code: str) -> tuple[str, ...]:
        """The names of the indexes of a search parameter."""
        return self.searching.schema.of(type_).parameters[code].indexes

    def system_session(self, purpose: str) -> Session:
        return system_session(self.engine, purpose)


@asynccontextmanager
async def opened(settings: Settings, role: str = "command") -> AsyncIterator[Domain]:
    """The domain of these settings, its store open."""
    store = await open_store(settings, role)
    try:
        yield await assemble(settings, store)
    finally:
        await store.close()


async def assemble(settings: Settings, store: Store, path: str = FHIR) -> Domain:
    """The engine and its parts over an open store. ``path``: of the base that it is for."""
    base = settings.base_url + path
    schema = ExtendedSchema(load())
    rules, blobs = sensitivity_rules(settings.sensitivity), open_blobs(settings)
    conformance = conforming(store, schema, blobs, settings.profiles)
    parameters = PostedParameters(schema, store, conformance.packages)
    await parameters.refresh()
    extract = compile_extract(schema, base, further={"Patient": patient_keys})
    engine = Engine(
        store=store,
        definitions=schema.definitions,
        validate=conformance.validator.check,
        extract=labelled(extract, Labelling(rules), base),
        matches=matches,
        now=micros,
        new_id=new_id,
        blobs=blobs,
        parameters=parameters,
        conformance=conformance,
        erase_log=None if settings.store == "memory:" else EraseLog(settings.erased),
    )
    conformance.base = base
    await renew_index(engine, digest_of(rules))
    kept = None if settings.store == "memory:" else settings.data / "concepts"
    view = sources(engine, schema, base, ConceptFiles(kept, store.ledger))
    conformance.source = view(system_session(engine, "definitions"))
    searching = Searching(
        schema=schema,
        cursors=Cursors(await cursor_key(store.ledger)),
        sizes=PageSizes(
            settings.page_size,
            settings.max_page_size,
            Limits(settings.max_values, settings.max_chain, settings.max_includes),
        ),
        zone=ZoneInfo(settings.time_zone),
        now=micros,
        base=base,
        answer=StoredTerminology(view(system_session(engine, "terminology"))).answer,
    )
    identities = Identities.over(store.ledger, committing(store), time.time)
    unrecorded = as_implicit(settings.unrecorded_consent)
    here = Here(base, searching.zone, unrecorded, settings.break_glass_minutes)
    decide = patients(store, schema, here, scope_filter(searching))
    return Domain(settings, store, engine, searching, identities, decide, view)


def predictions(domain: Domain, models: Models, queue: Queue) -> Predictions:
    """What is around the models of this server."""
    administration = models.administration
    return Predictions(models.registry, domain.indexes, models.own, queue, administration)


def operations(domain: Domain, models: Models, predicting: Predictions, queue: Queue) -> Operations:
    """The operations of this server."""
    types = domain.definitions.resource_types
    deid = deidentification(domain.settings, text_cleaner(models.registry))
    exported = exports(domain.searching, deid)
    preview = Previewing(domain.engine, domain.patients, domain.identities.people.behind)
    relay = terminology_relay(domain.settings)
    return Operations(
        (
            *predicting.rows(),
            *registry_operations(models.administration),
            monitor_operation(models.rounds),
            *deidentification_operations(
                deid, exported, queue, domain.system_session("reidentify")
            ),
            *record_operations(searchsets(domain.searching), domain.base),
            *meta_operations(types),
            *audit_operations(domain.searching.zone),
            *consent_operations(preview, domain.settings.domain, domain.searching.zone),
            reindex_operation(queue, types),
            *export_operations(exported, queue),
            *views(exported, queue).operations(),
            import_operation(queue, types, domain.settings.imports),
            expunge_operation(expunging(domain, queue)),
            *terminology_operations(domain.codes, queue, domain.store.ledger, relay),
            *conformance_operations(types, domain.engine, queue),
        ),
        predicting.work(),
        predicting.shown(),
    )


def auth_site(domain: Domain, rates: Rates) -> AuthSite:
    """The authorization server and its pages."""
    settings, scopes = domain.settings, scope_filter(domain.searching)
    return AuthSite(
        authorization_server(
            domain.identities,
            rules_of(settings, FHIR),
            domain.system_session("login"),
            Gate(domain.engine, domain.tokens.verify, scopes, patients=domain.patients),
            domain.definitions.resource_types,
            scopes,
            rates,
            settings,
        )
    )


def expunging(domain: Domain, queue: Queue | None = None) -> Expunge:
    """``queue``: of the server, if this is one."""
    own = queue or job_queue(domain, domain.settings.data / "jobs")
    vault = deidentification(domain.settings).vault
    return Expunge(domain.searching.schema, domain.base, own, vault)


def job_queue(domain: Domain, folder: Path, ledger: Ledger | None = None) -> Queue:
    settings = domain.settings
    rules = JobRules(
        lease=settings.job_lease_seconds,
        per_owner=settings.max_jobs,
        retention=settings.job_hours * 3600,
    )
    own = domain.store.ledger if ledger is None else ledger
    return Queue(own, JobFiles(folder), domain.engine.now, rules, domain.tokens)


@asynccontextmanager
async def bank_of(domain: Domain, role: str = "command") -> AsyncIterator[tuple[Domain, Bank]]:
    """The data bank beside a record, its store open, and what fills it. ``role``: a server is but a
    worker of it, since the lock of the record's directory keeps a second server away."""
    settings = bank_settings(domain.settings)
    store = await open_store(settings, role)
    try:
        bank = await assemble(settings, store, RESEARCH)
        scopes = scope_filter(domain.searching)
        parts = domain.engine, bank.engine, domain.patients, domain.identities, scopes
        yield bank, research_bank(*parts, domain.settings)
    finally:
        await store.close()


@asynccontextmanager
async def researching(
    domain: Domain, folder: Path, meter: Meter, audit: AuditLog | None, rates: Rates
) -> AsyncIterator[dict[bytes, Asgi]]:
    """The research face, if it is served; an open server has none."""
    if audit is None or domain.settings.research == "off":
        yield {}
        return
    async with bank_of(domain, "worker") as (bank, filling):
        secret = await cursor_key(bank.store.ledger)
        blur = Blur(secret, domain.settings.research_least)
        face = research_face(domain.settings, bank.engine, bank.searching, domain.tokens, blur)
        queue = job_queue(domain, folder / "research-jobs", bank.store.ledger)
        rows = research_operations(face, bank.codes, queue, blur)
        base, runner = fhir_base(face, rows, meter, queue, audit, rates)
        runner.start()
        minutes = domain.settings.research_minutes
        tasks = [asyncio.create_task(upkeep(bank.engine))]
        ended = by_itself(audit, domain.engine, "research sync", "research")
        tasks += [asyncio.create_task(every(filling, minutes * 60, ended))] if minutes else []
        try:
            yield {b"research": base}
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await runner.drain()


@asynccontextmanager
async def serving(
    domain: Domain, *, open_: bool = False, leaving: Callable[[], bool] = lambda: False
) -> AsyncIterator[Asgi]:
    """The whole server over a domain. ``leaving``: was it told to stop?"""
    await own_contents(domain.engine)
    metrics = Metrics()

    async def ready() -> bool:
        await domain.store.position()
        return not leaving()

    https, token = domain.settings.base_url.startswith("https:"), domain.settings.metrics_token
    with data_folder(domain.settings) as folder:
        days = domain.settings.audit_days
        keeping = recording(folder, domain.engine, domain.base, open_=open_, days=days)
        async with keeping as (audit, engine), AsyncExitStack() as beside:
            log = domain.identities.log if audit is None else SecurityTrail(audit)
            identities = replace(domain.identities, log=log)
            domain = replace(domain, engine=engine, identities=identities)
            queue = job_queue(domain, folder / "jobs")
            models = models_of(domain.settings, domain.engine, domain.indexes)
            metrics.registry.register(ModelMetrics(models.monitor))
            predicting = predictions(domain, models, queue)
            rows = operations(domain, models, predicting, queue)
            rates = rates_of(domain.settings, folder)
            face, runner = fhir_base(domain.face, rows, metrics, queue, audit, rates)
            faces: dict[bytes, Asgi] = {
                b"fhir": face,
                b"models": ModelFace(face, FHIR),
                b"deid": ModelFace(face, FHIR, DEID, DOCUMENTS),
                b"v2": InferenceFace(face, FHIR, ready),
            }
            if not open_:
                faces[b"auth"] = auth_site(domain, rates)
            url, trouble = domain.settings.base_url, either(domain.store.trouble, audit)
            shown = OpenApi(
                domain.definitions,
                ROUTES,
                face.interactions,
                url,
                software_version(),
                (model_paths(), {}) if open_ else (model_paths() | auth_paths(ENDPOINTS), SCHEMES),
            )
            bank = researching(domain, folder, metrics, audit, rates)
            faces |= await beside.enter_async_context(bank)
            further = pages(metrics, ready, trouble, settings_rows(), token, shown)
            front = Front(bases=faces, pages=further)
            runner.start()
            sweeping = asyncio.create_task(upkeep(domain.engine))
            try:
                rules = edge_rules(domain.settings, FHIR, open_=open_)
                known = Origins(domain.identities.records, domain.identities.clients)
                quiet = domain.settings.auto_predict_seconds
                async with predicting.following(domain.engine, quiet), models.rounds.going():
                    yield Edge(front, rules, https, known.registered)
            finally:
                sweeping.cancel()
                await runner.drain()
                await models.close()
