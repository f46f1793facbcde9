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
from fhir_server.access.engine import Engine
from fhir_server.access.session import Session
from fhir_server.definitions.packages import MAX_PACKED, read_package
from fhir_server.formats.json import loads
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Forbidden, NotSupported, TooLarge
from fhir_server.model.resource import Key
from fhir_server.search.plan import TRUE

from .parameters import Arguments, Parameter
from .registry import Handler, Invocation, Operation

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
        ),
    ),
)


def package_operations(engine: Engine) -> tuple[Operation, ...]:
    """The rows."""
    return (
        _row(
            engine,
            "install",
            "Install a FHIR package (.tgz). It is refused where a dependency is missing, unless it "
            "may be incomplete",
            (
                Parameter("content", "Binary", "The package itself"),
                Parameter("binary", "Literal", "The Binary that was uploaded with it"),
                Parameter("incomplete", "boolean", "Also without its dependencies"),
            ),
            _install,
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
        outputs=SHOWN,
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
    engine: Engine, arguments: Arguments, session: Session, call: Invocation
) -> Json:
    packages = _packages(engine, session)
    packed = await _content(arguments, session)
    package = await asyncio.to_thread(read_package, packed)
    incomplete = arguments.one("incomplete", False)
    made = await packages.install(package, call.now, incomplete=incomplete)
    found = made or next(one for one in await packages.all() if one.id == package.id)
    return _shown([found])


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
    return _shown(await _packages(engine, session).all())


async def _remove(engine: Engine, arguments: Arguments, session: Session, call: Invocation) -> Json:
    return _shown([await _packages(engine, session).remove(arguments.one("package"))])


def _shown(found: list[Installed]) -> Json:
    return {"resourceType": "Parameters", "parameter": [_part(one) for one in found]}


def _part(one: Installed) -> Json:
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
    return {"name": "package", "part": parts}
