"""What the terminology operations share: who answers, how arguments and refusals read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, NotFound, Problem, Unprocessable
from fhir_server.model.resource import Key
from terminology.concepts import Concepts
from terminology.local import Local
from terminology.service import ANY_VERSION, Coded, Refused, Source, Verdict, Versions

from .parameters import Arguments, Parameter
from .registry import Handler, Invocation

SourceOf: TypeAlias = Callable[[Session], Source]
"""The resources as this session may see them."""

CODE: Final = Parameter("code", "code", "The code; together with its system")
CODING: Final = Parameter("coding", "Coding", "The code as a Coding")
CONCEPT: Final = Parameter("codeableConcept", "CodeableConcept", "One of its codings is enough")
DISPLAY: Final = Parameter("display", "string", "A display, to be checked")
LANGUAGE: Final = Parameter("displayLanguage", "code", "The language of the display")
DATE: Final = Parameter("date", "dateTime", "Not supported: only the present is known")
ABSTRACT: Final = Parameter("abstract", "boolean", "false: abstract codes are not valid")
VERDICT: Final = (
    Parameter("result", "boolean", "Is it valid?", min=1),
    Parameter("message", "string", "Why not, or what is to be known"),
    Parameter("display", "string", "The right display"),
)

Answer: TypeAlias = Callable[[Arguments, Local, Session, Invocation], Awaitable[Json]]


def answering(source_of: SourceOf, answer: Answer) -> Handler:
    """The handler of an answer; what the service refuses becomes a Problem."""

    async def handle(arguments: Arguments, session: Session, call: Invocation) -> Json:
        if arguments.one("date") is not None:
            raise Unprocessable("date: only the present state is known", code="not-supported")
        try:
            return await answer(
                arguments, Local(source_of(session), versions(arguments)), session, call
            )
        except Refused as refused:
            raise problem(refused) from refused

    return handle


def problem(refused: Refused) -> Problem:
    kind: type[Problem] = NotFound if refused.code == "not-found" else Unprocessable
    return kind(refused.text, code=refused.code)


def versions(arguments: Arguments) -> Versions:
    """``system-version`` and its two strict sisters; system|version each."""
    names = ("system-version", "check-system-version", "force-system-version")
    found = [_pinned(name, arguments.all(name)) for name in names]
    return Versions(*found) if any(found) else ANY_VERSION


def _pinned(name: str, canonicals: list[str]) -> dict[str, str]:
    pairs = [canonical.partition("|") for canonical in canonicals]
    if not all(version for _, _, version in pairs):
        raise BadRequest(f"{name}: system|version is expected", code="value")
    return {system: version for system, _, version in pairs}


async def instance(session: Session, call: Invocation) -> Json | None:
    """The resource that the URL names, if it names one."""
    if call.level != "instance":
        return None
    return loads((await session.read(Key(call.type, call.id))).body)


def codings(arguments: Arguments, system: str = "", version: str = "") -> list[Coded]:
    """What is asked about: one of code, coding and codeableConcept. ``system``: of a bare code."""
    given = [n for n in ("code", "coding", "codeableConcept") if arguments.one(n) is not None]
    if len(given) != 1:
        raise BadRequest("One of code, coding and codeableConcept is required", code="required")
    if given == ["code"]:
        if not system:
            raise BadRequest("A code needs its system", code="required")
        return [Coded(system, arguments.one("code"), version, arguments.one("display", ""))]
    if given == ["coding"]:
        found = [Coded.of(arguments.one("coding"))]
    else:
        found = [Coded.of(one) for one in arguments.one("codeableConcept").get("coding", ())]
    found = [one._replace(version=one.version or version) for one in found]
    if not found or not all(one.system and one.code for one in found):
        raise BadRequest("Each coding has a system and a code", code="required")
    return found


def parameters(*parts: Json | None) -> Json:
    return {"resourceType": "Parameters", "parameter": [part for part in parts if part]}


def said(name: str, member: str, value: Any) -> Json | None:
    """One parameter; nothing where there is no value."""
    return None if value in ("", None) else {"name": name, member: value}


def judged(verdict: Verdict) -> Json:
    return parameters(
        {"name": "result", "valueBoolean": verdict.result},
        said("message", "valueString", verdict.message),
        said("display", "valueString", verdict.display),
    )


async def the_system(
    arguments: Arguments, service: Local, session: Session, call: Invocation
) -> Concepts:
    """The code system that is meant: the instance, ``codeSystem``, or that of ``url``."""
    own = await meant(arguments, session, call, "codeSystem")
    if own is not None:
        if own.get("content") in ("supplement", "not-present"):
            text = f"a code system of content {own['content']} has no codes of its own"
            raise Unprocessable(text, code="not-supported")
        return service.work.give(own)
    coding = arguments.one("coding", {})
    url, _, version = arguments.one("url", coding.get("system", "")).partition("|")
    if not url:
        raise BadRequest("The url of the code system is required", code="required")
    return await service.code_system(url, version or arguments.one("version", ""))


async def the_set(
    arguments: Arguments, service: Local, session: Session, call: Invocation
) -> tuple[Json, str]:
    """The value set that is meant, and what it is called in messages."""
    if arguments.one("context") is not None:
        raise Unprocessable("context is not supported: name the value set", code="not-supported")
    own = await meant(arguments, session, call, "valueSet")
    if own is not None:
        return own, own.get("url", "of the request")
    url = arguments.one("url")
    if url is None:
        raise BadRequest("The url of the value set is required", code="required")
    name = canonical(url, arguments.one("valueSetVersion", ""))
    return dict(await service.work.resource("ValueSet", name)), name


async def meant(arguments: Arguments, session: Session, call: Invocation, name: str) -> Json | None:
    """The resource itself, if it was not left to be found by its url. Only one may be named."""
    given = [n for n in (name, "url") if arguments.one(n) is not None]
    if call.level == "instance":
        if given:
            raise BadRequest(f"{given[0]}: the URL names the resource already")
        return await instance(session, call)
    if len(given) == 2:
        raise BadRequest(f"Only one of {name} and url is possible")
    found: Json | None = arguments.one(name)
    return found


def canonical(url: str, version: str) -> str:
    """``url|version``; a version that is said twice must be the same."""
    if version and "|" in url and not url.endswith(f"|{version}"):
        raise BadRequest("The url names another version")
    return f"{url}|{version}" if version and "|" not in url else url
