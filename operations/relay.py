"""Terminology operations that another server answers where this one does not know.

``VEHR_TERMINOLOGY`` names its FHIR base. It is asked about codes alone, by the same operation with
the same parameters; what it says is passed on as it is, if it is what the operation gives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeAlias

from fhir_server.access.session import Session
from fhir_server.formats.json import dumps
from fhir_server.model.exchange import Json, Response
from fhir_server.model.problem import Problem

from .parameters import SIMPLE, Arguments, Parameter, Value
from .registry import Invocation, Operation

RELAYED: Final = frozenset({"lookup", "validate-code", "subsumes", "expand", "translate"})
UNKNOWN: Final = frozenset({(404, "not-found"), (422, "not-supported")})
"""Status and issue code of what this server has no content for."""

Post: TypeAlias = Callable[[str, bytes], Awaitable[Any]]
"""(URL, FHIR JSON) -> the JSON of a 200, None for another status. Unavailable: not reached."""


class Relay(NamedTuple):
    """``base``: of the other server."""

    base: str
    post: Post


def relayed(row: Operation, relay: Relay) -> Operation:
    """The row, which asks the other server as well; those of other operations stay."""
    if row.code not in RELAYED:
        return row

    async def handle(arguments: Arguments, session: Session, call: Invocation) -> Json | Response:
        try:
            return await row.handler(arguments, session, call)
        except Problem as problem:
            unknown = (problem.status, problem.issues[0].code) in UNKNOWN
            if not unknown or call.level == "instance":
                raise
            asked = dumps(as_parameters(row.inputs, arguments))
            answer = await relay.post(f"{relay.base}/{call.type}/${row.code}", asked)
            if not _fits(row, answer):
                raise
            found: Json = answer
            return found

    return replace(row, handler=handle)


def as_parameters(rows: tuple[Parameter, ...], arguments: Arguments) -> Json:
    """The arguments as a resource."""
    parts = [_part(row, value) for row in rows for value in arguments.all(row.name)]
    return {"resourceType": "Parameters", "parameter": parts}


def _part(row: Parameter, value: Any) -> Json:
    if isinstance(value, Arguments):
        return {"name": row.name, "part": as_parameters(row.parts, value)["parameter"]}
    if isinstance(value, Value):
        return {"name": row.name, value.member: value.json}
    if row.type in SIMPLE:
        return {"name": row.name, SIMPLE[row.type].members[0]: value}
    if "resourceType" in value:
        return {"name": row.name, "resource": value}
    return {"name": row.name, f"value{row.type}": value}


def _fits(row: Operation, answer: Any) -> bool:
    """Is it the resource that the operation gives?"""
    expected = row.outputs[0].type if row.outputs[0].name == "return" else "Parameters"
    return isinstance(answer, dict) and answer.get("resourceType") == expected
