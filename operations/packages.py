"""$install, $installed, $remove on ImplementationGuide: FHIR packages, for administrators and
system clients.

https://hl7.org/fhir/R4/packages.html. A package is uploaded as a Binary, or comes within one.
"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from fhir_server.access.conformance.packages import Installed, Packages
from fhir_server.access.conformance.searching import Told
from fhir_server.access.engine import Engine
from fhir_server.access.session import Session
from fhir_server.definitions.packages import MAX_PACKED, read_package
from fhir_server.formats.json import loads
from fhir_server.jobs.model import Asked, Owner
from fhir_server.jobs.queue import Queue
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Forbidden, NotSupported, TooLarge
from fhir_server.model.resource import Key
from fhir_server.search.plan import TRUE

from .parameters import Arguments, Parameter
from .registry import Handler, Invocation, Operation
from .reindex import KIND as REINDEX

GUIDE: Final = "ImplementationGuide"
RIGHT: Final = "StructureDefinition"
"""Who may update everything of this type may install packages: administrators, systems."""
PACKAGE: Final = Parameter("package", "string", "name#version")
SHOWN: Final = (
    Parameter(
        "package",
        "",
        "An installed package",
        max=None,
        parts=(
            Parameter("id", "string", "name#version", min=1),
            Parameter("canonical", "uri", "Of the guide"),
            Parameter("installed", "instant", "Since when", min=1),
            Parameter("missing", "string", "A dependency that is not installed", max=None),
            Parameter(
                "content",
                "",
                "What it holds",
                max=None,
                parts=(
                    Parameter("type", "code", "Resource type", min=1),
                    Parameter("count", "integer", "How many", min=1),
                ),
            ),
            Parameter(
                "search",
                "",
                "A SearchParameter of it, if they are in force",
                max=None,
                parts=(
                    Parameter("url", "uri", "Its canonical url", min=1),
                    Parameter("code", "code", "What a URL says", min=1),
                    Parameter(
                        "state",
                        "code",
                        "usable, waiting (for a reindex), published (FHIR's own parameter of that "
                        "code answers) or refused",
                        min=1,
                    ),
                    Parameter("reason", "string", "Why it is refused"),
                ),
            ),
        ),
    ),
)
JOB: Final = Parameter("reindex", "uri", "The status URL of the job that fills the new indexes")


def package_operations(engine: Engine, queue: Queue) -> tuple[Operation, ...]:
    """The rows. ``queue``: takes the reindex that an installation leaves to be done."""
    return (
        _row(
            engine,
            "install",
            "Install a FHIR package (.tgz). It is refused where a dependency is missing, unless it "
            "may be incomplete. Its search parameters are in force from then on, and usable when "
            "the job that the answer names has ended",
            (
                Parameter("content", "Binary", "The package itself"),
                Parameter("binary", "Literal", "The Binary that was uploaded with it"),
                Parameter("incomplete", "boolean", "Also without its dependencies"),
                Parameter("searching", "boolean", "false: leave its search parameters out"),
            ),
            partial(_install, queue),
        ),
        _row(engine, "installed", "The packages that are installed", (), _listed),
        _row(
            engine,
            "remove",
            "Remove a package that no other needs",
            (Parameter("package", "string", "name#version", min=1),),
            _remove,
        ),
    )


def _row(
    engine: Engine,
    code: str,
    description: str,
    inputs: tuple[Parameter, ...],
    handler: Callable[[Engine, Arguments, Session, Invocation], Awaitable[Json]],
) -> Operation:
    writes = code != "installed"
    handle: Handler = partial(handler, engine)
    return Operation(
        code=code,
        levels=frozenset(("type",)),
        types=(GUIDE,),
        affects_state=writes,
        inputs=inputs,
        outputs=(*SHOWN, JOB) if code == "install" else SHOWN,
        scope="user/ImplementationGuide.r user/StructureDefinition.u",
        description=description,
        example=f"{'POST' if writes else 'GET'} /{GUIDE}/${code}",
        handler=handle,
    )


def _packages(engine: Engine, session: Session) -> Packages:
    session.allow("u", RIGHT)
    if session.policy.sees("u", RIGHT) != TRUE:
        raise Forbidden("packages are for administrators and system clients")
    if engine.conformance is None:
        raise NotSupported("this server has no packages")
    return engine.conformance.packages


async def _install(
    queue: Queue, engine: Engine, arguments: Arguments, session: Session, call: Invocation
) -> Json:
    packages = _packages(engine, session)
    packed = await _content(arguments, session)
    package = await asyncio.to_thread(read_package, packed)
    incomplete = arguments.one("incomplete", False)
    searching = arguments.one("searching", True)
    made = await packages.install(package, call.now, incomplete=incomplete, searching=searching)
    found = made or next(one for one in await packages.all() if one.id == package.id)
    answer = await _shown(engine, [found])
    types = engine.parameters.behind(found.id) if made and engine.parameters is not None else ()
    if types:
        owner, grant = Owner.of(session.principal), session.principal.grant
        request: Json = {"types": list(types), "id": ""}
        job = await queue.submit(Asked(REINDEX, owner, call.base, request, grant))
        answer["parameter"].append({"name": JOB.name, "valueUri": job.url})
    return answer


async def _content(arguments: Arguments, session: Session) -> bytes:
    given, named = arguments.one("content"), arguments.one("binary")
    if (given is None) == (named is None):
        raise BadRequest("One of content and binary is required", code="required")
    if named is not None:
        type_, _, id_ = named.partition("/")
        if type_ != "Binary":
            raise BadRequest("binary: it is not a Binary", code="value")
        stored = await session.read(Key(type_, id_))
        content = await session.content(stored)
        if content is not None:
            if content.size > MAX_PACKED:
                raise TooLarge(f"a package has at most {MAX_PACKED} bytes")
            return b"".join([part async for part in await content.read()])
        given = loads(stored.body)
    try:
        return binascii.a2b_base64(given.get("data", ""))
    except (binascii.Error, TypeError, ValueError):
        raise BadRequest("content: data is no base64", code="value") from None


async def _listed(engine: Engine, arguments: Arguments, session: Session, call: Invocation) -> Json:
    return await _shown(engine, await _packages(engine, session).all())


async def _remove(engine: Engine, arguments: Arguments, session: Session, call: Invocation) -> Json:
    return await _shown(engine, [await _packages(engine, session).remove(arguments.one("package"))])


async def _shown(engine: Engine, found: list[Installed]) -> Json:
    told: tuple[Told, ...] = ()
    if engine.parameters is not None:
        await engine.parameters.refresh()
        told = engine.parameters.installed
    parts = [_part(one, [of for of in told if of.package == one.id]) for one in found]
    return {"resourceType": "Parameters", "parameter": parts}


def _part(one: Installed, told: list[Told]) -> Json:
    parts: list[Json] = [{"name": "id", "valueString": one.id}]
    if one.canonical:
        parts.append({"name": "canonical", "valueUri": one.canonical})
    parts.append({"name": "installed", "valueInstant": format_instant(one.since)})
    parts += ({"name": "missing", "valueString": name} for name in one.missing)
    parts += (
        {
            "name": "content",
            "part": [
                {"name": "type", "valueCode": type_},
                {"name": "count", "valueInteger": count},
            ],
        }
        for type_, count in one.counts.items()
    )
    parts += ({"name": "search", "part": _search(of)} for of in told)
    return {"name": "package", "part": parts}


def _search(of: Told) -> list[Json]:
    rows: list[Json] = [{"name": "url", "valueUri": of.url}]
    if of.code:
        rows.append({"name": "code", "valueCode": of.code})
    rows.append({"name": "state", "valueCode": of.state})
    return [*rows, {"name": "reason", "valueString": of.reason}] if of.reason else rows
