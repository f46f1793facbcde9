"""``vehr user``: who may sign in."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from fhir_server.access.roles import ROLES
from fhir_server.app import Domain, opened
from fhir_server.auth import totp
from fhir_server.auth.administration import Administration
from fhir_server.auth.identities import Identities
from fhir_server.auth.provider import provider_of
from fhir_server.auth.users import User
from fhir_server.cli.recorded import trail
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.config import Settings, SettingsError
from fhir_server.http.security import SecurityTrail
from fhir_server.model.problem import BadRequest, Problem

T = TypeVar("T")

user = typer.Typer(
    help="Users: add, list, disable, enable, password, otp, link.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="The name that the user signs in with.")]
FromInput = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]


def administering(settings: Settings, work: Callable[[Administration], Awaitable[T]]) -> T:
    """An administrator's act, in the name of who may run commands."""

    async def worked(domain: Domain) -> T:
        async with trail(domain) as log:
            told = replace(domain.identities, log=SecurityTrail(log))
            return await work(Administration(told))

    return _on(settings, worked)


def beside(settings: Settings, work: Callable[[Identities], Awaitable[T]]) -> T:
    """``work`` on the identities, beside a running server or without one."""

    async def worked(domain: Domain) -> T:
        return await work(domain.identities)

    return _on(settings, worked)


def _on(settings: Settings, work: Callable[[Domain], Awaitable[T]]) -> T:
    async def worked() -> T:
        async with opened(lasting(settings)) as domain:
            try:
                return await work(domain)
            except Problem as problem:
                raise SettingsError(str(problem)) from None

    return asyncio.run(worked())


def line_of_input(what: str) -> str:
    """A secret never stands in the arguments of a command, which others can see."""
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise SettingsError(f"standard input holds no {what}")
    return line


@user.command()
def add(
    name: Name,
    role: Annotated[str, typer.Option(help=f"One of {', '.join(ROLES)}.")],
    fhir_user: Annotated[
        str, typer.Option("--fhir-user", help="Who it is in the record: Type/id.")
    ] = "",
    password_stdin: FromInput = False,
    data: Data = None,
) -> None:
    """Add a user; without --password-stdin a password is made and printed once."""
    given = line_of_input("password") if password_stdin else ""
    _, password = administering(
        settings_of(data), lambda admin: admin.add_user(name, role, fhir_user, given)
    )
    print(f"added {name} ({role})" + ("" if given else f", password: {password}"))


@user.command("list")
def list_(data: Data = None) -> None:
    """Name, role, person in the record, state."""

    async def listed(identities: Identities) -> list[User]:
        return await identities.users.all()

    for one in beside(settings_of(data), listed):
        state = "disabled" if one.disabled else "active"
        factor = " otp" if one.totp else ""
        print(f"{one.name:<24} {one.role:<14} {one.fhir_user or '-':<32} {state}{factor}")


@user.command()
def disable(name: Name, data: Data = None) -> None:
    """Take everything from a user; acts on the next request."""
    administering(settings_of(data), lambda admin: admin.change_user(name, disabled=True))
    print(f"disabled {name}")


@user.command()
def enable(name: Name, data: Data = None) -> None:
    """Let a disabled user in again."""
    administering(settings_of(data), lambda admin: admin.change_user(name, disabled=False))
    print(f"enabled {name}")


@user.command()
def password(name: Name, data: Data = None) -> None:
    """Set a new password, read from standard input."""
    given = line_of_input("password")
    administering(settings_of(data), lambda admin: admin.set_password(name, given))
    print(f"new password for {name}")


@user.command()
def link(
    name: Name,
    claim: Annotated[str, typer.Argument(help="What the external provider calls the user.")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take the link away.")] = False,
    data: Data = None,
) -> None:
    """Let a user sign in by the external provider of VEHR_LOGIN_PROVIDER."""
    settings = settings_of(data)
    if bool(claim) == remove:
        raise SettingsError("name the claim, or say --remove")
    identity = ""
    if claim:
        if settings.login_provider is None:
            raise SettingsError("VEHR_LOGIN_PROVIDER names no external provider")
        identity = _meant(settings.login_provider, claim)
    administering(settings, lambda admin: admin.link(name, identity))
    print(f"{name} signs in as {identity}" if claim else f"removed from {name}")


def _meant(provider: Path, claim: str) -> str:
    try:
        return provider_of(provider).meant(claim)
    except BadRequest as problem:
        raise SettingsError(str(problem)) from None


@user.command()
def otp(
    name: Name,
    remove: Annotated[bool, typer.Option("--remove", help="Take it away.")] = False,
    data: Data = None,
) -> None:
    """Give a user a second factor; prints what an authenticator app takes."""
    settings = settings_of(data)
    if remove:
        administering(settings, lambda admin: admin.remove_factor(name))
        print(f"removed from {name}")
        return
    key = administering(settings, lambda admin: admin.new_factor(name))
    print(totp.uri(key, name, f"vEHR {settings.domain}"))
