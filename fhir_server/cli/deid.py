"""``vehr deid``: profiles, keys of projects, risks."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fhir_server.cli.deid_risk import risk_of
from fhir_server.cli.settings import Data, settings_of
from fhir_server.config import SettingsError
from fhir_server.definitions.registry import load
from operations.deid.evaluating import evaluated
from operations.deid.keys import KeyRing
from operations.deid.linter import Finding, findings
from operations.deid.text.corpora import CorpusError
from operations.deid.text.evaluation import KINDS_OF
from operations.deidentification import deidentification

deid = typer.Typer(
    help="De-identification: lint, profiles, keys, risk, evaluate.", no_args_is_help=True
)
keys = typer.Typer(help="Keys of projects: list, add, rotate.", no_args_is_help=True)
deid.add_typer(keys, name="keys")
deid.command("risk")(risk_of)

File = Annotated[Path, typer.Argument(help="A profile (JSON).")]
Project = Annotated[str, typer.Argument(help="The name of a project.")]


@deid.command()
def lint(file: File) -> None:
    """Say what is wrong with a profile: 1 if it does not load or a rule never acts."""
    found = _findings(file)
    for one in found:
        print(one)
    if any(one.severity != "warning" for one in found):
        sys.exit(1)


@deid.command()
def add(file: File, data: Data = None) -> None:
    """Take a profile in; it is known by the name of its file."""
    faults = [one for one in _findings(file) if one.severity == "error"]
    if faults:
        raise SettingsError(f"{file} does not load: {faults[0]}")
    shelf = deidentification(settings_of(data)).shelf
    for folder in (shelf.folder.parent, shelf.folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(file, shelf.folder / f"{file.stem}.json")
    print(f"added {file.stem}")


@deid.command()
def profiles(data: Data = None) -> None:
    """The names of all profiles."""
    for code in deidentification(settings_of(data)).shelf.codes():
        print(code)


@keys.command("list")
def list_(data: Data = None) -> None:
    """Project, version, day; the first of a project is in use."""
    for one in _ring(data).known():
        day = datetime.fromtimestamp(one.created, UTC)
        print(f"{one.project}  {one.version}  {day:%Y-%m-%d}{'  in use' if one.in_use else ''}")


@keys.command("add")
def add_key(project: Project, data: Data = None) -> None:
    """Make the key of a project: pseudonyms can be made for it from now on."""
    print(f"{project} {_ring(data).add(project)}")


@keys.command()
def rotate(project: Project, data: Data = None) -> None:
    """A new key: from now on the project gets other pseudonyms. The vault knows both."""
    print(f"{project} {_ring(data).rotate(project)}")


@deid.command()
def evaluate(
    corpus: Annotated[
        Path, typer.Argument(help="An IOB file, span JSON, or a folder like factRuEval's.")
    ],
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Of a label that has another name here.")
    ] = None,
) -> None:
    """Recall and precision of the cleaning of free text, with intervals (Wilson, 95 %).

    ``--label PII_NAME=name`` says that the corpus's PII_NAME is a name.
    """
    try:
        asyncio.run(evaluated(corpus, _renamed(label or [])))
    except CorpusError as error:
        raise SettingsError(str(error)) from None


def _renamed(pairs: list[str]) -> dict[str, str]:
    named = dict(pair.partition("=")[::2] for pair in pairs)
    unknown = sorted(set(named.values()) - set(KINDS_OF))
    if unknown:
        raise SettingsError(
            f"no identifier is called {unknown[0]!r}; {', '.join(sorted(KINDS_OF))}"
        )
    return named


def _ring(data: Path | None) -> KeyRing:
    return deidentification(settings_of(data)).keys


def _findings(file: Path) -> list[Finding]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise SettingsError(f"{file} is not JSON") from None
    return findings(file.stem, document, load())
