"""``vehr model evaluate-alerts``: what alarms would have been over a record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from fhir_server.app import Domain
from fhir_server.cli.model_work import with_models
from fhir_server.cli.recorded import recorded
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.cli.sources import documents, files
from fhir_server.config import SettingsError
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Problem
from operations.models.alerts.evaluating import evaluate, filed, stored
from operations.models.alerts.report import Evaluation
from operations.models.alerts.spec import Spec, read_spec
from operations.models.assembly import Models
from operations.models.registry import SHIPPED, Registry
from operations.models.runtime import Runtime

SPEC: Final = SHIPPED / "news2_trend" / "alerts.toml"


def evaluate_alerts(
    spec: Annotated[
        Path, typer.Argument(help="Alarms, outcomes and stays, in TOML.", show_default=False)
    ] = SPEC,
    ndjson: Annotated[
        list[Path] | None,
        typer.Option(help="Files or folders of resources instead of the record."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    data: Data = None,
) -> None:
    """Play stays again: alerts per patient-day, how many were right, how early they came."""
    try:
        read = read_spec(spec.read_text(encoding="utf-8"))
    except (OSError, Problem) as error:
        raise SettingsError(f"{spec}: {error}") from None
    found = _of_files(read, ndjson) if ndjson else _of_record(read, spec, data)
    print(json.dumps(found.to_json(), indent=1) if as_json else found.text())


def _of_record(spec: Spec, name: Path, data: Path | None) -> Evaluation:
    async def evaluated(models: Models, domain: Domain) -> Evaluation:
        async with recorded(domain, "model-evaluate-alerts", target=str(name)):
            await models.registry.refresh()
            return await evaluate(spec, models.registry, stored(spec, models.own, domain.indexes))

    return with_models(lasting(settings_of(data)), evaluated)


def _of_files(spec: Spec, paths: list[Path]) -> Evaluation:
    async def evaluated() -> Evaluation:
        own = settings_of(None).models
        runtime = Runtime()
        try:
            registry = Registry.of(runtime, (SHIPPED, own) if own else (SHIPPED,))
            return await evaluate(spec, registry, filed(_resources(paths)))
        finally:
            await runtime.close()

    try:
        return asyncio.run(evaluated())
    except Problem as problem:
        raise SettingsError(str(problem)) from None


def _resources(paths: list[Path]) -> Iterator[Json]:
    """Those that say of whom they are; Bundles are looked into."""
    for path in files(paths):
        for document in documents(path, lambda _: None):
            if document.fault:
                raise SettingsError(f"{document.place}: {document.fault}")
            try:
                value = loads(document.body)
            except BadRequest as problem:
                if document.met:
                    continue
                raise SettingsError(f"{document.place}: {problem}") from None
            entries = value.get("entry", ()) if isinstance(value, dict) else ()
            for one in (value, *(e.get("resource") for e in entries if isinstance(e, dict))):
                if isinstance(one, dict) and isinstance(one.get("resourceType"), str):
                    yield one
