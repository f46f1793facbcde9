"""``vehr client``: apps and services that may ask for tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from fhir_server.auth.clients import Client, Method, hashed_secret
from fhir_server.auth.identities import Identities
from fhir_server.auth.invitations import MINUTES, SCOPE
from fhir_server.cli.settings import Data, settings_of
from fhir_server.cli.user import administering, beside, line_of_input
from fhir_server.config import SettingsError

client = typer.Typer(help="Clients: add, invite, list, disable, enable.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The client_id.", metavar="ID")]

APP: str = "openid fhirUser launch launch/patient launch/encounter offline_access online_access"
DEFAULT_SCOPE = f"{APP} patient/*.cruds user/*.cruds"
"""Of an app with redirect addresses; a service without one has what --scope says."""


@client.command()
def add(
    id_: Id,
    redirect: Annotated[list[str] | None, typer.Option(help="A redirect address.")] = None,
    scope: Annotated[str, typer.Option(help="The most that it may be granted.")] = "",
    name: Annotated[str, typer.Option(help="The name that people read.")] = "",
    public: Annotated[bool, typer.Option("--public", help="It cannot keep a secret.")] = False,
    secret_stdin: Annotated[
        bool, typer.Option("--secret-stdin", help="Read its secret from standard input.")
    ] = False,
    jwks: Annotated[str, typer.Option(help="Its public keys: a file or an https URL.")] = "",
    data: Data = None,
) -> None:
    """Register a client: --public, --secret-stdin or --jwks."""
    if [public, secret_stdin, bool(jwks)].count(True) != 1:
        raise SettingsError("a client has one of --public, --secret-stdin and --jwks")
    redirects = tuple(redirect or ())
    if public and not redirects:
        raise SettingsError("a public client needs --redirect")
    method: Method = "public" if public else "secret" if secret_stdin else "keys"
    made = Client(
        id=id_,
        name=name or id_,
        method=method,
        redirects=redirects,
        scope=scope or (DEFAULT_SCOPE if redirects else ""),
        secret=hashed_secret(line_of_input("secret")) if secret_stdin else "",
        keys=keys_of(jwks) if jwks else None,
        disabled=False,
    )
    if not made.scope:
        raise SettingsError("a client without --redirect needs --scope")
    administering(settings_of(data), lambda admin: admin.add_client(made))
    print(f"added {id_} ({method})")


@client.command()
def invite(
    scope: Annotated[str, typer.Option(help="The most that the app may be granted.")] = SCOPE,
    minutes: Annotated[int, typer.Option(min=1, max=60 * 24 * 30, help="Lifetime.")] = MINUTES,
    data: Data = None,
) -> None:
    """Print an initial access token, by which one app may register itself."""
    print(administering(settings_of(data), lambda admin: admin.invite(scope, minutes)))


def keys_of(place: str) -> dict[str, Any] | str:
    """The JWKS in a file, or the URL as it is."""
    if "://" in place:
        return place
    try:
        found = json.loads(Path(place).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise SettingsError(f"--jwks: {place} is not a JSON file") from None
    if not isinstance(found, dict) or not isinstance(found.get("keys"), list):
        raise SettingsError(f"--jwks: {place} holds no key set")
    return found


@client.command("list")
def list_(data: Data = None) -> None:
    """Id, how it says who it is, state, redirect addresses, scope."""

    async def listed(identities: Identities) -> list[Client]:
        return await identities.clients.all()

    for one in beside(settings_of(data), listed):
        state = "disabled" if one.disabled else "active"
        print(f"{one.id:<24} {one.method:<7} {state:<9} {' '.join(one.redirects)}  {one.scope}")


@client.command()
def disable(id_: Id, data: Data = None) -> None:
    """Take everything from a client; acts on the next request."""
    _switch(id_, data, disabled=True)
    print(f"disabled {id_}")


@client.command()
def enable(id_: Id, data: Data = None) -> None:
    """Let a disabled client in again."""
    _switch(id_, data, disabled=False)
    print(f"enabled {id_}")


def _switch(id_: str, data: Path | None, *, disabled: bool) -> None:
    administering(
        settings_of(data),
        lambda admin: admin.change_client(id_, lambda known: replace(known, disabled=disabled)),
    )
