"""``fhirContext``: what else an EHR has open when it starts an app.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#fhircontext-exp
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final
from urllib.parse import urlsplit

from fhir_server.auth.exchange import OAuthRefusal
from fhir_server.model.resource import ID_PATTERN

MOST: Final = 16
WAYS: Final = ("reference", "canonical", "identifier")
MEMBERS: Final = frozenset({*WAYS, "type", "role"})
APART: Final = frozenset({"Patient", "Encounter"})
"""Types that have parameters of their own; in the list they would be taken for those."""
SMART: Final = frozenset({"launch"})
"""Roles that SMART defines; every other one is an absolute URI."""


def checked_context(items: Any, types: Collection[str]) -> list[dict[str, Any]]:
    """The list as it came. OAuthRefusal for what an app could not rely on."""
    if not isinstance(items, list) or len(items) > MOST:
        raise _wrong(f"a list of up to {MOST} objects")
    for item in items:
        if not isinstance(item, dict) or not set(item) <= MEMBERS:
            raise _wrong(f"objects of {', '.join(sorted(MEMBERS))}")
        if not any(way in item for way in WAYS):
            raise _wrong(f"each has {', '.join(WAYS)}")
        _check(item, types)
    return items


def _check(item: dict[str, Any], types: Collection[str]) -> None:
    reference, canonical = item.get("reference", ""), item.get("canonical", "https://x")
    type_, role = item.get("type", ""), item.get("role", "launch")
    if not all(isinstance(text, str) for text in (reference, canonical, type_, role)):
        raise _wrong("texts")
    if "reference" in item:
        named, _, id_ = reference.partition("/")
        if named not in types or ID_PATTERN.fullmatch(id_) is None:
            raise _wrong("reference is Type/id")
        if named in APART or type_ not in ("", named):
            raise _wrong("patient and encounter have parameters of their own")
    if type_ and (type_ not in types or type_ in APART):
        raise _wrong("type is a resource type, and neither Patient nor Encounter")
    if urlsplit(canonical).scheme not in ("http", "https", "urn"):
        raise _wrong("canonical is a URL")
    if not isinstance(item.get("identifier", {}), dict):
        raise _wrong("identifier is an Identifier")
    if role not in SMART and not urlsplit(role).scheme:
        raise _wrong("role is one of SMART's or an absolute URI")


def _wrong(what: str) -> OAuthRefusal:
    return OAuthRefusal("invalid_request", f"fhirContext: {what}")
