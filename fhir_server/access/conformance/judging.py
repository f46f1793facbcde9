"""Everything that is wrong with a resource, as one caller may know it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Forbidden, Gone, Issue, NotFound
from fhir_server.model.resource import ID_PATTERN, Key, Stored
from fhir_server.validation.validate import is_large

from .conformance import Conformance

_UNSOUND: Final = frozenset({"structure", "extension"})
"""Codes of issues after which profiles are not looked at: they take the structure for granted."""


class Reading(Protocol):
    """A Session, as far as it is needed here."""

    async def read(self, key: Key) -> Stored: ...


async def every_issue(
    conformance: Conformance, resource: Json, urls: Iterable[str], session: Reading, base: str
) -> tuple[Issue, ...]:
    """By structure, then by the profiles that it claims and by these. ``base``: of this server;
    references are followed to what the session may read.
    """
    validator = conformance.validator
    if is_large(resource):
        structural = await asyncio.to_thread(validator.issues, resource)
    else:
        structural = validator.issues(resource)
    if any(issue.code in _UNSOUND for issue in structural):
        return tuple(structural)

    async def resolve(text: str) -> Json | None:
        return await followed(session, text, base)

    found = await conformance.issues(resource, urls, resolve)
    return tuple(_joined(structural, found))


def _joined(structural: Sequence[Issue], found: Sequence[Issue]) -> list[Issue]:
    """What both say of one place is said once."""
    said = {(issue.code, issue.expression) for issue in structural}
    return [*structural, *(one for one in found if (one.code, one.expression) not in said)]


def key_of(text: str, base: str) -> Key | None:
    """What a reference names on the server of this base; None: nothing."""
    type_, _, id_ = text.removeprefix(f"{base}/").partition("/_history/")[0].partition("/")
    return Key(type_, id_) if type_.isalpha() and ID_PATTERN.fullmatch(id_) else None


async def followed(session: Reading, text: str, base: str) -> Json | None:
    """What it leads to, if the session may read that."""
    key = key_of(text, base)
    if key is None:
        return None
    try:
        found: Json = loads((await session.read(key)).body)
    except (NotFound, Gone, Forbidden):
        return None
    return found
