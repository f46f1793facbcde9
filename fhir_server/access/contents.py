"""Binary: whose content it is, and where that content lies.

https://hl7.org/fhir/R4/binary.html: securityContext names the resource that stands in when
access is decided. Content beyond ``INLINE`` lies in a blob: the stored version has no
``data``, and a ledger row ``blob`` names the blob of each version, written with it. A
second row per use, ``blob-use``, answers the sweep.
"""

from __future__ import annotations

import binascii
import secrets
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Final

import structlog

from fhir_server.access.blob_use import CONTENT as CONTENT
from fhir_server.access.blob_use import USE as USE
from fhir_server.access.blob_use import needed as needed
from fhir_server.access.engine import Engine
from fhir_server.access.judging import holds
from fhir_server.access.policy import BINARY, Policy
from fhir_server.formats.json import dumps, loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import ServerError, Unavailable, Unprocessable
from fhir_server.model.resource import Key, Stored
from fhir_server.search.extract import local_references
from fhir_server.search.plan import FALSE, TRUE, All, IdIn, Scan, Search
from fhir_server.store.blobs import Blob, Blobs, Damaged
from fhir_server.store.ledger import Ledger, LedgerWrite

log = structlog.get_logger("vehr.blobs")

INLINE: Final = 32_768
"""Characters of base64 that a stored Binary holds itself."""

OWNER: Final = "blob-owner"
"""One row: the name by which this database claims the place of its contents."""
FOREIGN: Final = (
    "below the prefix of VEHR_BLOBS lie the contents of another database, and each would sweep"
    " those of the other: give each a prefix of its own (if that database is gone, remove the"
    " object 'owner' below the prefix)"
)
NOWHERE: Final = Key("DocumentReference", "-")
WITHHELD: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
}
"""https://hl7.org/fhir/R4/search.html#elements: marks what is not complete."""


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes of a version that lie in a blob. ``size``: in bytes, as stored, not as base64."""

    blobs: Blobs
    blob: Blob
    key: Key

    @property
    def size(self) -> int:
        return self.blob.size

    async def read(self) -> AsyncIterator[bytes]:
        """Checked as a whole before the first byte; ServerError if it is damaged."""
        try:
            return await self.blobs.read(self.blob)
        except Damaged as damage:
            text = f"the stored content of {self.key} is damaged and is not served"
            raise ServerError(text, code="exception") from damage


def apart(policy: Policy, letter: str, type_: str) -> bool:
    """Is this a Binary that ``permitted`` judges, because plans never show it?"""
    return type_ == BINARY and policy.sees(letter, BINARY) == FALSE


async def permitted(
    engine: Engine, policy: Policy, letter: str, resource: Json, new: Collection[Key] = ()
) -> bool:
    """The right to a Binary and, through its securityContext, to what that names.

    ``new``: resources of the same write, which are judged there. Without a securityContext
    only those have it from whom nothing is hidden.
    """
    own = policy.binary(letter)
    if own != TRUE and (own == FALSE or not holds(engine, own, resource, engine.now())):
        return False
    if resource.get("securityContext") is None and policy.whole:
        return True
    target = context_of(resource)
    if target is None or target.type == BINARY:
        return await nowhere(engine, policy)
    return target in new or await _readable(engine, policy, target)


def context_of(resource: Json) -> Key | None:
    """What stands in for a Binary when access to it is decided; None: nothing here."""
    named = {"reference": (resource.get("securityContext") or {}).get("reference")}
    return next((Key(type_, id_) for type_, id_, _ in local_references(named)), None)


async def nowhere(engine: Engine, policy: Policy) -> bool:
    """No; the store is asked as if there were something (L53)."""
    await _readable(engine, policy, NOWHERE)
    return False


async def _readable(engine: Engine, policy: Policy, target: Key) -> bool:
    known = policy.sees("r", target.type)
    if known == TRUE and policy.whole:
        return True
    scan = Scan(target.type, All((IdIn((target.id,)), known)))
    page = await engine.store.run(Search((scan,), count=1, total="none"))
    return bool(page.matches)


def row_key(key: Key, version: int) -> str:
    return f"{key}/{version}"


async def blob_of(ledger: Ledger, key: Key, version: int) -> Blob | None:
    """The blob of a version; None if the version holds its content itself, or has none."""
    row = await ledger.get(CONTENT, row_key(key, version))
    return None if row is None else Blob(row.value["sha256"], row.value["size"])


def naming(key: Key, version: int, blob: Blob) -> tuple[LedgerWrite, LedgerWrite]:
    """The ledger rows that make a version name its blob, written in one commit with it."""
    place = row_key(key, version)
    value = {"sha256": blob.sha256, "size": blob.size}
    return LedgerWrite(CONTENT, place, value), LedgerWrite(USE, f"{blob.sha256}/{place}", {})


async def is_referenced(ledger: Ledger, sha256: str) -> bool:
    """Does any version name this blob? (``store/blobs.IsReferenced``)"""
    return bool(await ledger.scan(USE, f"{sha256}/"))


async def set_aside(blobs: Blobs | None, resource: Json) -> tuple[Json, Blob | None]:
    """The resource as it is stored, and the blob of its data if that is large."""
    data = resource.get("data")
    if data is None:
        expect_whole(resource)
    if blobs is None or not isinstance(data, str) or len(data) <= INLINE:
        return resource, None

    async def decoded() -> AsyncIterator[bytes]:
        yield binascii.a2b_base64(data)

    blob = await blobs.put(decoded())
    return {name: value for name, value in resource.items() if name != "data"}, blob


def expect_whole(resource: Json) -> None:
    """Unprocessable if the resource says that elements were left out of it: it would overwrite
    what it lacks. Source: https://hl7.org/fhir/R4/search.html#summary
    """
    if WITHHELD["code"] in _tags(resource):
        type_ = resource["resourceType"]
        text = f"the {type_} is tagged SUBSETTED: send it whole and without the tag"
        raise Unprocessable(text, code="invariant", expression=f"{type_}.meta.tag")


def _tags(resource: Json) -> list[str]:
    return [tag.get("code") for tag in resource.get("meta", {}).get("tag", ())]


async def own_contents(engine: Engine) -> None:
    """Unavailable where other contents than those of this database lie: each would sweep what
    the other names. A place that does not answer is left for the next look.
    """
    if engine.blobs is None or not engine.blobs.shared:
        return
    ledger = engine.store.ledger
    await ledger.insert_unique(OWNER, OWNER, {"name": secrets.token_hex(16)})
    row = await ledger.get(OWNER, OWNER)
    assert row is not None
    try:
        holder = await engine.blobs.claim(row.value["name"])
    except Unavailable as problem:
        log.warning("the place of contents does not answer", error=str(problem))
        return
    if holder != row.value["name"]:
        raise Unavailable(FOREIGN)


async def sweep(engine: Engine, before: float) -> int:
    """Remove the blobs that no version names and that were stored before this epoch second."""
    await own_contents(engine)

    async def named(sha256: str) -> bool:
        return await is_referenced(engine.store.ledger, sha256)

    return await needed(engine.blobs).sweep(named, before)


def in_bundle(stored: Stored) -> Stored:
    """How a version appears in a Bundle: content in a blob stays out, and the tag says so."""
    if stored.key.type != BINARY or stored.deleted or b'"data":' in stored.body:
        return stored
    resource = loads(stored.body)
    meta = resource["meta"]
    tagged = {**resource, "meta": {**meta, "tag": [*meta.get("tag", ()), WITHHELD]}}
    return Stored(
        stored.key, stored.version, stored.updated, dumps(tagged), stored.seq, stored.method
    )
