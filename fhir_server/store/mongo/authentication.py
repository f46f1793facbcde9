"""How a connection says who it is: SCRAM-SHA-256 or the certificate of its TLS connection.

https://www.rfc-editor.org/rfc/rfc7677 and
https://www.mongodb.com/docs/manual/core/security-scram/
"""

from __future__ import annotations

import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from functools import lru_cache
from hashlib import pbkdf2_hmac, sha256
from typing import Final, NamedTuple, TypeAlias

from pymongo.errors import OperationFailure
from pymongo.saslprep import saslprep

from fhir_server.model.problem import Unavailable
from fhir_server.store.mongo.documents import Document

Send: TypeAlias = Callable[[Document], Awaitable[Document]]

SCRAM: Final = "SCRAM-SHA-256"
X509: Final = "MONGODB-X509"
FEWEST: Final = 4096
"""Rounds below which a server is not believed."""


class Credentials(NamedTuple):
    """``source``: the database that knows the user."""

    mechanism: str
    user: str
    password: str
    source: str


def credentials(user: str | None, password: str | None, options: Document) -> Credentials | None:
    """What the URL says; None: nothing. Raises Unavailable for what is not known here."""
    mechanism = options.get("authmechanism", SCRAM if user else "")
    if not mechanism:
        return None
    if mechanism not in (SCRAM, X509):
        text = f"the authentication {mechanism} is not supported: use {SCRAM} or {X509}"
        raise Unavailable(text)
    source = str(options.get("authsource") or "admin")
    return Credentials(mechanism, user or "", password or "", source)


async def authenticate(send: Send, who: Credentials) -> None:
    """Raises OperationFailure."""
    if who.mechanism == X509:
        await send({"authenticate": 1, "mechanism": X509, "$db": "$external"})
        return
    await _scram(send, who)


@lru_cache(maxsize=8)
def _salted(password: str, salt: bytes, rounds: int) -> bytes:
    return pbkdf2_hmac("sha256", saslprep(password).encode(), salt, rounds)


async def _scram(send: Send, who: Credentials) -> None:
    name = who.user.replace("=", "=3D").replace(",", "=2C")
    nonce = b64encode(secrets.token_bytes(24)).decode()
    first = f"n={name},r={nonce}"
    start = {"saslStart": 1, "mechanism": SCRAM, "payload": b"n,," + first.encode()}
    options = {"autoAuthorize": 1, "options": {"skipEmptyExchange": True}}
    reply = await send({**start, **options, "$db": who.source})
    challenge = reply["payload"].decode()
    said = dict(part.split("=", 1) for part in challenge.split(","))
    rounds = int(said["i"])
    if not said["r"].startswith(nonce) or rounds < FEWEST:
        raise OperationFailure("the server's challenge is not one")
    salted = _salted(who.password, b64decode(said["s"]), rounds)
    final = f"c=biws,r={said['r']}"
    message = ",".join((first, challenge, final)).encode()
    client = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(sha256(client).digest(), message, "sha256")
    proof = b64encode(bytes(a ^ b for a, b in zip(client, signature, strict=True))).decode()
    more = {"saslContinue": 1, "conversationId": reply["conversationId"]}
    reply = await send({**more, "payload": f"{final},p={proof}".encode(), "$db": who.source})
    said = dict(part.split("=", 1) for part in reply["payload"].decode().split(","))
    server = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
    if not hmac.compare_digest(b64decode(said.get("v", "")), server):
        raise OperationFailure("the server does not know the password either")
    while not reply["done"]:
        reply = await send({**more, "payload": b"", "$db": who.source})
