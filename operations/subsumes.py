"""CodeSystem/$subsumes: https://hl7.org/fhir/R4/codesystem-operation-subsumes.html"""

from __future__ import annotations

from fhir_server.access.session import Session
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest
from terminology.local import Local
from terminology.service import Coded

from .parameters import Arguments, Parameter
from .registry import Invocation, Operation
from .terms import SourceOf, answering, instance, parameters, said


def subsumes(source_of: SourceOf) -> Operation:
    """The row."""
    return Operation(
        code="subsumes",
        id="CodeSystem-subsumes",
        levels=frozenset(("type", "instance")),
        types=("CodeSystem",),
        affects_state=False,
        inputs=(
            Parameter("codeA", "code", "A, with system"),
            Parameter("codeB", "code", "B, with system"),
            Parameter("system", "uri", "The code system; not needed on an instance"),
            Parameter("version", "string", "The version of the code system"),
            Parameter("codingA", "Coding", "A, instead of codeA"),
            Parameter("codingB", "Coding", "B, instead of codeB"),
        ),
        outputs=(
            Parameter("outcome", "code", "equivalent, subsumes, subsumed-by, not-subsumed", min=1),
        ),
        scope="user/CodeSystem.rs",
        description="Whether code A subsumes code B, or the other way round.",
        example="GET /CodeSystem/$subsumes?system=http://hl7.org/fhir/issue-type"
        "&codeA=invalid&codeB=value",
        handler=answering(source_of, _answer),
    )


async def _answer(arguments: Arguments, service: Local, session: Session, call: Invocation) -> Json:
    own = await instance(session, call)
    system, version = arguments.one("system", ""), arguments.one("version", "")
    if own is not None:
        if system and system != own.get("url", ""):
            raise BadRequest("system is not that of the instance")
        service.work.give(own)
        system, version = own.get("url", ""), own.get("version", "")
    left = _coded(arguments, "A", system, version)
    right = _coded(arguments, "B", system, version)
    if own is not None and {left.system, right.system} != {system}:
        raise BadRequest("A coding is not of the code system of the instance")
    return parameters(said("outcome", "valueCode", await service.subsumes(left, right)))


def _coded(arguments: Arguments, side: str, system: str, version: str) -> Coded:
    code, coding = arguments.one(f"code{side}"), arguments.one(f"coding{side}")
    if (code is None) == (coding is None):
        raise BadRequest(f"One of code{side} and coding{side} is required", code="required")
    if coding is not None:
        coded = Coded.of(coding)
        coded = coded._replace(version=coded.version or version)
    else:
        coded = Coded(system, code, version)
    if not coded.system or not coded.code:
        raise BadRequest(f"The system of {side} is required", code="required")
    return coded
