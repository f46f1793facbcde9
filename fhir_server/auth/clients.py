"""Clients: the apps and services that may ask for tokens, registered by an administrator."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from fhir_server.access.ports import LedgerWrite, Row
from fhir_server.auth.records import ATTEMPTS, Records, digest
from fhir_server.model.problem import BadRequest, Conflict, NotFound, Unavailable

PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
KIND: Final = "client"
ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:-]{0,127}")
LEAST_SECRET: Final = 16
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

Method = Literal["public", "secret", "keys"]
"""How a client says who it is: not at all, by a shared secret, or by a signed assertion."""


@dataclass(frozen=True, slots=True)
class Client:
    """``scope``: the most that it may be granted. ``keys``: a JWKS, or its https URL.

    ``secret``: a hash of it.
    """

    id: str
    name: str
    method: Method
    redirects: tuple[str, ...]
    scope: str
    secret: str
    keys: dict[str, Any] | str | None
    disabled: bool

    def redirects_to(self, uri: str) -> bool:
        """Is this one of the registered addresses, letter by letter? A registered loopback
        address without a port takes any port (RFC 8252, section 7.3).
        """
        return any(uri == known or _any_port(known, uri) for known in self.redirects)

    def knows(self, secret: str) -> bool:
        return self.secret != "" and hmac.compare_digest(self.secret, digest(secret))

    def row(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "name": self.name,
            "method": self.method,
            "redirects": list(self.redirects),
            "scope": self.scope,
            "secret": self.secret,
            "keys": self.keys,
            "disabled": self.disabled,
        }

    def origins(self) -> set[str]:
        """The browser origins that its pages have."""
        parts = [urlsplit(uri) for uri in self.redirects]
        return {f"{p.scheme}://{p.netloc}" for p in parts if p.scheme in ("http", "https")}


class Clients:
    """Client rows, by id."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def add(self, client: Client) -> None:
        """BadRequest for what cannot be a client, Conflict if the id was ever used."""
        check(client)
        write = LedgerWrite(KIND, client.id, client.row(), expect=0)
        if not await self._records.commit_policy(write):
            raise Conflict(f"the client {client.id} exists")

    async def register(self, client: Client, spending: LedgerWrite) -> bool:
        """Add a client together with what is spent for it. False if that is spent already."""
        check(client)
        return await self._records.commit_policy(
            LedgerWrite(KIND, client.id, client.row(), expect=0), spending
        )

    async def find(self, id_: str) -> Client | None:
        row = await self._records.get(KIND, id_) if ID.fullmatch(id_) else None
        return None if row is None else _client(row)

    async def all(self) -> list[Client]:
        return [_client(row) for row in await self._records.scan(KIND)]

    async def change(self, id_: str, **values: Any) -> None:
        """Replace members of a client's row. NotFound if there is none."""
        for _ in range(ATTEMPTS):
            row = await self._records.get(KIND, id_) if ID.fullmatch(id_) else None
            if row is None:
                raise NotFound(f"the client {id_!r} is not known")
            if await self._records.commit_policy(
                LedgerWrite(KIND, id_, row.value | values, row.revision)
            ):
                return
        raise Unavailable("the client is being changed by others")


class Origins:
    """The browser origins of registered clients, looked up once under each policy epoch."""

    def __init__(self, records: Records, clients: Clients) -> None:
        self._records = records
        self._clients = clients
        self._epoch = -1
        self._known: frozenset[str] = frozenset()

    async def registered(self, origin: str) -> bool:
        epoch = await self._records.epoch()
        if epoch != self._epoch:
            living = [client for client in await self._clients.all() if not client.disabled]
            self._known = frozenset(o for client in living for o in client.origins())
            self._epoch = epoch
        return origin in self._known


def hashed_secret(secret: str) -> str:
    """What is stored of a client's secret. BadRequest if it could be guessed."""
    if len(secret) < LEAST_SECRET:
        raise BadRequest(f"a secret has at least {LEAST_SECRET} characters")
    return digest(secret)


def check(client: Client) -> None:
    """BadRequest for what cannot be a client."""
    if ID.fullmatch(client.id) is None:
        raise BadRequest(f"{client.id!r} cannot be the id of a client")
    if client.method == "keys" and client.keys is None:
        raise BadRequest("a client that signs needs its keys")
    if isinstance(client.keys, str):
        check_key_set(client.keys)
    elif client.keys is not None and holds_private(client.keys.get("keys")):
        raise BadRequest("a client's key set holds public keys alone")
    if client.method == "secret" and not client.secret:
        raise BadRequest("a client with a secret needs it")
    for uri in client.redirects:
        check_redirect(uri)


def holds_private(rows: Any) -> bool:
    """Has a key of a key set a member that only its owner may know (RFC 7518 section 6)?"""
    found = rows if isinstance(rows, list) else []
    return any(not PRIVATE.isdisjoint(row) for row in found if isinstance(row, dict))


def check_key_set(url: str) -> None:
    """An https URL without credentials; http on loopback, which is asked in tests alone."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        raise BadRequest(f"{url!r} is not a URL") from None
    secure = parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)
    if not host or not secure or "@" in parts.netloc or "#" in url:
        raise BadRequest(f"{url!r} cannot be the address of a key set: https")


def check_redirect(uri: str) -> None:
    """An absolute https URL, http on loopback, or a private scheme of a native app; without
    fragment, credentials, dots that climb or anything that browsers read differently.
    """
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        raise BadRequest(f"{uri!r} is not a URL") from None
    plain = uri.isascii() and uri.isprintable() and not set(' "<>\\^`{|}') & set(uri)
    native = "." in parts.scheme and not parts.netloc
    secure = parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)
    whole = not parts.fragment and "#" not in uri and "@" not in parts.netloc
    climbs = "/../" in f"{parts.path}/" or "/./" in f"{parts.path}/"
    if not plain or not whole or climbs or not (native or (secure and host)):
        raise BadRequest(f"{uri!r} cannot be redirected to: https, or http on loopback")


def _any_port(known: str, uri: str) -> bool:
    try:
        base, given = urlsplit(known), urlsplit(uri)
        port = given.port
    except ValueError:
        return False
    if base.scheme != "http" or base.netloc not in ("127.0.0.1", "[::1]") or port is None:
        return False
    return uri == known.replace(base.netloc, f"{base.netloc}:{port}", 1)


def _client(row: Row) -> Client:
    value = row.value
    return Client(
        id=row.key,
        name=value["name"],
        method=value["method"],
        redirects=tuple(value["redirects"]),
        scope=value["scope"],
        secret=value["secret"],
        keys=value["keys"],
        disabled=value["disabled"],
    )
