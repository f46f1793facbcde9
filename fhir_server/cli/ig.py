"""``vehr ig``: FHIR packages with profiles and terminology, beside a running server or without."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import typer

from fhir_server.access.conformance.packages import Packages
from fhir_server.access.parameters import PostedParameters
from fhir_server.app import opened
from fhir_server.cli.recorded import recorded
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.config import Settings, SettingsError
from fhir_server.definitions.packages import Package, read_package, satisfies
from fhir_server.definitions.packing import pack_guide
from fhir_server.model.datatypes import format_instant
from fhir_server.model.fresh import micros
from fhir_server.model.problem import Problem

T = TypeVar("T")
Work: TypeAlias = Callable[[Packages, PostedParameters], Awaitable[T]]

ig = typer.Typer(help="Implementation guides: install, list, remove, build.", no_args_is_help=True)


@ig.command()
def install(
    paths: Annotated[
        list[Path], typer.Argument(help="Packages (.tgz) or folders.", show_default=False)
    ],
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Also where a dependency is not installed.")
    ] = False,
    searching: Annotated[
        bool,
        typer.Option("--searching/--no-searching", help="With their search parameters or not."),
    ] = True,
    data: Data = None,
) -> None:
    """Install FHIR packages; those that others of them need go first. Nothing is fetched.

    New search parameters can be used after a reindex, which is named.
    """
    try:
        for path in paths:
            if not path.exists():
                raise SettingsError(f"{path} is not there")
        packages = ordered([read_package(path) for path in paths])
    except Problem as problem:
        raise SettingsError(str(problem)) from None

    async def work(installed: Packages, parameters: PostedParameters) -> None:
        behind: set[str] = set()
        for package in packages:
            made = await installed.install(
                package, micros(), incomplete=incomplete, searching=searching
            )
            print(f"{package.id}: {'installed' if made else 'is installed already'}")
            for name in made.missing if made else ():
                print(f"  without {name}")
            await parameters.refresh()
            for one in parameters.installed if made else ():
                if one.package == package.id and one.reason:
                    print(f"  not in force: the search parameter {one.code}: {one.reason}")
            behind |= set(parameters.behind(package.id))
        if behind:
            print(f"to use the new search parameters: vehr reindex {' '.join(sorted(behind))}")

    _run(settings_of(data), "install", " ".join(one.id for one in packages), work)


def ordered(packages: list[Package]) -> list[Package]:
    """Dependencies before what needs them; of a circle in the order that was given."""
    left, found = list(packages), []
    while left:
        free = [one for one in left if not any(_needs(one, other) for other in left)]
        chosen = (free or left)[0]
        left.remove(chosen)
        found.append(chosen)
    return found


def _needs(one: Package, other: Package) -> bool:
    wanted = one.dependencies.get(other.name)
    return one is not other and wanted is not None and satisfies(other.version, wanted)


@ig.command("list")
def list_(data: Data = None) -> None:
    """Name#version, since when, what it holds, what it lacks."""

    async def work(installed: Packages, parameters: PostedParameters) -> None:
        await parameters.refresh()
        for one in await installed.all():
            held = ", ".join(f"{count} {type_}" for type_, count in one.counts.items())
            states: Counter[str] = Counter(
                of.state for of in parameters.installed if of.package == one.id
            )
            used = f" ({_counted(states)})" if states else ""
            lacks = f"  without {', '.join(one.missing)}" if one.missing else ""
            print(f"{one.id:<40} {format_instant(one.since)[:10]}  {held}{used}{lacks}")

    _run(settings_of(data), "", "", work)


@ig.command()
def remove(
    package: Annotated[str, typer.Argument(metavar="NAME#VERSION")], data: Data = None
) -> None:
    """Remove a package that no other needs."""

    async def work(installed: Packages, parameters: PostedParameters) -> None:
        await installed.remove(package)
        print(f"removed {package}")

    _run(settings_of(data), "remove", package, work)


@ig.command()
def build(
    folder: Annotated[Path, typer.Argument(help="Of a guide: package.json beside folders.")],
    output: Annotated[
        Path | None, typer.Option(help="The .tgz to write; default: NAME-VERSION.tgz here.")
    ] = None,
) -> None:
    """Pack the folder of a guide as a FHIR package."""
    try:
        packed = pack_guide(folder)
    except Problem as problem:
        raise SettingsError(str(problem)) from None
    package = read_package(packed)
    path = output or Path(f"{package.name}-{package.version}.tgz")
    path.write_bytes(packed)
    held = ", ".join(f"{count} {type_}" for type_, count in package.counts.items())
    print(f"{path}: {package.id}, {len(packed):,} bytes: {held}")


def _counted(states: Counter[str]) -> str:
    return "search parameters: " + ", ".join(f"{n} {state}" for state, n in sorted(states.items()))


def _run(settings: Settings, act: str, target: str, work: Work[T]) -> T:
    """``act``: what is recorded; "" for what only looks."""

    async def worked() -> T:
        async with opened(lasting(settings)) as domain:
            engine = domain.engine
            assert engine.conformance is not None and engine.parameters is not None
            packages, parameters = engine.conformance.packages, engine.parameters
            if not act:
                return await work(packages, parameters)
            async with recorded(domain, f"ig-{act}", target=target):
                return await work(packages, parameters)

    try:
        return asyncio.run(worked())
    except Problem as problem:
        raise SettingsError(str(problem)) from None
