"""The ``vehr`` command; one file per command."""

from __future__ import annotations

import sys

import typer

from fhir_server.cli.audit import audit
from fhir_server.cli.backup import backup
from fhir_server.cli.client import client
from fhir_server.cli.codes import codes
from fhir_server.cli.copy import copy
from fhir_server.cli.deid import deid
from fhir_server.cli.demo import demo
from fhir_server.cli.doctor import doctor
from fhir_server.cli.expunge import expunge
from fhir_server.cli.ig import ig
from fhir_server.cli.keys import keys
from fhir_server.cli.load import load
from fhir_server.cli.model import model
from fhir_server.cli.reindex import reindex
from fhir_server.cli.relation import relation
from fhir_server.cli.research import research
from fhir_server.cli.restore import restore
from fhir_server.cli.search import search
from fhir_server.cli.serve import serve
from fhir_server.cli.token import token
from fhir_server.cli.user import user
from fhir_server.cli.validate import validate
from fhir_server.config import SettingsError
from fhir_server.model.problem import Problem

COMMANDS = (
    serve,
    token,
    load,
    validate,
    reindex,
    search,
    doctor,
    backup,
    restore,
    copy,
    expunge,
    demo,
)
GROUPS = {
    "user": user,
    "client": client,
    "relation": relation,
    "keys": keys,
    "codes": codes,
    "audit": audit,
    "ig": ig,
    "deid": deid,
    "research": research,
    "model": model,
}

app = typer.Typer(
    name="vehr",
    help="FHIR R4 server with embedded AI operations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in COMMANDS:
    app.command()(_command)
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)


@app.callback()
def vehr() -> None:
    """FHIR R4 server with embedded AI operations."""


def main() -> None:
    """Run a command; what cannot be used is one line on stderr and exit code 2."""
    try:
        app()
    except (SettingsError, Problem, OSError) as error:
        print(f"vehr: {error}", file=sys.stderr)
        sys.exit(2)
