"""What the record holds of a model version: a Device, its card as a DocumentReference, and who
decided what about it as Provenance.

https://hl7.org/fhir/R4/device.html, /documentreference.html, /provenance.html
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from typing import Any, Final

from fhir_server.access.drafts import Draft
from fhir_server.access.principal import Principal
from fhir_server.access.session import Session
from fhir_server.definitions.guide import profile
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Gone, NotFound
from fhir_server.model.resource import Key

from .manifest import Card
from .package import ModelPackage
from .registry import Registry

CARD: Final = ".card"
PACKAGE: Final = ".package"
"""What follows the id of a version in those of its DocumentReference and its Binary."""
KINDS: Final = {"Tagging": "Model of free text"}
SIGNATURE_URL: Final = "urn:vehr:fhir:StructureDefinition:model-signer"


def device(package: ModelPackage, *, retired: bool = False, signer: str = "") -> Json:
    """The Device that stands for one version, its card in notes: whoever sees a result may read
    the Device, but the DocumentReference belongs to no patient. ``signer``: fingerprint of the key.
    """
    card = package.card
    return {
        "resourceType": "Device",
        "id": package.id,
        "meta": profile("model-device"),
        **({"extension": [{"url": SIGNATURE_URL, "valueString": signer}]} if signer else {}),
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": f"urn:sha256:{package.sha256}"}],
        "status": "inactive" if retired else "active",
        "deviceName": [{"name": card.title, "type": "model-name"}],
        "modelNumber": card.name,
        "type": {"text": KINDS.get(card.result, "Prediction model")},
        "version": [{"value": card.version}],
        "url": card.source.url,
        "note": [
            {"text": f"Intended use: {card.intended_use}"},
            {"text": f"Population: {card.population}"},
            *({"text": f"Limit: {limit}"} for limit in card.limits),
            {"text": f"Training data: {card.training_data}"},
            *({"text": f"{m.name}: {m.value} ({m.source})"} for m in card.metric),
            {"text": f"Licence: {card.licence}"},
            {"text": f"Source: {card.source.citation}"},
        ],
    }


def card_document(package: ModelPackage) -> Json:
    """The card of one version, for people."""
    title = f"{package.card.title} {package.card.version}: model card"
    text = b64encode(card_text(package.card).encode()).decode()
    return {
        "resourceType": "DocumentReference",
        "id": package.id + CARD,
        "meta": profile("model-card"),
        "status": "current",
        "docStatus": "final",
        "type": {"text": "Model card"},
        "subject": {"reference": f"Device/{package.id}"},
        "description": title,
        "content": [
            {
                "attachment": {
                    "contentType": "text/markdown; charset=utf-8",
                    "language": "en",
                    "data": text,
                    "title": title,
                }
            }
        ],
    }


async def stored_card(own: Session, id_: str) -> Json:
    """The card of a version that this process has not loaded. ``own``: the server's session.
    Raises NotFound."""
    try:
        return loads((await own.read(Key("DocumentReference", id_ + CARD))).body)
    except (NotFound, Gone):
        raise NotFound(f"Unknown version {id_!r}") from None


def card_text(card: Card) -> str:
    """The card in Markdown."""
    lines = [
        f"# {card.title} {card.version}",
        *("", "## Intended use", card.intended_use),
        *("", "## Population", card.population),
        *("", "## Training data", card.training_data),
        *("", "## Limits", *(f"- {limit}" for limit in card.limits)),
        *("", "## Performance", *(f"- {m.name}: {m.value} ({m.source})" for m in card.metric)),
        *("", "## Licence", card.licence),
        *("", "## Source", f"{card.source.citation} {card.source.url}"),
    ]
    return "\n".join(lines) + "\n"


def decision(
    act: str, targets: Iterable[Key], principal: Principal, reason: str, recorded: str
) -> Json:
    """Who decided what about a version, and why. ``act``: a verb; ``recorded``: instant."""
    return decided(f"model {act}", targets, principal, reason, recorded)


def decided(
    activity: str, targets: Iterable[Key], principal: Principal, reason: str, recorded: str
) -> Json:
    """The Provenance of what a person decided about something of the server's."""
    return {
        "resourceType": "Provenance",
        "target": [{"reference": str(key)} for key in targets],
        "recorded": recorded,
        "activity": {"text": activity},
        **({"reason": [{"text": reason}]} if reason else {}),
        "agent": [{"who": _who(principal)}],
    }


def _who(principal: Principal) -> Json:
    standing = principal.standing
    if standing is not None and standing.fhir_user:
        return {"reference": standing.fhir_user, "display": principal.user}
    name = principal.user or principal.client or principal.id
    return {"identifier": {"system": "urn:vehr:principal", "value": name}, "display": name}


async def publish(registry: Registry, session: Session) -> list[Key]:
    """Store the Devices and cards that the face does not have yet, so that results can refer to
    them.

    ``session``: of the server itself. Gives the keys that were written.
    """
    drafts: list[Draft] = []
    for version in list(registry.versions.values()):
        if not await present(session, Key("Device", version.package.id)):
            drafts += described(version.package)
    if drafts:
        await session.write(drafts)
    return [draft.key for draft in drafts]


def described(package: ModelPackage, **about: Any) -> list[Draft]:
    """Device and card of a version. ``about``: of ``device``."""
    found = [device(package, **about), card_document(package)]
    return [Draft("PUT", Key(r["resourceType"], r["id"]), r) for r in found]


async def present(session: Session, key: Key) -> bool:
    try:
        await session.read(key)
    except (NotFound, Gone):
        return False
    return True
