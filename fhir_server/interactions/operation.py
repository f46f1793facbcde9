"""operations: https://hl7.org/fhir/R4/operations.html

Which exist, where and with which parameters is a row of ``operations/registry``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final

from fhir_server.access.session import Session
from fhir_server.formats.json import dumps
from fhir_server.interactions.ports import Handler
from fhir_server.interactions.vread import number
from fhir_server.jobs.request import HandlerOf, Replayed
from fhir_server.model.exchange import Json, Request, Response
from fhir_server.model.problem import BadRequest, Forbidden, MethodNotAllowed, NotFound
from operations.parameters import decode
from operations.registry import Invocation, Level, Operation, Operations

LEVELS: Final[tuple[Level, ...]] = ("system", "type", "instance", "version")


def operation(operations: Operations, now: Callable[[], int]) -> Handler:
    """The handler of every operation; ``now``: microseconds since the epoch."""

    async def operation_(request: Request, session: Session) -> Response:
        *where, name = request.path
        level = LEVELS[len(where)]
        type_, id_, version = (*where, "", "", "")[:3]
        row = find(operations, name, level, type_)
        if row.affects_state and request.method != "POST":
            raise MethodNotAllowed(f"{name} is only for POST", headers={"Allow": "POST"})
        _permit(session, row, type_)
        arguments = decode(row.inputs, request.query, request.body, row.body, searches=row.searches)
        if request.body is not None and not row.unjudged:
            await _judge(request.body, row.foreign, session)
        call = Invocation(
            level,
            type_,
            id_,
            request.method,
            request.base,
            now(),
            number(version) if version else 0,
            request,
        )
        answer = await row.handler(arguments, session, call)
        return answer if isinstance(answer, Response) else Response(200, dumps(answer))

    return operation_


def asking(operations: Operations) -> Callable[[Sequence[str]], bool]:
    """Is the operation at a path one that cannot change anything?"""

    def asks(path: Sequence[str]) -> bool:
        *where, name = path
        if len(where) >= len(LEVELS):
            return False
        row = operations.find(name[1:], LEVELS[len(where)], where[0] if where else "")
        return row is not None and row.asks

    return asks


async def _judge(body: Json, foreign: Collection[str], session: Session) -> None:
    """A body as FHIR has it, but for resources of types that the operation judges itself."""
    if body.get("resourceType") not in foreign:
        await session.judge(_native(body, foreign) if foreign else body)


def _native(body: Json, foreign: Collection[str]) -> Json:
    """Parameters without the resources of foreign types: in their stead a value."""

    def native(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        resource = part.get("resource")
        if isinstance(resource, dict) and resource.get("resourceType") in foreign:
            return {k: v for k, v in part.items() if k != "resource"} | {"valueBoolean": True}
        if isinstance(part.get("part"), list):
            return part | {"part": [native(one) for one in part["part"]]}
        return part

    parts = body.get("parameter")
    if not isinstance(parts, list):
        return body
    return body | {"parameter": [native(part) for part in parts]}


Defer = Callable[[Replayed, Session], Awaitable[Response]]


def deferring(rows: Operations, handler_of: HandlerOf, defer: Defer) -> Defer:
    """Makes a job of a request, unless the operation makes one itself."""
    some = frozenset(f"${row.code}" for row in rows.rows if row.asynchronous)

    def own(path: Sequence[str]) -> bool:
        *where, name = path
        row = rows.find(name[1:], LEVELS[len(where)], where[0] if where else "")
        return row.asynchronous if row is not None else name in some

    async def defer_(replayed: Replayed, session: Session) -> Response:
        if replayed.interaction == "operation" and own(replayed.request.path):
            return await handler_of("operation")(replayed.request, session)
        return await defer(replayed, session)

    return defer_


def _permit(session: Session, row: Operation, type_: str) -> None:
    """Whoever may read nothing of the kind may not use the operation either."""
    types = row.needs or ((type_,) if type_ else row.types)
    if not any(session.policy.allows("r", one) for one in types):
        raise Forbidden(f"not permitted: ${row.code}")


def find(operations: Operations, name: str, level: Level, type_: str) -> Operation:
    """The row; NotFound for an unknown operation, BadRequest for one of another place."""
    row = operations.find(name[1:], level, type_)
    if row is not None:
        return row
    if any(other.code == name[1:] for other in operations.rows):
        raise BadRequest(f"{name[:64]} is not an operation of this {level}", code="not-supported")
    raise NotFound(f"unknown operation: {name[:64]}", code="not-supported")
