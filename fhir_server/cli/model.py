"""``vehr model``: the registry of models, beside a running server or without one."""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from fhir_server.access.principal import Principal
from fhir_server.app import Domain
from fhir_server.cli.alerts import evaluate_alerts
from fhir_server.cli.model_work import with_models
from fhir_server.cli.recorded import recorded
from fhir_server.cli.settings import Data, lasting, settings_of
from fhir_server.config import SettingsError
from fhir_server.model.datatypes import format_instant
from operations.model_registry import all_names, status, versions_of
from operations.models.administration import By
from operations.models.assembly import Models
from operations.models.evidence import Moment
from operations.models.explain import Explained, ModelFeatures, explain_features
from operations.models.intake.archive import NAMES
from operations.models.intake.signing import SIGNATURE, sign
from operations.models.package import digests
from operations.models.session_record import SessionRecord
from operations.models.state import CHAMPION
from operations.models.training.dataset import DataSet
from operations.models.training.making import make
from operations.models.training.work import Files, Training, archived, reason

T = TypeVar("T")

model = typer.Typer(
    help="Models: push, train, evaluate-alerts, list, activate, rollback, retire, features, sign.",
    no_args_is_help=True,
)
model.command()(evaluate_alerts)
Name = Annotated[str, typer.Argument(help="Name of the model.", metavar="MODEL")]
Version = Annotated[str, typer.Argument(help="Its version.", metavar="VERSION")]
Why = Annotated[str, typer.Option("--why", help="The reason, kept as Provenance.")]
AliasName = Annotated[str, typer.Option("--alias", help="champion or challenger.")]


@model.command()
def push(
    package: Annotated[Path, typer.Argument(help="Archive (zip, tar, tar.gz) or folder.")],
    signature: Annotated[
        Path | None, typer.Option(help="Its signature, if it is not inside.", show_default=False)
    ] = None,
    why: Why = "",
    data: Data = None,
) -> None:
    """Take a model package in; it serves nobody until it is activated."""
    archive = packed(package) if package.is_dir() else package.read_bytes()
    text = signature.read_text(encoding="ascii") if signature is not None else ""

    async def pushed(models: Models, by: By) -> str:
        return (await models.administration.push(archive, text, by)).id

    print(f"pushed {_acted(data, 'push', str(package), why, pushed)}")


@model.command()
def train(
    spec: Annotated[Path, typer.Argument(help="What to train, in TOML.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Write the package there instead of pushing it.", show_default=False),
    ] = None,
    why: Why = "",
    data: Data = None,
) -> None:
    """Make a model from the record; it stands beside the champion as its challenger."""
    text = spec.read_text(encoding="utf-8")

    async def trained(models: Models, domain: Domain) -> tuple[str, Files]:
        async with recorded(domain, "model-train", target=str(spec)):
            work = Training(models.administration, models.own, domain.indexes, _made)
            files = await work.files(text, _silent)
            if out is not None:
                return str(out), files
            user = f"os:{getpass.getuser()}"
            by = By(Principal(user, user=user), models.own, reason(text, why))
            return (await work.challenge(files, by)).id, files

    told, files = with_models(lasting(settings_of(data)), trained)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (out / name).write_bytes(content)
    print("\n".join(_trained(told, json.loads(files["report.json"]))))


def _trained(told: str, report: dict[str, Any]) -> Iterator[str]:
    """What the report says, in lines."""
    yield f"{told}: model.onnx sha256 {report['frozen'][:12]}, data set {report['data'][:12]}"
    for part, counts in report["rows"].items():
        yield f"{part:<6} {counts['rows']} rows, {counts['events']} events"
    for name in ("auroc", "brier", "brier_skill", "slope", "intercept"):
        found = report["test"].get(name)
        if found:
            yield f"{name:<12} {found['value']:>8} ({found['low']} to {found['high']})"
    for one in report["gate"]["conditions"]:
        state = "passed" if one["passed"] else "FAILED"
        yield f"gate: {one['name']:<18} {one['found']!s:>8}  {one['wanted']:<20} {state}"


async def _silent(done: int, total: int | None) -> None:
    return None


async def _made(text: str, rows: DataSet) -> Files:
    return await asyncio.to_thread(make, text, rows)


