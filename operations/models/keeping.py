"""One draft per patient and version of a model, kept up to date instead of piling up.

By automatic predictions and by those of a Group. A draft that nobody has decided about is brought
up to date in place; one that rests on what it rested on is left alone, also after a decision;
one that can no longer be made is cancelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.access.drafts import Draft
from fhir_server.access.ports import Stale
from fhir_server.access.session import Session
from fhir_server.access.writing import resource_of
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Conflict
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import All, InPatient, Scan, Search, TokenIs
from fhir_server.search.plan import Any as AnyOf

from . import drafts
from .inference import Inference
from .package import ModelPackage
from .session_record import IndexNames

IDENTIFIER: Final = f"{drafts.CANONICAL}:draft"
ATTEMPTS: Final = 5
MOST: Final = 20
OUTDATED: Final = "Withdrawn: the record does not support this draft any more."


@dataclass(frozen=True, slots=True)
class Keeping:
    """``now``: an instant as written; ``requester``: a Reference, or what stands for one."""

    session: Session
    index: IndexNames
    now: str
    requester: Json

    async def keep(self, inference: Inference, moment: str) -> Key | None:
        """The draft that was written; None where there was nothing to write.

        Raises ValueError for what is hypothetical. Conflict: others write it all the time.
        """
        if inference.hypothetical:
            raise ValueError("what is hypothetical is never stored")
        patient = str(inference.patient.resource["id"])
        fresh = drafts.result(inference, moment)
        fresh["identifier"] = [{"system": IDENTIFIER, "value": inference.package.id}]
        for _ in range(ATTEMPTS):
            scan = self._scan(inference.package, patient)
            guard = await self.session.find(scan, MOST)
            open_, decided = _parted(await self._former(scan))
            if open_ is not None and _rests_on(open_[1]) == _rests_on(fresh):
                return None
            if open_ is None and decided is not None and _says(decided) == _says(fresh):
                return None
            key = open_[0].key if open_ else Key(fresh["resourceType"], self.session.new_id())
            version = open_[0].version if open_ else 0
            draft = Draft("PUT", key, fresh, str(version), (guard,)) if open_ else None
            draft = draft or Draft("POST", key, fresh, guards=(guard,))
            place = f"{key}/_history/{version + 1}"
            made = drafts.provenance(inference, place, self.now, self.requester)
            if await self._written([draft, self._beside(made)]):
                return key
        raise Conflict("this draft is being changed by others")

    async def withdraw(self, package: ModelPackage, patient: str) -> Key | None:
        """Cancels the open draft of a model that does not answer any more."""
        for _ in range(ATTEMPTS):
            scan = self._scan(package, patient)
            open_, _ = _parted(await self._former(scan))
            if open_ is None:
                return None
            stored, resource = open_
            notes = [note for note in resource.get("note", ()) if note["text"] != drafts.UNSIGNED]
            gone = {**resource, "status": "cancelled", "note": [{"text": OUTDATED}, *notes]}
            if await self._written([Draft("PUT", stored.key, gone, str(stored.version))]):
                return stored.key
        raise Conflict("this draft is being changed by others")

    async def _written(self, changes: list[Draft]) -> bool:
        """False: something moved, look again."""
        try:
            await self.session.attesting().write(changes)
        except Stale:
            return False
        return True

    def _beside(self, provenance: Json) -> Draft:
        return Draft("POST", Key("Provenance", self.session.new_id()), provenance)

    def _scan(self, package: ModelPackage, patient: str) -> Scan:
        type_ = package.card.result
        names = self.index(type_, "identifier")
        named = AnyOf(tuple(TokenIs(name, IDENTIFIER, package.id) for name in names))
        return Scan(type_, All((InPatient((patient,)), named)))

    async def _former(self, scan: Scan) -> list[tuple[Stored, Json]]:
        page = await self.session.search(Search((scan,), count=MOST, total="none"))
        found = [(stored, resource_of(stored)) for stored in page.matches]
        return sorted(found, key=lambda pair: pair[0].updated, reverse=True)


def _parted(
    former: Sequence[tuple[Stored, Json]],
) -> tuple[tuple[Stored, Json] | None, Json | None]:
    """The draft that nobody has decided about, and the newest of those that somebody has."""
    open_ = next((pair for pair in former if pair[1].get("status") == "preliminary"), None)
    over = ("preliminary", "cancelled")
    return open_, next((one for _, one in former if one.get("status") not in over), None)


def _features(resource: Json) -> list[dict[str, Any]]:
    told = [e["extension"] for e in resource.get("extension", ()) if e["url"] == drafts.FEATURE]
    return [{part["url"]: part for part in one if part["url"] != "source"} for one in told]


def _says(resource: Json) -> Any:
    """The values of the features, whatever they come from: with them a model says the same."""
    return [[one["feature"], one["origin"], one["value"]] for one in _features(resource)]


def _rests_on(resource: Json) -> Any:
    """The features with the versions that they come from."""
    told = [e["extension"] for e in resource.get("extension", ()) if e["url"] == drafts.FEATURE]
    return [told, resource.get("status")]
