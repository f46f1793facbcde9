"""The second factor: one-time codes, and recovery codes for who has lost what shows them."""

from __future__ import annotations

import json
import re
import secrets
from base64 import b32encode
from typing import Final

import segno
from markupsafe import Markup

from fhir_server.access.roles import ROLES
from fhir_server.auth import totp
from fhir_server.auth.records import digest
from fhir_server.auth.server import Server
from fhir_server.auth.users import User

CODES: Final = 8
"""Recovery codes of a user."""
BYTES: Final = 10
"""Random bytes of one: what is stored of it cannot be searched through."""
PURPOSE: Final = "enrol"
LIFE: Final = 900
"""Seconds from the QR code to the first one-time code."""


def is_needed(server: Server, user: User) -> bool:
    """Does the role make the user have one?"""
    return server.rules.required and ROLES[user.role].second_factor


def new_codes() -> list[str]:
    """Recovery codes as they are shown, once."""
    return ["-".join(re.findall("....", _made())) for _ in range(CODES)]


def _made() -> str:
    return b32encode(secrets.token_bytes(BYTES)).decode().lower()


def hashed(code: str) -> str:
    """What is stored of a recovery code; spaces, hyphens and case make no difference."""
    return digest(re.sub(r"[\s-]", "", code).lower())


async def passes(server: Server, user: User, given: str) -> str:
    """By what a code lets the user pass, ``otp`` or ``recovery``; empty if it does not. Either
    passes once.
    """
    users = server.identities.users
    step = totp.step_of(user.totp, given, server.now) if given and user.totp else None
    if step is not None:
        return "otp" if await users.spend_code(user, user.totp, step) else ""
    if given and await users.spend_recovery(user, hashed(given)):
        return "recovery"
    return ""


def proposed(server: Server, user: User, tie: str) -> tuple[str, str]:
    """A new key and its sealed form, for this user and ``tie`` (the browser or session) alone."""
    key = totp.new_key()
    value = {"key": key, "user": user.name, "tie": tie, "until": server.now + LIFE}
    return key, server.keys.seals.seal(PURPOSE, json.dumps(value).encode())


def key_of(server: Server, user: User, tie: str, sealed: str) -> str:
    """The key of ``proposed``; empty for what it did not make, or too long ago."""
    content = server.keys.seals.open(PURPOSE, sealed)
    if content is None:
        return ""
    value = json.loads(content)
    same = (value["user"], value["tie"]) == (user.name, tie) and server.now < value["until"]
    return str(value["key"]) if same else ""


async def enrolled(server: Server, user: User, key: str, given: str) -> list[str]:
    """Recovery codes, once a one-time code shows that the user holds the key; else none."""
    step = totp.step_of(key, given, server.now) if key and given else None
    if step is None or not await server.identities.users.spend_code(user, key, step):
        return []
    codes = new_codes()
    await server.identities.users.change(
        user.name, totp=key, recovery=[hashed(code) for code in codes]
    )
    return codes


def picture(server: Server, user: User, key: str) -> Markup:
    """The QR code that authenticator apps scan, as inline SVG."""
    uri = totp.uri(key, user.name, f"vEHR {server.rules.domain}")
    drawn = segno.make(uri, error="m", micro=False)
    return Markup(drawn.svg_inline(scale=5, border=4, dark="#000", light="#fff", omitsize=True))


def spaced(key: str) -> str:
    """The key as one can copy it by hand."""
    return " ".join(re.findall(".{1,4}", key))
