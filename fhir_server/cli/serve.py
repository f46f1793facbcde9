"""``vehr serve``: the server."""

from __future__ import annotations

import ipaddress
import socket
from typing import Annotated

import typer
import uvicorn

from fhir_server.app import Application, Domain
from fhir_server.cli.settings import Data, settings_of
from fhir_server.config import SettingsError
from fhir_server.http.protocol import Protocol

KEEP_ALIVE_SECONDS = 75
MOST_CONNECTIONS = 2000


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 8080,
    data: Data = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    open_: Annotated[
        bool,
        typer.Option("--open", help="No login, everything permitted; only on a loopback address."),
    ] = False,
) -> None:
    """Serve FHIR R4 until interrupted."""
    if workers != 1:
        raise SettingsError("--workers: several processes are not available yet; use 1")
    if open_ and not is_loopback(host):
        raise SettingsError(f"--open serves everything to everyone: not on {host}")
    settings = settings_of(data, f"http://{_shown(host)}:{port}")

    def started(domain: Domain) -> None:
        print(f"vEHR serves {domain.base}" + (" without login" if open_ else ""), flush=True)

    config = uvicorn.Config(
        Application(settings, open_=open_, started=started),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        lifespan="on",
        server_header=False,
        proxy_headers=False,
        http=Protocol,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        limit_concurrency=MOST_CONNECTIONS,
    )
    with listening(host, port) as opened:
        uvicorn.Server(config).run(sockets=[opened])


def listening(host: str, port: int) -> socket.socket:
    """The socket, before anything is opened: a port that is taken is an OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=MOST_CONNECTIONS)


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
