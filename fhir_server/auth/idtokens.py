"""id_tokens: https://openid.net/specs/openid-connect-core-1_0.html#IDToken"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Final

from joserfc import jwt

from fhir_server.auth.keys import ALGORITHM
from fhir_server.auth.server import Server
from fhir_server.auth.users import User

LIFE: Final = 3600
"""Seconds."""


def id_token(
    server: Server, user: User, client: str, scope: str, access: str, claims: dict[str, object]
) -> str:
    """Signed. ``claims``: further ones, of which empty ones are left out."""
    now = int(server.now)
    key = server.keys.signing()
    half = sha256(access.encode()).digest()[:16]
    whole = {
        "iss": server.rules.issuer,
        "sub": user.subject,
        "aud": client,
        "iat": now,
        "exp": now + LIFE,
        "at_hash": urlsafe_b64encode(half).decode().rstrip("="),
        "fhirUser": fhir_user(server, user, scope),
        **claims,
    }
    kept = {name: value for name, value in whole.items() if value not in ("", None)}
    header = {"alg": ALGORITHM, "kid": key.kid, "typ": "JWT"}
    return jwt.encode(header, kept, key, algorithms=[ALGORITHM])


def fhir_user(server: Server, user: User, scope: str) -> str:
    """The URL of the user's own resource, if the scope tells it."""
    if "fhirUser" not in scope.split() or not user.fhir_user:
        return ""
    return f"{server.rules.fhir}/{user.fhir_user}"
