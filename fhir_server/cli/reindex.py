"""``vehr reindex``: the search index anew, beside a running server or without one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import Progress

from fhir_server.access.ports import rebuild_search
from fhir_server.access.reindexing import Reindexing, State
from fhir_server.app import Domain, opened
from fhir_server.cli.recorded import recorded
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.config import Settings, SettingsError
from fhir_server.model.problem import Problem

KIND: Final = "reindex"
KEPT: Final = 1.0
"""Seconds of work that a killed run does again at most."""

Tell = Callable[[State], None]


def reindex(
    types: Annotated[
        list[str] | None, typer.Argument(help="Resource types; none are all.", show_default=False)
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Do not go on where a killed run has stopped.")
    ] = False,
    engine: Annotated[
        bool, typer.Option("--search", help="The index of the search engine (VEHR_SEARCH) instead.")
    ] = False,
    data: Data = None,
) -> None:
    """Make the search index anew; posted SearchParameters can then be used."""
    settings = lasting(settings_of(data))
    if engine:
        if types:
            raise SettingsError("--search takes no resource types: it is one index")
        _engine(settings)
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reindexing", total=None)

        def tell(state: State) -> None:
            progress.update(task, description=state.text, completed=state.done, total=state.total)

        try:
            state = asyncio.run(run(settings, tuple(types or ()), tell, anew=anew))
        except Problem as problem:
            raise SettingsError(str(problem)) from None
    for type_, count in sorted(state.counts.items()):
        print(f"{count:>9,} {type_}")
    print(f"{sum(state.counts.values()):>9,} indexed, {state.renewed:,} renewed")


def _engine(settings: Settings) -> None:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("following the changes", total=None)

        def told(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        try:
            position = asyncio.run(rebuilt(settings, told))
        except Problem as problem:
            raise SettingsError(str(problem)) from None
    print(f"{position:>9,} versions followed")


async def rebuilt(settings: Settings, told: Callable[[int, int], None]) -> int:
    """The index of the search engine, made anew; the position that it has followed."""
    async with opened(settings) as domain, recorded(domain, "reindex", target="search engine"):
        return await rebuild_search(domain.store, told)


async def run(
    settings: Settings, types: tuple[str, ...], tell: Tell, *, anew: bool = False
) -> State:
    """The last state of a reindex of these types."""
    async with opened(settings) as domain:
        unknown = set(types) - domain.definitions.resource_types
        if unknown:
            raise SettingsError(f"{min(unknown)!r} is not a resource type")
        async with recorded(domain, "reindex", target=" ".join(sorted(types)) or "all"):
            return await _reindexed(domain, types, tell, anew=anew)


async def _reindexed(domain: Domain, types: tuple[str, ...], tell: Tell, *, anew: bool) -> State:
    reindexing = Reindexing(domain.engine)
    key = ",".join(sorted(types))
    state = None if anew else await _kept(domain, key)
    if state is None:
        state = await reindexing.begin(types)
    else:
        await reindexing.refresh()

    async def keep(state: State) -> None:
        await _keep(domain, key, state)

    return await _steps(reindexing, state, tell, keep)


async def _steps(
    reindexing: Reindexing, state: State, tell: Tell, keep: Callable[[State], Awaitable[None]]
) -> State:
    last = time.monotonic()
    while not state.finished:
        state = await reindexing.step(state)
        tell(state)
        if state.finished or time.monotonic() - last > KEPT:
            last = time.monotonic()
            await keep(state)
    return state


async def _kept(domain: Domain, key: str) -> State | None:
    row = await domain.store.ledger.get(KIND, key)
    return None if row is None else State.of(row.value)


async def _keep(domain: Domain, key: str, state: State) -> None:
    """A finished one is forgotten."""
    ledger = domain.store.ledger
    row = await ledger.get(KIND, key)
    if state.finished:
        if row is not None:
            await ledger.cas(KIND, key, None, row.revision)
    elif row is None:
        await ledger.insert_unique(KIND, key, state.to_json())
    else:
        await ledger.cas(KIND, key, state.to_json(), row.revision)
