"""The registry of models over FHIR: which there are, a version more, who answers to a name.

``$model-push`` takes an archive, ``$model-activate``, ``$model-rollback`` and ``$model-retire`` a
reason; ``$models`` tells, and ``$model-card`` gives the card of one version. What is decided is in
the record: a Device and a DocumentReference for each version, a Provenance for each decision.
"""

from __future__ import annotations

from binascii import a2b_base64
from typing import Final

from fhir_server.access.session import Session
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, NotFound
from fhir_server.model.resource import ID_PATTERN, Key

from .models.administration import Administration, By, allowed
from .models.publishing import CARD, card_document, card_text, stored_card
from .models.registry import Registry
from .models.shelf import content
from .models.state import ALIASES, CHALLENGER, CHAMPION
from .parameters import Arguments, Parameter
from .registry import Handler, Invocation, Operation

MODEL: Final = Parameter("model", "code", "Name of the model, or one of its aliases", min=1)
VERSION: Final = Parameter("version", "string", "Its version", min=1)
WHICH: Final = Parameter("alias", "code", f"{' or '.join(ALIASES)}; default {CHAMPION}")
REASON: Final = Parameter("reason", "string", "Why; it is kept as Provenance", min=1)
NAMED: Final = (
    Parameter("model", "code", "Name of the model", min=1),
    Parameter("version", "string", "The version that this was about", min=1),
    Parameter("champion", "string", "The version that answers now; absent: none"),
    Parameter("challenger", "string", "The version that computes beside it unseen"),
    Parameter("device", "Reference", "The Device of the version", min=1),
)
LISTED: Final = (
    Parameter("version", "string", "Version", min=1),
    Parameter("status", "code", "champion, challenger, candidate, retired or refused", min=1),
    Parameter("device", "Reference", "Its Device", min=1),
    Parameter("sha256", "string", "Of model.onnx"),
    Parameter("signer", "string", "Fingerprint of the key that has signed it"),
    Parameter("fault", "string", "Why it cannot be used"),
)


def registry_operations(administration: Administration) -> tuple[Operation, ...]:
    """The rows."""
    rows = _Rows(administration)
    return (
        _row("models", rows.listed, (Parameter("model", "code", "Only this one"),), _LIST),
        _row("model-card", rows.card, (MODEL, VERSION), _CARD),
        _row("model-push", rows.push, _PUSH, NAMED, body="archive"),
        _row("model-activate", rows.activate, (MODEL, VERSION, WHICH, REASON), NAMED),
        _row("model-rollback", rows.rollback, (MODEL, WHICH, REASON), NAMED),
        _row("model-retire", rows.retire, (MODEL, VERSION, REASON), NAMED),
    )


_PUSH: Final = (
    Parameter("archive", "Binary", "A zip or tar archive of the package"),
    Parameter("binary", "Literal", "Instead of it: the Binary that holds a large one"),
    Parameter("signature", "string", "Ed25519 over the digests, base64, if it is not inside"),
    Parameter("reason", "string", "Why; it is kept as Provenance"),
)
_LIST: Final = (
    Parameter(
        "model",
        "",
        "A model",
        max=None,
        parts=(
            Parameter("name", "code", "Name", min=1),
            Parameter("card", "string", "The card of the champion, in Markdown"),
            Parameter("version", "", "A version", max=None, parts=LISTED),
        ),
    ),
)
_CARD: Final = (Parameter("return", "DocumentReference", "The card, in Markdown", min=1),)
_READING: Final = ("models", "model-card")
_DOC: Final = {
    "models": "The models of this server, their versions and who answers to which name",
    "model-card": "The card of one version, also of one that answers no more",
    "model-push": "Takes a model package in; it serves nobody until it is activated",
    "model-activate": "Puts a version behind an alias, while serving",
    "model-rollback": "Puts the version before behind an alias again",
    "model-retire": "Takes a version out of use for good",
}
_EXAMPLE: Final = {
    "models": "GET /fhir/$models",
    "model-card": "GET /fhir/$model-card?model=score2&version=1.0.0",
    "model-push": "POST /fhir/$model-push",
    "model-activate": "POST /fhir/$model-activate?model=score2&version=1.0.0&reason=better",
    "model-rollback": "POST /fhir/$model-rollback?model=score2&reason=worse",
    "model-retire": "POST /fhir/$model-retire?model=score2&version=1.0.0&reason=old",
}


def _row(
    code: str,
    handler: Handler,
    inputs: tuple[Parameter, ...],
    outputs: tuple[Parameter, ...],
    body: str = "",
) -> Operation:
    changes = code not in _READING
    return Operation(
        code=code,
        levels=frozenset({"system"}),
        types=(),
        affects_state=changes,
        inputs=inputs,
        outputs=outputs,
        scope="user/Device.u (role admin), or system/Device.u __models"
        if changes
        else "user/Device.r",
        description=_DOC[code],
        example=_EXAMPLE[code],
        handler=handler,
        body=body,
        needs=("Device",),
    )


