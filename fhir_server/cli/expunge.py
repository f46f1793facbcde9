"""``vehr expunge``: $expunge, beside a running server or without one."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from fhir_server.app import expunging, opened
from fhir_server.cli.recorded import recorded
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.config import Settings, SettingsError
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Problem
from operations.parameters import Arguments

What = Annotated[str, typer.Argument(help="Type/id, or a resource type.")]


def expunge(
    what: What,
    everything: Annotated[
        bool, typer.Option("--everything", help="The resource with all of its versions.")
    ] = False,
    compartment: Annotated[
        bool, typer.Option("--compartment", help="A Patient with the whole record.")
    ] = False,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="What is deleted, with all of its versions.")
    ] = False,
    previous: Annotated[
        bool, typer.Option("--previous", help="The versions that are not current.")
    ] = False,
    keep_references: Annotated[
        bool, typer.Option("--keep-references", help="Also what others refer to.")
    ] = False,
    purpose: Annotated[
        str, typer.Option(help="What for, by v3-ActReason; for the erase log.")
    ] = "",
    data: Data = None,
) -> None:
    """Erase resources or versions for good; it cannot be undone."""
    given: dict[str, Any] = {
        "expungeEverything": everything,
        "compartment": compartment,
        "expungeDeletedResources": deleted,
        "expungePreviousVersions": previous,
        "keepReferences": keep_references,
        "purpose": purpose,
    }
    arguments = Arguments({name: [value] for name, value in given.items() if value})
    type_, _, id_ = what.partition("/")
    try:
        answer = asyncio.run(run(lasting(settings_of(data)), type_, id_, arguments))
    except Problem as problem:
        raise SettingsError(str(problem)) from None
    for part in answer["parameter"]:
        print(f"{part['name']}: {_value(part)}")


async def run(settings: Settings, type_: str, id_: str, arguments: Arguments) -> Json:
    """The answer of the operation."""
    async with opened(settings) as domain:
        if type_ not in domain.definitions.resource_types:
            raise SettingsError(f"{type_!r} is not a resource type")
        session = domain.system_session("expunge")
        what = f"{type_}/{id_}" if id_ else ""
        patients = (id_,) if type_ == "Patient" and id_ else ()
        async with recorded(domain, "expunge", target=type_, what=what, patients=patients):
            return await expunging(domain).run(arguments, session, type_, id_)


def _value(part: Json) -> object:
    reference = part.get("valueReference")
    if reference is not None:
        return reference["reference"]
    return next(value for name, value in part.items() if name != "name")
