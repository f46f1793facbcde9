"""Included resources in the version that a reference names.

https://hl7.org/fhir/R4/search.html#include: for a version-specific reference, a server should
return that version.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fhir_server.access.ports import Page
from fhir_server.access.session import Session
from fhir_server.model.problem import Forbidden, Gone, NotFound
from fhir_server.model.resource import Key, Stored

_MARK: Final = b"/_history/"
_VERSIONED: Final = re.compile(
    rb'"reference":"(?:[^"]*/)?([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})/_history/(\d{1,9})"'
)


async def as_referred(page: Page, session: Session) -> Page:
    """The page with those versions; where one may not be read, the current one stays."""
    if not page.included:
        return page
    holders = [stored.body for stored in (*page.matches, *page.included) if _MARK in stored.body]
    if not holders:
        return page
    wanted: dict[Key, list[int]] = {}
    for body in holders:
        for type_, id_, number in _VERSIONED.findall(body):
            versions = wanted.setdefault(Key(type_.decode(), id_.decode()), [])
            if int(number) not in versions:
                versions.append(int(number))
    every = [stored.body for stored in (*page.matches, *page.included)]
    included: list[Stored] = []
    for stored in page.included:
        named = wanted.get(stored.key, [])
        found = [await _version(session, stored, number) for number in named]
        if not named or _named_plainly(stored.key, every):
            found.insert(0, stored)
        included += {one.version: one for one in found}.values()
    return replace(page, included=included)


def _named_plainly(key: Key, bodies: Sequence[bytes]) -> bool:
    """Does a reference name it without a version?"""
    ends = f'"{key}"'.encode(), f'/{key}"'.encode()
    return any(end in body for body in bodies for end in ends)


async def _version(session: Session, current: Stored, number: int) -> Stored:
    if number == current.version:
        return current
    try:
        return await session.vread(current.key, number)
    except (Forbidden, NotFound, Gone):
        return current
