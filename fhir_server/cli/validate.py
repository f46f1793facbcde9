"""``vehr validate``: what ``$validate`` says, of files."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fhir_server.access.conformance.judging import every_issue
from fhir_server.app import Domain, opened
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.cli.sources import Document, documents, files
from fhir_server.config import Settings, SettingsError
from fhir_server.formats.json import loads
from fhir_server.model.problem import Issue, Problem

ORDER = ("fatal", "error", "warning", "information")


@dataclass(frozen=True, slots=True)
class Verdict:
    """``place``: of the resource, file and line."""

    place: str
    issues: tuple[Issue, ...]

    @property
    def valid(self) -> bool:
        return not any(issue.severity in ("fatal", "error") for issue in self.issues)


def validate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Resources, Bundles, NDJSON, .gz of them, folders.", show_default=False
        ),
    ],
    profile: Annotated[
        list[str] | None, typer.Option(help="A profile that they are to conform to.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Errors only.")] = False,
    data: Data = None,
) -> None:
    """Hold resources against FHIR, their profiles and these; exits 1 where one is not valid."""
    files(paths)
    valid = True
    for verdict in asyncio.run(run(settings_of(data), paths, tuple(profile or ()))):
        valid &= verdict.valid
        shown = [i for i in verdict.issues if not quiet or i.severity in ("fatal", "error")]
        print(f"{verdict.place}: {'valid' if verdict.valid else 'NOT valid'}")
        for issue in sorted(shown, key=lambda one: ORDER.index(one.severity)):
            where = f" {issue.expression}" if issue.expression else ""
            print(f"  {issue.severity}{where}: {issue.diagnostics} [{issue.code}]")
    sys.stdout.flush()
    if not valid:
        raise typer.Exit(1)


async def run(settings: Settings, paths: list[Path], profiles: tuple[str, ...]) -> list[Verdict]:
    """By the definitions of the data directory."""
    async with opened(lasting(settings)) as domain:
        try:
            return [
                await _judged(domain, document, profiles)
                for path in files(paths)
                for document in documents(path, lambda _: None)
            ]
        except Problem as problem:
            raise SettingsError(str(problem)) from None


async def _judged(domain: Domain, document: Document, profiles: tuple[str, ...]) -> Verdict:
    place = document.place
    if document.fault:
        return Verdict(place, (Issue("invalid", document.fault),))
    try:
        resource = loads(document.body, domain.settings.json_limits())
    except Problem as problem:
        return Verdict(place, problem.issues)
    if not isinstance(resource, dict) or "resourceType" not in resource:
        return Verdict(place, (Issue("structure", "this is no FHIR resource"),))
    conformance = domain.engine.conformance
    assert conformance is not None
    session = domain.system_session("validate")
    found = await every_issue(conformance, resource, profiles, session, domain.base)
    return Verdict(place, found)
