"""``vehr token``: an access token for a client or a user."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from fhir_server.access.scopes import parse_scopes
from fhir_server.app import FHIR, opened
from fhir_server.cli.recorded import recorded
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.config import Settings, SettingsError
from fhir_server.model.problem import BadRequest, NotFound
from fhir_server.model.resource import ID_PATTERN

SYSTEM, PATIENT, USER = "system/*.cruds", "patient/*.rs", "user/*.cruds"
READING = "user/*.rs"
FACES = ("fhir", "research")


def token(
    user: Annotated[str, typer.Option(help="The user that the token is for.")] = "",
    client: Annotated[str, typer.Option(help="The client that the token is for.")] = "",
    scope: Annotated[
        str,
        typer.Option(
            help=f"SMART scopes; default {SYSTEM}, with --patient {PATIENT}, with --user {USER}."
        ),
    ] = "",
    minutes: Annotated[int, typer.Option(min=1, max=60 * 24 * 366, help="Lifetime.")] = 60,
    patient: Annotated[str, typer.Option(help="Id of the patient in context.")] = "",
    face: Annotated[str, typer.Option(help="The base that it is for: fhir or research.")] = "fhir",
    data: Data = None,
) -> None:
    """Print an access token."""
    if user and client:
        raise SettingsError("a token is for --user or for --client")
    if patient and ID_PATTERN.fullmatch(patient) is None:
        raise SettingsError(f"--patient: {patient!r} is not an id")
    if face not in FACES:
        raise SettingsError(f"--face: {face!r} is not one of {', '.join(FACES)}")
    if face == "research" and not user:
        raise SettingsError("--face research: the data bank is for a --user who is researcher")
    usual = READING if face == "research" else USER
    wanted = scope or (PATIENT if patient else usual if user else SYSTEM)
    settings = lasting(settings_of(data))
    holder = (client or "cli", user, patient)
    print(asyncio.run(issue(settings, wanted, minutes, holder, f"/{face}")))


async def issue(
    settings: Settings, scope: str, minutes: int, holder: tuple[str, str, str], face: str = FHIR
) -> str:
    """``holder``: client, user, patient."""
    client, user, patient = holder
    async with opened(settings) as domain:
        try:
            parse_scopes(scope, domain.definitions.resource_types)
        except BadRequest as problem:
            raise SettingsError(f"--scope: {problem}") from None
        if user:
            try:
                found = await domain.identities.users.named(user)
            except NotFound as problem:
                raise SettingsError(f"--user: {problem}") from None
            patient = patient or found.patient
        target = f"user/{user}" if user else f"client/{client}"
        about = {"target": f"{target} {scope}", "patients": (patient,) if patient else ()}
        async with recorded(domain, "token", **about):
            return await domain.tokens.issue(
                scope=scope,
                minutes=minutes,
                client=client,
                user=user,
                patient=patient or None,
                audience=face,
            )
