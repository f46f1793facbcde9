"""$validate: https://hl7.org/fhir/R4/resource-operation-validate.html

The answer is what a write would say: structure, the type's own rules, the profiles that the
resource claims, and the one that is asked for. It is 200 whatever is found.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

from fhir_server.access.conformance.judging import every_issue
from fhir_server.access.engine import Engine
from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Issue, NotSupported, outcome
from fhir_server.model.resource import Key

from .parameters import Arguments, Parameter
from .registry import Invocation, Operation

MODES: Final = ("create", "update", "delete", "profile")
SOUND: Final = Issue("informational", "No issues were found", severity="information")


def validate_operation(types: Iterable[str], engine: Engine) -> Operation:
    """The row, for these resource types."""
    judge = partial(_handle, engine)
    return Operation(
        code="validate",
        canonical="http://hl7.org/fhir/OperationDefinition/Resource-validate",
        levels=frozenset(("system", "type", "instance")),
        types=tuple(sorted(types)),
        affects_state=False,
        inputs=(
            Parameter("resource", "Resource", "What is validated; default: the instance"),
            Parameter("mode", "code", "create, update, delete or profile"),
            Parameter("profile", "canonical", "A profile that it is to conform to"),
        ),
        outputs=(Parameter("return", "OperationOutcome", "What was found", min=1),),
        scope="system/*.rs",
        description="What a write of the resource would be told: by its structure, by the profiles "
        "that it claims and the one that is asked for.",
        example="POST /Patient/$validate",
        handler=judge,
        body="resource",
        unjudged=True,
    )


async def _handle(engine: Engine, arguments: Arguments, session: Session, call: Invocation) -> Json:
    conformance = engine.conformance
    if conformance is None:
        raise NotSupported("this server has no profiles")
    mode, profile = arguments.one("mode", ""), arguments.one("profile")
    if mode not in ("", *MODES):
        raise BadRequest(f"mode is one of {', '.join(MODES)}", code="value")
    if mode == "profile" and profile is None:
        raise BadRequest("mode profile needs a profile", code="required")
    resource = arguments.one("resource")
    issues: list[Issue] = []
    if resource is None:
        if call.level != "instance":
            raise BadRequest("Parameter 'resource' is required", code="required")
        resource = loads((await session.read(Key(call.type, call.id))).body)
    elif call.level == "instance" or mode in ("create", "update"):
        issues += _addressed(resource, mode, call)
    if mode in ("create", "update", "delete"):
        issues += _permitted(session, mode, call.type or str(resource.get("resourceType")))
    if mode == "delete":
        if call.level != "instance":
            raise BadRequest("mode delete is for an instance", code="invalid")
    elif call.type and resource.get("resourceType") != call.type:
        text = f"is a {str(resource.get('resourceType'))[:64]}, not a {call.type}"
        issues.append(Issue("invalid", text, str(resource.get("resourceType"))))
    else:
        wanted = [profile] if profile else []
        issues += await every_issue(conformance, resource, wanted, session, call.base)
    return outcome(issues or [SOUND])


def _addressed(resource: Json, mode: str, call: Invocation) -> Iterable[Issue]:
    """The id of what would be updated."""
    type_, id_ = str(resource.get("resourceType")), resource.get("id")
    if call.level == "instance" and mode != "create" and id_ not in (None, call.id):
        yield Issue("invalid", "the id is not that of the URL", f"{type_}.id")
    if mode == "update" and id_ is None:
        yield Issue("required", "id: is required for an update", f"{type_}.id")


def _permitted(session: Session, mode: str, type_: str) -> Iterable[Issue]:
    letter = {"create": "c", "update": "u", "delete": "d"}[mode]
    if not session.policy.allows(letter, type_):
        yield Issue("forbidden", f"not permitted: {mode} {type_[:64]}")