@model.command("list")
def list_(data: Data = None) -> None:
    """Every version: model, version, status, SHA-256 of the graph, and why it cannot be used."""

    async def listed(models: Models, _: Domain) -> list[str]:
        registry = models.registry
        await registry.refresh()
        rows = []
        for name in all_names(registry):
            for version in versions_of(registry, name):
                loaded = registry.versions.get(f"{name}-{version}")
                digest = loaded.package.sha256[:12] if loaded else ""
                fault = registry.refused.get(f"{name}-{version}", "")
                state = status(registry, name, version)
                rows.append(f"{name:<16} {version:<10} {state:<11} {digest:<12} {fault}".rstrip())
        return rows

    print("\n".join(with_models(lasting(settings_of(data)), listed)))


@model.command()
def activate(
    name: Name, version: Version, why: Why, alias: AliasName = CHAMPION, data: Data = None
) -> None:
    """Put a version behind an alias; the next request is answered by it."""

    async def activated(models: Models, by: By) -> str:
        await models.administration.activate(name, version, alias, by)
        return f"{name} {version} is {alias}"

    print(_acted(data, "activate", f"{name} {version} {alias}", why, activated))


@model.command()
def rollback(name: Name, why: Why, alias: AliasName = CHAMPION, data: Data = None) -> None:
    """Put the version before behind an alias again."""

    async def returned(models: Models, by: By) -> str:
        version = await models.administration.rollback(name, alias, by)
        return f"{name} {version or '(none)'} is {alias}"

    print(_acted(data, "rollback", f"{name} {alias}", why, returned))


@model.command()
def retire(name: Name, version: Version, why: Why, data: Data = None) -> None:
    """Take a version out of use for good."""

    async def retired(models: Models, by: By) -> str:
        await models.administration.retire(name, version, by)
        return f"{name} {version} is retired"

    print(_acted(data, "retire", f"{name} {version}", why, retired))


@model.command()
def features(
    name: Name,
    patient: Annotated[str, typer.Argument(help="Patient/id.", metavar="PATIENT")],
    as_of: Annotated[str, typer.Option("--as-of", help="Instant; default: now.")] = "",
    data: Data = None,
) -> None:
    """Which resource and which conversion of its unit gave each feature of a model."""
    type_, _, id_ = patient.rpartition("/")
    if type_ not in ("", "Patient"):
        raise SettingsError(f"{patient}: it is Patient/id")

    async def explained(models: Models, domain: Domain) -> ModelFeatures:
        about = {"target": name, "what": f"Patient/{id_}", "patients": (id_,)}
        async with recorded(domain, "model-features", **about):
            reader = SessionRecord(models.own, id_, domain.indexes)
            at = Moment.of(as_of or format_instant(domain.engine.now()))
            return await explain_features(models.registry, reader, name, at)

    found = with_models(lasting(settings_of(data)), explained)
    print(found.model)
    for feature in found.features:
        print(_line(feature))
    for refusal in found.refused:
        print(f"refused: {refusal}")


def _line(one: Explained) -> str:
    """A feature, its value or why there is none, and what gave it."""
    if one.value is None:
        return f"{one.feature:<20} {'-':<22} missing   {one.missing}"
    shown = f"{one.value:.6g}" if isinstance(one.value, Decimal) else str(one.value)
    words = (one.conversion, one.note, one.missing, *(s.reference for s in one.sources))
    told = "; ".join(word for word in words if word)
    return f"{one.feature:<20} {f'{shown} {one.unit}':<22} {one.origin:<9} {one.date:<11} {told}"


@model.command("sign")
def sign_(
    folder: Annotated[Path, typer.Argument(help="Folder of the package.")],
    key: Annotated[Path, typer.Option(help="Private key (Ed25519, PEM).")],
) -> None:
    """Write signature.txt into the folder of a package."""
    try:
        text = sign(digests(files_of(folder)), key.read_bytes())
    except ValueError as error:
        raise SettingsError(f"--key: {error}") from None
    (folder / SIGNATURE).write_text(text + "\n", encoding="ascii")
    print(f"signed {folder}")


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a package in a folder; others are none of it."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name in NAMES}


def packed(folder: Path) -> bytes:
    """A folder as a tar archive, the same for the same files."""
    return archived(files_of(folder))


def _acted(
    data: Path | None, act: str, target: str, why: str, work: Callable[[Models, By], Awaitable[T]]
) -> T:
    """A decision of who may run commands on this machine, in the audit trail."""

    async def acted(models: Models, domain: Domain) -> T:
        async with recorded(domain, f"model-{act}", target=target):
            user = f"os:{getpass.getuser()}"
            return await work(models, By(Principal(user, user=user), models.own, why))

    return with_models(lasting(settings_of(data)), acted)
