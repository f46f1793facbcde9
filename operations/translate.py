"""ConceptMap/$translate: https://hl7.org/fhir/R4/conceptmap-operation-translate.html"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fhir_server.access.session import Session
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest
from terminology.local import Local
from terminology.service import Coded
from terminology.translation import NO_MATCH, Match, Wanted, missing_dependency
from terminology.translation import translate as by_maps

from .parameters import Arguments, Parameter
from .registry import Invocation, Operation
from .terms import (
    CODE,
    CODING,
    CONCEPT,
    SourceOf,
    answering,
    canonical,
    codings,
    meant,
    parameters,
    said,
)

_DEPENDENCY: Final = (
    Parameter("element", "uri", "What it is of"),
    Parameter("concept", "CodeableConcept", "What it is"),
)
_MATCH: Final = (
    Parameter("equivalence", "code", "Of the match to what was asked"),
    Parameter("concept", "Coding", "The translation"),
    Parameter(
        "product",
        "",
        "What else comes of it",
        max=None,
        parts=(
            Parameter("element", "uri", "What it is of"),
            Parameter("concept", "Coding", "What it is"),
        ),
    ),
    Parameter("source", "uri", "The concept map"),
)


def translate(source_of: SourceOf) -> Operation:
    """The row."""
    return Operation(
        code="translate",
        id="ConceptMap-translate",
        levels=frozenset(("type", "instance")),
        types=("ConceptMap",),
        affects_state=False,
        inputs=(
            Parameter("url", "uri", "The concept map; without it, all that are known"),
            Parameter("conceptMap", "ConceptMap", "The concept map itself"),
            Parameter("conceptMapVersion", "string", "The version of the concept map"),
            CODE,
            Parameter("system", "uri", "The code system of the code"),
            Parameter("version", "string", "The version of the code system"),
            Parameter("source", "uri", "The value set of the code"),
            CODING,
            CONCEPT,
            Parameter("target", "uri", "The value set of the translation"),
            Parameter("targetsystem", "uri", "The code system of the translation"),
            Parameter("dependency", "", "What else is known", max=None, parts=_DEPENDENCY),
            Parameter("reverse", "boolean", "What may be mapped to this code"),
        ),
        outputs=(
            Parameter("result", "boolean", "Is there a translation?", min=1),
            Parameter("message", "string", "What is to be known"),
            Parameter("match", "", "A translation", max=None, parts=_MATCH),
        ),
        scope="user/ConceptMap.rs",
        description="Translations of a code by concept maps, forward or in reverse.",
        example="GET /ConceptMap/$translate?url=http://hl7.org/fhir/ConceptMap/101"
        "&system=http://hl7.org/fhir/address-use&code=home",
        handler=answering(source_of, _answer),
    )


async def _answer(arguments: Arguments, service: Local, session: Session, call: Invocation) -> Json:
    asked = codings(arguments, arguments.one("system", ""), arguments.one("version", ""))
    if arguments.one("target") is not None and arguments.one("targetsystem") is not None:
        raise BadRequest("Only one of target and targetsystem is possible")
    wanted = Wanted(
        source=arguments.one("source", ""),
        target=arguments.one("target", ""),
        system=arguments.one("targetsystem", ""),
        reverse=arguments.one("reverse", False),
        dependencies=_dependencies(arguments),
    )
    matches: list[Match] = []
    depending = False
    for coded in asked:
        maps = await _maps(arguments, service, session, call, coded, wanted.reverse)
        matches += await by_maps(maps, coded, wanted, service.source)
        depending = depending or missing_dependency(maps, coded)
    good = any(match.equivalence not in NO_MATCH for match in matches)
    message = "" if good else "No translation is known"
    if depending and not wanted.reverse and not wanted.dependencies:
        message = "Some translations depend on something else: see dependency"
    return parameters(
        {"name": "result", "valueBoolean": good},
        said("message", "valueString", message),
        *(_match(match) for match in matches),
    )


async def _maps(
    arguments: Arguments,
    service: Local,
    session: Session,
    call: Invocation,
    coded: Coded,
    reverse: bool,
) -> Sequence[Json]:
    own = await meant(arguments, session, call, "conceptMap")
    if own is not None:
        return [own]
    url = arguments.one("url")
    if url is None:
        return [dict(one) for one in await service.source.maps(coded.system, reverse)]
    name = canonical(url, arguments.one("conceptMapVersion", ""))
    return [dict(await service.work.resource("ConceptMap", name))]


def _dependencies(arguments: Arguments) -> dict[str, frozenset[tuple[str, str]]]:
    found: dict[str, frozenset[tuple[str, str]]] = {}
    for one in arguments.all("dependency"):
        codes = {
            (coding.get("system", ""), coding.get("code", ""))
            for coding in one.one("concept", {}).get("coding", ())
        }
        element = one.one("element", "")
        found[element] = found.get(element, frozenset()) | codes
    return found


def _match(match: Match) -> Json:
    parts = [
        said("equivalence", "valueCode", match.equivalence),
        said("concept", "valueCoding", _coding(match.concept)),
        *(_product(one) for one in match.products),
        said("source", "valueUri", match.source),
    ]
    return {"name": "match", "part": [part for part in parts if part]}


def _coding(coded: Coded) -> Json | None:
    found = {"system": coded.system, "version": coded.version, "code": coded.code}
    kept = {k: v for k, v in (found | {"display": coded.display}).items() if v}
    return kept if coded.code else None


def _product(one: Mapping[str, Any]) -> Json:
    coding = Coded(one.get("system", ""), one.get("value", ""), "", one.get("display", ""))
    parts = [
        said("element", "valueUri", one.get("property", "")),
        said("concept", "valueCoding", _coding(coding)),
    ]
    return {"name": "product", "part": [part for part in parts if part]}
