"""The answer of one ``$predict``: entries gathered model by model, and what is stored of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from fhir_server.access.drafts import Draft
from fhir_server.access.session import Session
from fhir_server.access.writing import resource_of
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Issue, outcome
from fhir_server.model.resource import Key

from . import drafts
from .inference import Inference
from .kinds import Gap
from .publishing import device


def issue(inference: Inference, gap: Gap, severity: str) -> Issue:
    """What a model lacks, as an issue that names it."""
    text = f"{inference.package.card.name}: {drafts.describe(gap)}"
    return Issue(gap.code, text, severity=severity)


def requester_of(session: Session) -> Json:
    """A Reference to who asks: the user's own resource, else a name."""
    standing = session.principal.standing
    if standing is not None and standing.fhir_user:
        return {"reference": standing.fhir_user}
    return {"display": session.principal.id}


class Answer:
    """The entries of the collection. ``base``: of the face; ``moment``: asOf, ``now``: an instant,
    both as written; ``requester``: a Reference."""

    def __init__(self, base: str, moment: str, now: str, requester: Json) -> None:
        self._base = base
        self._moment = moment
        self._now = now
        self._requester = requester
        self._entries: dict[str, Json] = {}
        self._new: list[Key] = []
        self.issues: list[Issue] = []

    def add(self, inference: Inference, session: Session | None = None) -> None:
        """One result with its Device and Provenance. ``session``: the result is to be stored."""
        resource = drafts.result(inference, self._moment)
        target = self._place(resource, session)
        for package in (inference.package, *(d.package for d in inference.derived)):
            self._entries[f"{self._base}/Device/{package.id}"] = device(package)
        made = drafts.provenance(inference, target, self._now, self._requester)
        self._place(made, session)
        name = inference.package.card.name
        self.issues += [
            Issue("informational", f"{name}: {text}", severity="warning")
            for text in drafts.cautions(inference)
        ]

    def refused(self, inference: Inference, severity: str) -> None:
        """The gaps of a model without result."""
        self.issues += [issue(inference, gap, severity) for gap in inference.gaps]

    def tasks(self, resources: Iterable[Json]) -> None:
        """Tasks that are stored."""
        for resource in resources:
            self._entries[f"{self._base}/Task/{resource['id']}"] = resource

    def _place(self, resource: Json, session: Session | None) -> str:
        """Add an entry; the reference by which others name it."""
        if session is not None:
            key = Key(resource["resourceType"], session.new_id())
            self._new.append(key)
            self._entries[f"{self._base}/{key}"] = {**resource, "id": key.id}
            return str(key)
        full_url = uuid.uuid4().urn
        self._entries[full_url] = resource
        return full_url

    def permitted(self, session: Session) -> None:
        """Raises Forbidden before anything is written for a caller who may not."""
        for key in self._new:
            session.allow("c", key.type)

    async def write(self, session: Session) -> None:
        """All drafts in one change set; the entries become what was stored."""
        urls = [f"{self._base}/{key}" for key in self._new]
        written = await session.write(
            [Draft("POST", k, self._entries[u]) for k, u in zip(self._new, urls, strict=True)]
        )
        for url, one in zip(urls, written, strict=True):
            if one.stored is not None:
                self._entries[url] = resource_of(one.stored)

    def bundle(self) -> Json:
        entries: list[dict[str, Any]] = [
            {"fullUrl": url, "resource": resource} for url, resource in self._entries.items()
        ]
        if self.issues:
            unique = list(dict.fromkeys(self.issues))
            entries.append({"fullUrl": uuid.uuid4().urn, "resource": outcome(unique)})
        bundle: Json = {"resourceType": "Bundle", "type": "collection", "timestamp": self._now}
        return bundle | ({"entry": entries} if entries else {})
