"""CodeSystem/$lookup: https://hl7.org/fhir/R4/codesystem-operation-lookup.html"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from fhir_server.access.session import Session
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest
from terminology.concepts import speaks, value_of
from terminology.local import Found, Local

from .parameters import Arguments, Parameter
from .registry import Invocation, Operation
from .terms import CODE, CODING, DATE, LANGUAGE, SourceOf, answering, codings, parameters, said

_PROPERTY: Final = (
    Parameter("code", "code", "Which property", min=1),
    Parameter("value", "value", "Its value"),
    Parameter("description", "string", "The display of a value that is a code of the system"),
)


def lookup(source_of: SourceOf) -> Operation:
    """The row."""
    return Operation(
        code="lookup",
        id="CodeSystem-lookup",
        levels=frozenset(("type",)),
        types=("CodeSystem",),
        affects_state=False,
        inputs=(
            CODE,
            Parameter("system", "uri", "The code system of the code"),
            Parameter("version", "string", "The version of the code system"),
            CODING,
            DATE,
            LANGUAGE,
            Parameter("property", "code", "What to tell; default all", max=None),
        ),
        outputs=(
            Parameter("name", "string", "Of the code system", min=1),
            Parameter("version", "string", "Of the code system"),
            Parameter("display", "string", "Of the concept", min=1),
            Parameter(
                "designation",
                "",
                "Other names of the concept",
                max=None,
                parts=(
                    Parameter("language", "code", "Its language"),
                    Parameter("use", "Coding", "What it is for"),
                    Parameter("value", "string", "The name", min=1),
                ),
            ),
            Parameter("property", "", "What is known of it", max=None, parts=_PROPERTY),
        ),
        scope="user/CodeSystem.rs",
        description="What is known of a code: display, designations, properties, place.",
        example="GET /CodeSystem/$lookup?system=http://hl7.org/fhir/issue-type&code=invalid",
        handler=answering(source_of, _answer),
    )


async def _answer(arguments: Arguments, service: Local, session: Session, call: Invocation) -> Json:
    system, version = arguments.one("system", ""), arguments.one("version", "")
    (coded,) = codings(arguments, system, version)
    if system and coded.system != system:
        raise BadRequest("system and coding.system differ")
    found = await service.concept(coded)
    concepts, asked = found.concepts, set(arguments.all("property"))
    language = arguments.one("displayLanguage", "")
    resource = concepts.resource
    display = concepts.display(found.code, language) or found.code
    return parameters(
        said("name", "valueString", resource.get("name") or resource.get("title") or concepts.url),
        said("version", "valueString", concepts.version),
        said("display", "valueString", display),
        *_designations(found, asked),
        *_properties(found, asked, language),
    )


def _designations(found: Found, asked: set[str]) -> Iterator[Json]:
    languages = [name[5:] for name in asked if name.startswith("lang.")]
    for one in found.concepts.by_code[found.code].get("designation", ()):
        own = one.get("language", "")
        if asked and "designation" not in asked and not any(speaks(own, w) for w in languages):
            continue
        parts = [
            said("language", "valueCode", own),
            said("use", "valueCoding", one.get("use")),
            said("value", "valueString", one.get("value", "")),
        ]
        yield {"name": "designation", "part": [part for part in parts if part]}


def _properties(found: Found, asked: set[str], language: str) -> Iterator[Json]:
    """FHIR's own ones, then those of the code system."""
    concepts, code = found

    def wanted(name: str) -> bool:
        return not asked or name in asked

    def row(name: str, member: str, value: object) -> Json:
        parts: list[Json] = [{"name": "code", "valueCode": name}, {"name": "value", member: value}]
        if member == "valueCode" and value in concepts.by_code:
            shown = said("description", "valueString", concepts.display(str(value), language))
            parts += [shown] if shown else []
        return {"name": "property", "part": parts}

    if "url" in asked or "system" in asked:
        yield row("url" if "url" in asked else "system", "valueUri", concepts.url)
    concept = concepts.by_code[code]
    if wanted("definition") and "definition" in concept:
        yield row("definition", "valueString", concept["definition"])
    if wanted("inactive"):
        yield row("inactive", "valueBoolean", concepts.inactive(code))
    if wanted("abstract") and concepts.abstract(code):
        yield row("abstract", "valueBoolean", True)
    links: tuple[tuple[str, Callable[[str], tuple[str, ...]]], ...] = (
        ("parent", concepts.parents),
        ("child", concepts.children),
    )
    for name, others in links:
        for other in others(code) if wanted(name) else ():
            yield row(name, "valueCode", other)
    for one in concept.get("property", ()):
        name = one.get("code", "")
        if wanted(name) and name not in ("parent", "child", "inactive"):
            member, value = value_of(one)
            yield row(name, member, value)
