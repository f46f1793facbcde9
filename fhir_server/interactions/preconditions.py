"""If-Match, If-None-Match, If-Modified-Since: https://hl7.org/fhir/R4/http.html#concurrency"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import Final

from fhir_server.access.session import Session
from fhir_server.model.exchange import Json, Request
from fhir_server.model.problem import BadRequest, Gone, NotFound, NotSupported, PreconditionFailed
from fhir_server.model.resource import ID_PATTERN, Key, Stored

_ETAG: Final = re.compile(r'(?:W/)?"([A-Za-z0-9\-.]{1,64})"|([A-Za-z0-9\-.]{1,64})')


def versions(header: str) -> list[str]:
    """The version ids of a list of ETags: ``W/"1"``, ``"1"`` or a bare ``1``."""
    found: list[str] = []
    for part in header.split(","):
        tag = _ETAG.fullmatch(part.strip())
        if tag is None:
            raise BadRequest(f"not an ETag: {part.strip()[:80]}")
        found.append(tag[1] or tag[2])
    return found


async def expected(request: Request, session: Session, key: Key) -> str | None:
    """The version that an update or delete must find; None without If-Match.

    PreconditionFailed if none of several candidates is current.
    """
    if "if-none-match" in request.headers:
        raise NotSupported("If-None-Match is not supported on this interaction")
    header = request.headers.get("if-match")
    if header is None:
        return None
    candidates = [] if header.strip() == "*" else versions(header)
    if len(candidates) == 1:
        return candidates[0]
    try:
        current = str((await session.read(key)).version)
    except (NotFound, Gone):
        raise PreconditionFailed(f"{key}: there is no current version") from None
    if candidates and current not in candidates:
        raise PreconditionFailed(f"{key}: the version is none of those in If-Match")
    return current


def only_new(request: Request) -> bool:
    """``If-None-Match: *``: the resource must not be there (RFC 9110 13.1.2)."""
    return request.headers.get("if-none-match", "").strip() == "*"


def candidates(request: Request) -> list[str] | None:
    """The versions that If-Match names; None if any will do."""
    if "if-none-match" in request.headers:
        raise NotSupported("If-None-Match is not supported on this interaction")
    header = request.headers.get("if-match")
    return None if header is None or header.strip() == "*" else versions(header)


def not_modified(request: Request, stored: Stored) -> bool:
    """May a read be answered with 304? If-None-Match goes before If-Modified-Since."""
    tags = request.headers.get("if-none-match")
    if tags is not None:
        return tags.strip() == "*" or str(stored.version) in versions(tags)
    since = request.headers.get("if-modified-since")
    if since is None:
        return False
    try:
        moment = parsedate_to_datetime(since).timestamp()
    except (ValueError, OverflowError):
        return False  # RFC 9110 13.1.3: what is no date is to be ignored
    return stored.updated // 1_000_000 <= moment


def body_of(request: Request, type_: str, id_: str | None = None) -> Json:
    """The body, if its type (and on PUT its id) are those of the URL."""
    resource = request.body
    if resource is None:
        raise BadRequest("a resource is needed as the body")
    return checked(resource, type_, id_)


def checked(resource: Json, type_: str, id_: str | None = None) -> Json:
    """The resource itself; BadRequest if it is not what the URL names."""
    found = resource.get("resourceType")
    if found != type_:
        raise BadRequest(f"the resourceType is not {type_} as in the URL")
    if id_ is not None and resource.get("id") != id_:
        raise BadRequest(f"the id of the resource is not {id_} as in the URL")
    return resource


def given_id(resource: Json) -> str | None:
    """The id in a resource; BadRequest if it cannot be one."""
    id_ = resource.get("id")
    if id_ is not None and (not isinstance(id_, str) or not ID_PATTERN.fullmatch(id_)):
        raise BadRequest("the id of the resource is not valid")
    return id_
