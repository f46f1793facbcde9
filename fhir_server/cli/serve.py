"""``vehr serve``: the server."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fhir_server.app import FHIR, sole_server
from fhir_server.auth.provider import provider_of
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.config import Settings, SettingsError
from fhir_server.model.problem import Problem
from fhir_server.workers.output import forgive_output
from fhir_server.workers.process import BACKLOG, Work, run
from fhir_server.workers.supervisor import GaveUp, Inherited, Supervisor
from fhir_server.workers.tls import certificate


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 8080,
    data: Data = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 1,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain, PEM (VEHR_TLS_CERT): speak TLS.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="Its key, PEM (VEHR_TLS_KEY), if in a file of its own.")
    ] = None,
    open_: Annotated[
        bool,
        typer.Option("--open", help="No login, everything permitted; only on a loopback address."),
    ] = False,
) -> None:
    """Serve FHIR R4 until interrupted."""
    if open_ and not is_loopback(host):
        raise SettingsError(f"--open serves everything to everyone: not on {host}")
    scheme = "https" if tls_cert or "VEHR_TLS_CERT" in os.environ else "http"
    settings = settings_of(data, f"{scheme}://{_shown(host)}:{port}")
    if tls_cert is not None:
        settings = replace(settings, tls_cert=tls_cert, tls_key=tls_key or settings.tls_key)
    elif tls_key is not None:
        settings = replace(settings, tls_key=tls_key)
    certificate(settings)
    if settings.login_provider is not None:
        provider_of(settings.login_provider)
    if workers > 1:
        lasting(settings)
    try:
        serve_with(settings, (host, port), workers, open_=open_)
    except (Problem, GaveUp) as error:
        raise SettingsError(str(error)) from None


def serve_with(settings: Settings, address: tuple[str, int], workers: int, *, open_: bool) -> None:
    """Serve on an address until told to stop. Raises Problem or GaveUp."""
    forgive_output()
    lock = sole_server(settings)
    work = Work(settings, listening(*address), open_)

    def told() -> None:
        login = " without login" if open_ else ""
        print(f"vEHR serves {settings.base_url}{FHIR}{login}", flush=True)

    if workers == 1:
        run(work, told)
    else:
        file = Inherited(None if lock is None else lock.fileno())
        Supervisor(work, workers, file, told).run()
    if lock is not None:
        lock.release()


def listening(host: str, port: int) -> tuple[socket.socket, ...]:
    """Sockets that listen on every address of a host."""
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, place in dict.fromkeys((family, place) for family, *_, place in found):
            made = socket.create_server(place[:2], family=family, backlog=BACKLOG)
            sockets.append(made)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {_why(error)}") from None
    return tuple(sockets)


def is_loopback(host: str) -> bool:
    """127.0.0.0/8, ::1 or the name localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(host: str) -> str:
    """The host in a URL that this machine can open."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _why(error: OSError) -> str:
    """The system's words, without what the library adds in brackets."""
    return (error.strerror or "no such address").partition(" (")[0]
