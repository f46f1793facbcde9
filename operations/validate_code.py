"""$validate-code on CodeSystem and ValueSet.

https://hl7.org/fhir/R4/codesystem-operation-validate-code.html and
https://hl7.org/fhir/R4/valueset-operation-validate-code.html
"""

from __future__ import annotations

from fhir_server.access.session import Session
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest
from terminology.local import Local, best

from .parameters import Arguments, Parameter
from .registry import Invocation, Operation
from .terms import (
    ABSTRACT,
    CODE,
    CODING,
    CONCEPT,
    DATE,
    DISPLAY,
    LANGUAGE,
    VERDICT,
    SourceOf,
    answering,
    codings,
    judged,
    the_set,
    the_system,
)


def validate_code_system(source_of: SourceOf) -> Operation:
    """The row for code systems."""
    return Operation(
        code="validate-code",
        id="CodeSystem-validate-code",
        levels=frozenset(("type", "instance")),
        types=("CodeSystem",),
        affects_state=False,
        inputs=(
            Parameter("url", "uri", "The code system, unless on an instance"),
            Parameter("codeSystem", "CodeSystem", "The code system itself"),
            CODE,
            Parameter("version", "string", "The version of the code system"),
            DISPLAY,
            CODING,
            CONCEPT,
            DATE,
            ABSTRACT,
            LANGUAGE,
        ),
        outputs=VERDICT,
        scope="user/CodeSystem.rs",
        description="Whether a code is one of the code system, under this display.",
        example="GET /CodeSystem/$validate-code?url=http://hl7.org/fhir/issue-type&code=value",
        handler=answering(source_of, _in_system),
    )


async def _in_system(
    arguments: Arguments, service: Local, session: Session, call: Invocation
) -> Json:
    concepts = await the_system(arguments, service, session, call)
    asked = codings(arguments, concepts.url, arguments.one("version", ""))
    language = arguments.one("displayLanguage", "")
    abstract = arguments.one("abstract", True)
    return judged(
        best([service.is_in_system(concepts, one, language, abstract=abstract) for one in asked])
    )


def validate_value_set(source_of: SourceOf) -> Operation:
    """The row for value sets."""
    return Operation(
        code="validate-code",
        id="ValueSet-validate-code",
        levels=frozenset(("type", "instance")),
        types=("ValueSet",),
        affects_state=False,
        inputs=(
            Parameter("url", "uri", "The value set, unless on an instance"),
            Parameter("context", "uri", "Not supported"),
            Parameter("valueSet", "ValueSet", "The value set itself"),
            Parameter("valueSetVersion", "string", "The version of the value set"),
            CODE,
            Parameter("system", "uri", "The code system of the code"),
            Parameter("systemVersion", "string", "The version of the code system"),
            DISPLAY,
            CODING,
            CONCEPT,
            DATE,
            ABSTRACT,
            LANGUAGE,
        ),
        outputs=VERDICT,
        scope="user/ValueSet.rs user/CodeSystem.rs",
        description="Whether a code is in the value set, under this display.",
        example="GET /ValueSet/$validate-code?url=http://hl7.org/fhir/ValueSet/issue-type"
        "&system=http://hl7.org/fhir/issue-type&code=value",
        handler=answering(source_of, _in_set),
    )


async def _in_set(arguments: Arguments, service: Local, session: Session, call: Invocation) -> Json:
    if arguments.one("display") is not None and arguments.one("code") is None:
        raise BadRequest("A display is of a code", code="required")
    asked = codings(arguments, arguments.one("system", ""), arguments.one("systemVersion", ""))
    value_set, name = await the_set(arguments, service, session, call)
    language, abstract = arguments.one("displayLanguage", ""), arguments.one("abstract", True)
    verdicts = [
        await service.is_member(value_set, name, one, language, abstract=abstract) for one in asked
    ]
    return judged(best(verdicts))
