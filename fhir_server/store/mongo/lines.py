"""The connections of this process: opened when they are needed, kept, to one server that may
write. PyMongo knows which one that is at present.
"""

from __future__ import annotations

import asyncio
import platform
import random
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeVar

from bson import Timestamp
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, NotPrimaryError
from pymongo.uri_parser import parse_uri

from fhir_server.model.problem import Unavailable
from fhir_server.store.mongo.authentication import Credentials, authenticate, credentials
from fhir_server.store.mongo.documents import Document
from fhir_server.store.mongo.wire import EVER, Line, Part

T = TypeVar("T")

MOST: Final = 100
"""Connections at the same time."""
CONNECTING: Final = 5.0
"""Seconds, where the URL says nothing else."""
_CLIENT: Final = {
    "driver": {"name": "vehr", "version": "1"},
    "os": {"type": platform.system()},
    "application": {"name": "vehr"},
}
UNKNOWN: Final = ("compressors", "loadbalanced", "proxyhost", "tlscrlfile", "autoencryptionopts")


def encryption(options: Document) -> ssl.SSLContext | None:
    """The TLS of a connection; None: there is none."""
    if not options.get("tls"):
        return None
    context = ssl.create_default_context(cafile=options.get("tlscafile"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    insecure = options.get("tlsinsecure")
    if insecure or options.get("tlsallowinvalidhostnames"):
        context.check_hostname = False
    if insecure or options.get("tlsallowinvalidcertificates"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate = options.get("tlscertificatekeyfile")
    if certificate:
        password = options.get("tlscertificatekeyfilepassword")
        context.load_cert_chain(certificate, password=password)
    return context


class Waits(NamedTuple):
    """Seconds: for an answer, for a connection; None: as this program has it."""

    answer: float | None = None
    connecting: float | None = None

    @classmethod
    def of(cls, options: Document) -> Waits:
        """As the URL says (``socketTimeoutMS``, ``connectTimeoutMS``): 0 is for ever."""
        answer, connecting = (
            (EVER if options[name] is None else options[name]) if name in options else None
            for name in ("sockettimeoutms", "connecttimeoutms")
        )
        return cls(answer, connecting)


class Lines:
    """A pool of connections. Not for several event loops."""

    def __init__(
        self,
        client: AsyncMongoClient[Document],
        database: str,
        who: Credentials | None = None,
        tls: ssl.SSLContext | None = None,
        waits: Waits = Waits(),  # noqa: B008
    ) -> None:
        self.database = database
        self._client = client
        self._who = who
        self._tls = tls
        self._waits = waits
        self._free: list[Line] = []
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._time: Document | None = None
        self._newest = Timestamp(0, 0)

    @classmethod
    def of(cls, client: AsyncMongoClient[Document], url: str, database: str) -> Lines:
        """As ``url`` wants them. Raises Unavailable for options that this program lacks."""
        parsed = parse_uri(url, warn=False)
        options = {name.lower(): value for name, value in parsed["options"].items()}
        for name in UNKNOWN:
            if options.get(name):
                raise Unavailable(f"the MongoDB option {name} is not supported")
        who = credentials(parsed["username"], parsed["password"], _sourced(parsed, options))
        return cls(client, database, who, encryption(options), Waits.of(options))

    async def read(self, work: Callable[[Line], Awaitable[T]]) -> T:
        """Something without effects, once more if its connection or its server is lost."""
        try:
            return await self.use(work)
        except AutoReconnect:
            return await self.use(work)

    async def ask(self, command: Document, *parts: Part) -> Document:
        """``read`` of a single command."""
        try:
            return await self.use(lambda line: line.send(command, *parts))
        except AutoReconnect:
            return await self.use(lambda line: line.send(command, *parts))

    async def use(self, work: Callable[[Line], Awaitable[T]]) -> T:
        """``work`` with a connection of its own."""
        if self._used >= MOST:
            await self._place()
        else:
            self._used += 1
        line = None
        try:
            line = self._free.pop() if self._free else None
            if line is None or line.lost:
                line = await self._connected()
            return await work(line)
        except NotPrimaryError:
            self._forget()
            if line is not None:
                line.close()
            raise
        finally:
            if line is not None and not line.lost:
                self._free.append(line)
            self._leave()

    async def _place(self) -> None:
        """Waits until another gives up its place, which is then ours."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._used -= 1

    def _forget(self) -> None:
        for line in self._free:
            line.close()
        self._free = []

    async def _connected(self) -> Line:
        """A new connection; while the servers elect a primary, it is waited for a little."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CONNECTING
        while True:
            try:
                return await self._reached()
            except NotPrimaryError:
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(0.2)

    async def _reached(self) -> Line:
        host, port = await self._address()
        loop = asyncio.get_running_loop()
        own = self._waits.connecting
        seconds = CONNECTING if own is None else own
        try:
            async with asyncio.timeout(seconds if seconds < EVER else None):
                if host.endswith(".sock"):
                    _, line = await loop.create_unix_connection(self._new, host)
                else:
                    _, line = await loop.create_connection(self._new, host, port, ssl=self._tls)
                await self._greet(line)
                return line
        except (OSError, TimeoutError) as error:
            raise AutoReconnect(f"no connection to {host}:{port}: {error}") from error

    def _new(self) -> Line:
        return Line(self._waits.answer)

    async def _greet(self, line: Line) -> None:
        hello = await line.send({"hello": 1, "client": _CLIENT, "$db": "admin"})
        if not hello.get("isWritablePrimary"):
            line.close()
            raise NotPrimaryError("the server is not the primary")
        if self._who is not None:
            await authenticate(line.send, self._who)

    async def _address(self) -> tuple[str, int]:
        """Of the primary, or of one of the routers of a cluster."""
        routers = _routers(self._client)
        if routers:
            return random.choice(routers)
        primary = await self._client.address
        if primary is None:
            raise AutoReconnect("there is no primary")
        return primary

    # --- the time of a cluster ------------------------------------------------------

    def stamp(self, command: Document) -> Document:
        """With the newest time that any server told: a router then reads no older state."""
        if self._time is not None:
            command["$clusterTime"] = self._time
        return command

    def heard(self, reply: Document) -> None:
        told = reply.get("$clusterTime")
        if told is not None and told["clusterTime"] > self._newest:
            self._time, self._newest = told, told["clusterTime"]

    async def close(self) -> None:
        self._forget()


def _sourced(parsed: Any, options: Document) -> Document:
    """The database of the URL knows its user, unless the URL names another."""
    return {"authsource": parsed.get("database"), **options}


def _routers(client: AsyncMongoClient[Document]) -> list[tuple[str, int]]:
    description = client.topology_description
    if description.topology_type_name != "Sharded":
        return []
    servers = description.server_descriptions().values()
    routers = [s.address for s in servers if s.server_type_name == "Mongos"]
    return [(host, port or 27017) for host, port in routers]
