"""One process that serves: opens the domain, answers on its sockets, drains, closes.

Told to stop (SIGTERM), it first says so on ``/health`` while it still serves, so that nobody
sends it more; then it takes no new connections, answers what it has begun, gives its jobs
back and ends. SIGINT goes straight to the second step.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import uvicorn

from fhir_server.app import opened, serving
from fhir_server.config import Settings
from fhir_server.http.respond import Asgi
from fhir_server.workers.connection import SPARE, Connection, LimitedConfig, Limits
from fhir_server.workers.tls import Certificate, certificate

FINISH_SECONDS: Final = 10
"""For answers that are under way when the server stops; jobs have up to 15 more."""
SWITCH_SECONDS: Final = 0.0005
"""How long a thread that computes keeps the event loop from its turn: a request needs many
turns, and with the 5 ms of the interpreter one slow search makes all others slow."""
COLLECT: Final = (50_000, 20, 50)
"""Garbage is looked for less often: requests leave almost no cycles."""
DRAIN_SECONDS: Final = 30
"""After which a process that was told to stop is ended."""
BACKLOG: Final = 2048
RENEWALS: Final = 50
"""Ticks between two looks at the certificate."""
CHECKS: Final = 10
"""Ticks (of 100 ms) between two looks at the connections."""

Told = Callable[[], None]
"""Called once, when the process is ready to answer."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a process serves. ``sockets`` listen already."""

    settings: Settings
    sockets: tuple[socket.socket, ...]
    open_: bool = False


class Server(uvicorn.Server):
    """A uvicorn server that leaves in good order. ``leaving`` is set when it was told to."""

    def __init__(
        self,
        config: LimitedConfig,
        leaving: asyncio.Event,
        grace: float,
        certificate: Certificate | None = None,
    ) -> None:
        super().__init__(config)
        self._certificate = certificate
        self._leaving = leaving
        self._grace = grace

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.leave, self._grace)
        loop.add_signal_handler(signal.SIGINT, self.leave, 0)
        yield

    def leave(self, grace: float) -> None:
        """Be ready no more, and after ``grace`` seconds take no more connections."""
        if grace == 0:
            self.should_exit = True
        elif not self._leaving.is_set():
            asyncio.get_running_loop().call_later(grace, self.leave, 0)
        self._leaving.set()

    async def on_tick(self, counter: int) -> bool:
        if counter % CHECKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.check(now)
        if self._certificate is not None and counter % RENEWALS == 0:
            self._certificate.renew()
        return await super().on_tick(counter)


def run(work: Work, told: Told, supervisor: int | None = None) -> None:
    """Serve until told to stop. ``supervisor``: a file that is at its end when nobody
    supervises any more.

    Raises Problem for what cannot be opened.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    fastest = uvicorn.Config("", loop="auto").get_loop_factory()
    with asyncio.Runner(loop_factory=fastest) as runner:
        runner.run(_serve(work, told, supervisor))


async def _serve(work: Work, told: Told, supervisor: int | None) -> None:
    settings, leaving = work.settings, asyncio.Event()
    tls = certificate(settings)
    async with (
        opened(settings, "worker") as domain,
        serving(domain, open_=work.open_, leaving=leaving.is_set) as application,
    ):
        config = configuration(application, settings)
        if tls is not None:
            config.load()
            config.ssl = tls.context
            bound_handshakes(settings.head_seconds)
        server = Server(config, leaving, settings.leave_seconds, tls)
        if supervisor is not None:
            asyncio.get_running_loop().add_reader(supervisor, server.leave, 0)
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT)
        told()
        await server.serve(sockets=list(work.sockets))


def bound_handshakes(seconds: float) -> None:
    """A client that does not shake hands is as one that sends no headers."""
    loop: Any = asyncio.get_running_loop()
    loop.create_server = partial(loop.create_server, ssl_handshake_timeout=seconds)


def configuration(application: Asgi, settings: Settings) -> LimitedConfig:
    """How uvicorn serves here."""
    config = LimitedConfig(
        application,
        http=Connection,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        ws="none",
        backlog=BACKLOG,
        timeout_keep_alive=settings.idle_seconds,
        timeout_graceful_shutdown=FINISH_SECONDS,
    )
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    config.limits = Limits(
        connections=min(settings.max_connections, max(1, files * 3 // 4 - SPARE)),
        head=settings.max_url + settings.max_headers,
        head_seconds=settings.head_seconds,
        stall_seconds=settings.stall_seconds,
    )
    return config
