"""ValueSet/$expand: https://hl7.org/fhir/R4/valueset-operation-expand.html"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.access.session import Session
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest
from terminology import expansion
from terminology.local import Local
from terminology.service import Expanding

from .parameters import Arguments, Parameter
from .registry import Invocation, Operation
from .terms import DATE, SourceOf, answering, the_set

LEFT_OUT: Final = frozenset({"meta", "text", "contained", "expansion"})
"""Of the value set; ``compose`` stays if the definition is asked for."""

_RECORDED: Final = {
    "filter": "valueString",
    "offset": "valueInteger",
    "count": "valueInteger",
    "activeOnly": "valueBoolean",
    "displayLanguage": "valueCode",
    "includeDesignations": "valueBoolean",
    "designation": "valueString",
    "excludeNested": "valueBoolean",
    "excludeNotForUI": "valueBoolean",
    "exclude-system": "valueUri",
    "system-version": "valueUri",
    "check-system-version": "valueUri",
    "force-system-version": "valueUri",
}
"""What ``expansion.parameter`` tells of the request."""


def expand(source_of: SourceOf) -> Operation:
    """The row."""
    return Operation(
        code="expand",
        id="ValueSet-expand",
        levels=frozenset(("type", "instance")),
        types=("ValueSet",),
        affects_state=False,
        inputs=(
            Parameter("url", "uri", "The value set, unless on an instance"),
            Parameter("valueSet", "ValueSet", "The value set itself"),
            Parameter("valueSetVersion", "string", "The version of the value set"),
            Parameter("context", "uri", "Not supported"),
            Parameter("contextDirection", "code", "Goes with context"),
            Parameter("filter", "string", "Beginnings of words of code, display, designations"),
            DATE,
            Parameter("offset", "integer", "Codes to leave out at the beginning"),
            Parameter("count", "integer", "Codes to show; 0: only how many there are"),
            Parameter("includeDesignations", "boolean", "With designations"),
            Parameter("designation", "string", "Only these: language or use", max=None),
            Parameter("includeDefinition", "boolean", "With ValueSet.compose"),
            Parameter("activeOnly", "boolean", "Without inactive codes"),
            Parameter("excludeNested", "boolean", "false: codes below each other, all in one"),
            Parameter("excludeNotForUI", "boolean", "Without abstract codes"),
            Parameter("excludePostCoordinated", "boolean", "There are none in any case"),
            Parameter("displayLanguage", "code", "The language of displays"),
            Parameter("exclude-system", "canonical", "Without this code system", max=None),
            Parameter("system-version", "canonical", "Where none is stated", max=None),
            Parameter("check-system-version", "canonical", "Another is refused", max=None),
            Parameter("force-system-version", "canonical", "Whatever is stated", max=None),
        ),
        outputs=(Parameter("return", "ValueSet", "The value set with its expansion", min=1),),
        scope="user/ValueSet.rs user/CodeSystem.rs",
        description="The codes of a value set, in pages or at once.",
        example="GET /ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/issue-type&filter=inv",
        handler=answering(source_of, _answer),
        body="valueSet",
    )


async def _answer(arguments: Arguments, service: Local, session: Session, call: Invocation) -> Json:
    how = _how(arguments)
    value_set, name = await the_set(arguments, service, session, call)
    found = await expansion.expand(service.work, value_set, name, how)
    kept = LEFT_OUT if arguments.one("includeDefinition", False) else LEFT_OUT | {"compose"}
    expanded: Json = {"timestamp": format_instant(call.now)}
    contains = found.pop("contains", None)
    expanded |= found
    if rows := _recorded(arguments, service, value_set):
        expanded["parameter"] = rows
    if contains:
        expanded["contains"] = contains
    shown = {k: v for k, v in value_set.items() if k not in kept}
    return {"resourceType": "ValueSet", **shown, "expansion": expanded}


def _how(arguments: Arguments) -> Expanding:
    offset, count = arguments.one("offset", 0), arguments.one("count")
    if offset < 0 or (count is not None and count < 0):
        raise BadRequest("offset and count are not negative", code="value")
    nested = arguments.one("excludeNested") is False
    if nested and (offset or count):
        raise BadRequest("Only flat expansions have pages: leave out excludeNested=false")
    tokens = tuple(arguments.all("designation"))
    excluded = arguments.all("exclude-system")
    if any("|" in system for system in excluded):
        raise BadRequest("exclude-system: a version of it is not supported", code="not-supported")
    return Expanding(
        filter=arguments.one("filter", ""),
        offset=offset,
        count=count,
        active=arguments.one("activeOnly", False),
        selectable=arguments.one("excludeNotForUI", False),
        nested=nested,
        language=arguments.one("displayLanguage", ""),
        designations=tokens if arguments.one("includeDesignations", bool(tokens)) else None,
        without=frozenset(excluded),
    )


def _recorded(arguments: Arguments, service: Local, value_set: Json) -> list[Json]:
    rows: list[Json] = [
        {"name": name, member: value}
        for name, member in _RECORDED.items()
        for value in arguments.all(name)
    ]
    rows += [{"name": "version", "valueUri": used} for used in service.work.versions_used()]
    compose: dict[str, Any] = value_set.get("compose", {})
    if "lockedDate" in compose:
        text = "compose.lockedDate: the present versions were used"
        rows.append({"name": "warning", "valueString": text})
    return rows
