"""What a client wants written, and what comes of it.

These are made for every write and nobody changes them; that they could not be changed would cost
more than to make them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fhir_server.formats.json import loads, stored_form
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Issue, Problem
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import Scan
from fhir_server.search.values import IndexValues
from fhir_server.store.base import Change, Guard
from fhir_server.store.blobs import Blob


@dataclass(slots=True)
class Draft:
    """What a client wants written. ``method``: POST, PUT, PATCH or DELETE.

    ``key`` is complete: for a POST the server has chosen the id. ``if_match``: the version
    that the client last saw. ``guards``: what the request relied on (conditions). ``place``:
    where problems are said to be, for example ``Bundle.entry[3]``. ``blob``: the content of
    a Binary that was sent as it is. ``seen``: the version that it was made from; Stale is
    raised if another one is current. ``new``: the id must not be in use. ``alone``: finds
    nothing else that is written with it. ``lowers``: security labels of the version before may go,
    apart from those that its contents make.
    """

    method: str
    key: Key
    resource: Json | None = None
    if_match: str | None = None
    guards: tuple[Guard, ...] = ()
    place: str = ""
    blob: Blob | None = None
    seen: int | None = None
    new: bool = False
    alone: Scan | None = None
    lowers: bool = False


@dataclass(slots=True)
class Written:
    """``created``: the id was not in use before. ``stored`` None: nothing was there to delete.

    It is the version that was current already if the draft changes nothing. ``issues``: what its
    profiles find in it, where that is only told.
    """

    stored: Stored | None
    created: bool = False
    issues: tuple[Issue, ...] = ()


@dataclass(slots=True)
class Prepared:
    """A draft with what does not depend on the current version: its values, once.

    ``resource``: what is stored, without the data of a large Binary, which is in ``blob``.
    """

    draft: Draft
    values: IndexValues | None
    resource: Json | None = None
    blob: Blob | None = None
    issues: tuple[Issue, ...] = ()


def at(draft: Draft, problem: Problem) -> Problem:
    """A problem of this draft, said to be where it is."""
    return problem.under(draft.place) if draft.place else problem


def resource_of(stored: Stored) -> Json:
    """The parsed resource of a stored version."""
    return loads(stored.body)


Planned: TypeAlias = Change | Stored | None
"""What a draft comes to: a change, the current version if it is the same already, or None
if there is nothing to delete.
"""


def form_of(resource: Json, key: Key, version: int, updated: int) -> bytes:
    """A resource as it is stored. ``updated``: as of ``Stored``."""
    return stored_form(resource, key.id, str(version), format_instant(updated))


def written_of(
    items: Sequence[Prepared], plans: Sequence[Planned], seqs: tuple[int, ...]
) -> list[Written]:
    """What comes of each draft. ``seqs``: the places in the feed of those that change something."""
    positions = iter(seqs)
    return [
        _one(item, plan, next(positions) if isinstance(plan, Change) else 0)
        for item, plan in zip(items, plans, strict=True)
    ]


def _one(item: Prepared, change: Planned, seq: int) -> Written:
    """The writer gets back what it sent, with the data that was set aside."""
    if change is None:
        return Written(None)
    body = change.body
    if item.blob is not None and item.draft.resource is not None:
        body = form_of(item.draft.resource, change.key, change.version, change.updated)
    if isinstance(change, Stored):
        return Written(change._replace(body=body), issues=item.issues)
    stored = Stored(change.key, change.version, change.updated, body, seq, change.method)
    return Written(stored, change.expect == 0 or change.method == "POST", item.issues)
