"""$meta, $meta-add, $meta-delete: https://hl7.org/fhir/R4/resource-operations.html

Profiles, tags and security labels are sets: a coding is known by system and code, a profile
by its full URL. Who sees less than the whole domain cannot take a security label away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from fhir_server.access.drafts import Draft
from fhir_server.access.session import Session
from fhir_server.access.writing import resource_of
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Conflict, Forbidden, PreconditionFailed
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import Any, Present, Scan, Search
from operations.parameters import Arguments, Parameter
from operations.registry import Handler, Invocation, Operation

CODINGS: Final = ("security", "tag")
MOST: Final = 10_000
"""Resources that are looked through for the labels of a type or of everything."""

PAGE: Final = 500
ATTEMPTS: Final = 5
"""How often a change is made again because the resource moved meanwhile."""

LABELLED: Final = Any(
    (Present("_tag", "token"), Present("_security", "token"), Present("_profile", "uri"))
)
SUBSETTED: Final = "SUBSETTED"
"""Says how a resource was shown, not how it is labelled."""

RETURN: Final = Parameter("return", "Meta", "The resulting meta", min=1)

Merge = Callable[[Json, Json], Json]
"""(meta as it is, meta given) -> meta as it will be."""


def meta_operations(types: Iterable[str]) -> tuple[Operation, ...]:
    """The three rows, for these resource types."""
    every = tuple(sorted(types))
    return (
        Operation(
            code="meta",
            levels=frozenset(("system", "type", "instance", "version")),
            types=every,
            affects_state=False,
            inputs=(),
            outputs=(RETURN,),
            scope="system/*.rs",
            description="Profiles, tags and security labels of a resource, or all that are "
            "used by resources of a type or of the system that the caller may search",
            example="GET Patient/$meta",
            handler=_meta(every),
        ),
        _changing(every, "meta-add", "Add profiles, tags and security labels", joined),
        _changing(every, "meta-delete", "Remove profiles, tags and security labels", cut),
    )


def _changing(types: tuple[str, ...], code: str, description: str, merge: Merge) -> Operation:
    given = Parameter("meta", "Meta", "Profiles, tags and security labels", min=1)

    async def handler(arguments: Arguments, session: Session, call: Invocation) -> Json:
        meta: Json = arguments.one("meta")
        if merge is cut and "security" in meta and not session.policy.whole:
            raise Forbidden("only system clients take security labels away")
        stored = await change(session, Key(call.type, call.id), meta, merge)
        return answer(resource_of(stored)["meta"])

    return Operation(
        code=code,
        levels=frozenset(("instance",)),
        types=types,
        affects_state=True,
        inputs=(given,),
        outputs=(RETURN,),
        scope="system/*.ru",
        description=description,
        example=f"POST Patient/example/${code}",
        handler=handler,
    )


def _meta(types: tuple[str, ...]) -> Handler:
    async def handler(arguments: Arguments, session: Session, call: Invocation) -> Json:
        key = Key(call.type, call.id)
        match call.level:
            case "instance":
                return answer(resource_of(await session.read(key))["meta"])
            case "version":
                return answer(resource_of(await session.vread(key, call.version))["meta"])
            case "type":
                return answer(await used(session, (call.type,)))
            case "system":
                return answer(await used(session, types))

    return handler


def answer(meta: Json) -> Json:
    """The out parameter."""
    return {"resourceType": "Parameters", "parameter": [{"name": "return", "valueMeta": meta}]}


async def used(session: Session, types: tuple[str, ...]) -> Json:
    """What the resources have that the caller may search; BadRequest if they are too many."""
    meta: Json = {}
    scans = tuple(Scan(type_, LABELLED) for type_ in types)
    search: Search | None = Search(scans, count=PAGE, total="none")
    seen = 0
    while search is not None:
        page = await session.search(search)
        seen += len(page.matches)
        if seen > MOST:
            raise BadRequest(f"more than {MOST} resources have labels", code="too-costly")
        for stored in page.matches:
            meta = joined(meta, resource_of(stored)["meta"])
        search = replace(search, after=page.next) if page.next else None
    meta["tag"] = [tag for tag in meta.get("tag", ()) if tag.get("code") != SUBSETTED]
    return {name: meta[name] for name in ("profile", *CODINGS) if meta.get(name)}


async def change(session: Session, key: Key, given: Json, merge: Merge) -> Stored:
    """The version that has the changed meta; the current one if nothing changes."""
    for _ in range(ATTEMPTS):
        stored = await session.read(key)
        resource = resource_of(stored)
        meta = merge(resource["meta"], given)
        if meta == resource["meta"]:
            return stored
        changed, version = {**resource, "meta": meta}, str(stored.version)
        draft = Draft("PATCH", key, changed, version, lowers=session.policy.whole)
        try:
            [written] = await session.write([draft])
        except PreconditionFailed:
            continue
        assert written.stored is not None
        return written.stored
    raise Conflict(f"{key} is being written by others")


def joined(meta: Json, given: Json) -> Json:
    """``meta`` and what of ``given`` it does not have."""
    result = dict(meta)
    for name in CODINGS:
        known = {identity(coding) for coding in meta.get(name, ())}
        fresh = {identity(c): c for c in given.get(name, ()) if identity(c) not in known}
        if fresh:
            result[name] = [*meta.get(name, ()), *fresh.values()]
    profiles = meta.get("profile", [])
    urls = [url for url in dict.fromkeys(given.get("profile", ())) if url not in profiles]
    if urls:
        result["profile"] = [*profiles, *urls]
    return result


def cut(meta: Json, given: Json) -> Json:
    """``meta`` without what ``given`` has."""
    result = dict(meta)
    for name in CODINGS:
        gone = {identity(coding) for coding in given.get(name, ())}
        result[name] = [c for c in meta.get(name, ()) if identity(c) not in gone]
    gone_urls = given.get("profile", ())
    result["profile"] = [url for url in meta.get("profile", ()) if url not in gone_urls]
    return {name: value for name, value in result.items() if value != []}


def identity(coding: Json) -> tuple[str, str]:
    """Version and display do not count."""
    return coding.get("system", ""), coding.get("code", "")