class _Rows:
    """The handlers."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    @property
    def _registry(self) -> Registry:
        return self._administration.registry

    async def listed(self, arguments: Arguments, session: Session, _: Invocation) -> Json:
        await self._registry.refresh()
        only = arguments.one("model", "")
        known = self._registry.aliases.get(only.lower(), only)
        names = [name for name in all_names(self._registry) if not only or name == known]
        models = [{"name": "model", "part": _model(self._registry, name)} for name in names]
        return {"resourceType": "Parameters", **({"parameter": models} if models else {})}

    async def card(self, arguments: Arguments, session: Session, _: Invocation) -> Json:
        await self._registry.refresh()
        asked, version = arguments.one("model"), arguments.one("version")
        id_ = f"{self._registry.aliases.get(asked.lower(), asked)}-{version}"
        loaded = self._registry.versions.get(id_)
        if loaded is not None:
            return card_document(loaded.package)
        if ID_PATTERN.fullmatch(id_ + CARD) is None:
            raise NotFound(f"Unknown version {id_!r}")
        return await stored_card(self._administration.own, id_)

    async def push(self, arguments: Arguments, session: Session, _: Invocation) -> Json:
        allowed(session)
        archive = await _archive(arguments, session)
        package = await self._administration.push(
            archive, arguments.one("signature", ""), self._by(arguments, session)
        )
        return self._told(package.card.name, package.card.version)

    async def activate(self, arguments: Arguments, session: Session, _: Invocation) -> Json:
        allowed(session)
        name, version = arguments.one("model"), arguments.one("version")
        by = self._by(arguments, session)
        alias = arguments.one("alias", CHAMPION)
        await self._administration.activate(name, version, alias, by)
        return self._told(name, version)

    async def rollback(self, arguments: Arguments, session: Session, _: Invocation) -> Json:
        allowed(session)
        name, alias = arguments.one("model"), arguments.one("alias", CHAMPION)
        by = self._by(arguments, session)
        version = await self._administration.rollback(name, alias, by)
        return self._told(name, version)

    async def retire(self, arguments: Arguments, session: Session, _: Invocation) -> Json:
        allowed(session)
        name, version = arguments.one("model"), arguments.one("version")
        await self._administration.retire(name, version, self._by(arguments, session))
        return self._told(name, version)

    def _by(self, arguments: Arguments, session: Session) -> By:
        own = session.recording(self._administration.own)
        return By(session.principal, own, arguments.one("reason", ""))

    def _told(self, name: str, version: str) -> Json:
        name = self._registry.aliases.get(name.lower(), name)
        parts = [
            ("model", "valueCode", name),
            ("version", "valueString", version),
            ("champion", "valueString", self._registry.champions.get(name)),
            ("challenger", "valueString", self._registry.challengers.get(name)),
            ("device", "valueReference", {"reference": f"Device/{name}-{version}"}),
        ]
        if not version:
            parts = [part for part in parts if part[0] not in ("version", "device")]
        return {"resourceType": "Parameters", "parameter": _parts(parts)}


async def _archive(arguments: Arguments, session: Session) -> bytes:
    archive, binary = arguments.one("archive"), arguments.one("binary", "")
    if (archive is None) == (not binary):
        raise BadRequest("give the archive in the body, or name a Binary that holds it")
    if archive is not None:
        return a2b_base64(archive.get("data", ""))
    type_, _, id_ = binary.partition("/")
    if type_ != "Binary":
        raise BadRequest("binary: it is the reference to a Binary", code="value")
    return await content(session, Key(type_, id_))


def all_names(registry: Registry) -> list[str]:
    """Of every model that is known, also of those without a champion."""
    known = {version.package.card.name for version in registry.versions.values()}
    return sorted(known | {kept.name for kept in registry.known.kept.values()})


def status(registry: Registry, name: str, version: str) -> str:
    """What a version is now."""
    id_ = f"{name}-{version}"
    if id_ in registry.retired:
        return "retired"
    if id_ in registry.refused:
        return "refused"
    if registry.champions.get(name) == version:
        return CHAMPION
    return CHALLENGER if registry.challengers.get(name) == version else "candidate"


def versions_of(registry: Registry, name: str) -> list[str]:
    """The oldest first."""
    loaded = [v.package.card for v in registry.versions.values() if v.package.card.name == name]
    kept = [kept.version for kept in registry.known.kept.values() if kept.name == name]
    found = {*kept, *(card.version for card in loaded)}
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")])


def _model(registry: Registry, name: str) -> list[Json]:
    champion = registry.versions.get(f"{name}-{registry.champions.get(name, '')}")
    card = card_text(champion.package.card) if champion else None
    versions = [
        {"name": "version", "part": _version(registry, name, version)}
        for version in versions_of(registry, name)
    ]
    named = _parts([("name", "valueCode", name), ("card", "valueString", card)])
    return [*named, *versions]


def _version(registry: Registry, name: str, version: str) -> list[Json]:
    id_ = f"{name}-{version}"
    loaded, kept = registry.versions.get(id_), registry.known.kept.get(id_)
    return _parts(
        [
            ("version", "valueString", version),
            ("status", "valueCode", status(registry, name, version)),
            ("device", "valueReference", {"reference": f"Device/{id_}"}),
            ("sha256", "valueString", loaded.package.sha256 if loaded else None),
            ("signer", "valueString", kept.signer if kept else None),
            ("fault", "valueString", registry.refused.get(id_)),
        ]
    )


def _parts(rows: list[tuple[str, str, Json | str | None]]) -> list[Json]:
    """Without those that have no value."""
    return [{"name": name, member: value} for name, member, value in rows if value]
