"""``vehr search``: a search from the shell, and with ``--explain`` why it costs what it costs."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from fhir_server.access.ports import Page
from fhir_server.app import opened
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.config import Settings, SettingsError
from fhir_server.interactions.target import pairs
from fhir_server.model.problem import Problem
from fhir_server.search.explain import Trace


def search(
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="Resource type.")],
    query: Annotated[str, typer.Argument(help="As in the URL: name=doe&_sort=-birthdate")] = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the plan and what it cost, not the matches.")
    ] = False,
    data: Data = None,
) -> None:
    """Print the first page of a search, one resource a line."""
    settings = lasting(settings_of(data))
    trace = Trace() if explain else None
    try:
        page = asyncio.run(run(settings, type_, query, trace))
    except Problem as problem:
        raise SettingsError(str(problem)) from None
    if trace is not None:
        shown, *steps = trace.texts()
        print(shown, "", *steps, sep="\n")
        return
    for stored in (*page.matches, *page.included):
        print(stored.body.decode())
    if page.rest is not None:
        print("more is included than is shown here", file=sys.stderr)


async def run(settings: Settings, type_: str, query: str, trace: Trace | None) -> Page:
    """One page, as a strict client with every right gets it."""
    async with opened(settings) as domain:
        if type_ not in domain.definitions.resource_types:
            raise SettingsError(f"{type_!r} is not a resource type")
        parsed = await domain.searching.parse((type_,), tuple(pairs(query)), None, strict=True)
        return await domain.system_session("search").search(parsed.search, trace)
