"""The operations of this server: https://hl7.org/fhir/R4/operations.html

An operation is one row with its handler; routes, the CapabilityStatement, the
OperationDefinitions and the documentation are made from the rows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from fhir_server.access.session import Session
from fhir_server.jobs.context import Body
from fhir_server.jobs.pattern import Shown
from fhir_server.model.exchange import Json, Request, Response

from .parameters import Arguments, Parameter

Level: TypeAlias = Literal["system", "type", "instance", "version"]


@dataclass(frozen=True, slots=True)
class Invocation:
    """Where and how an operation was called.

    ``base``: the base URL of the face. ``now``: microseconds since the epoch. ``id``: of the
    instance, "" on type and system level; ``type`` "" on system level; ``version`` 0 but on
    version level.
    """

    level: Level
    type: str
    id: str
    method: str
    base: str
    now: int
    version: int = 0
    request: Request = field(default_factory=lambda: Request("GET"))
    """What it came with: its headers, and its query as it was."""


Handler: TypeAlias = Callable[[Arguments, Session, Invocation], Awaitable[Json | Response]]
"""Gets arguments out of a body that is structurally valid."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One row. ``code``: without ``$``. ``affects_state``: only by POST.

    ``scope``: what a caller needs, as a SMART scope for the documentation; the session
    enforces it on every look at the data. ``example``: a request that the docs run.
    """

    code: str
    levels: frozenset[Level]
    types: tuple[str, ...]
    affects_state: bool
    inputs: tuple[Parameter, ...]
    outputs: tuple[Parameter, ...]
    scope: str
    description: str
    example: str
    handler: Handler
    body: str = ""
    """The input that a body which is not a Parameters resource stands for."""
    searches: bool = False
    """Takes search parameters of its type as well (``Arguments.criteria``)."""
    needs: tuple[str, ...] = ()
    """Types of which the caller reads some instead of that of the URL."""
    asynchronous: bool = False
    """It always answers 202 with the status URL of a job, whatever is preferred."""
    id: str = ""
    """Of its OperationDefinition, if that is not the code."""
    unjudged: bool = False
    """Its body may be invalid: to say so is what it is for."""
    canonical: str = ""
    """The OperationDefinition of a guide that it is one of; the statement names that."""
    foreign: tuple[str, ...] = ()
    """Resource types unknown to R4 that its inputs may hold; its handler judges those itself."""

    @property
    def asks(self) -> bool:
        """Can it change nothing, however it is called? ``store``: keep the result."""
        keeps = any(parameter.name == "store" for parameter in self.inputs)
        return not (self.affects_state or self.asynchronous or keeps)


class Operations:
    """The rows by code; two rows may share a code on different types. ``work``: bodies of the jobs
    that they start, ``shown``: how the results of those are shown, both by kind of job."""

    def __init__(
        self,
        rows: Iterable[Operation],
        work: Mapping[str, Body] = MappingProxyType({}),
        shown: Mapping[str, Shown] = MappingProxyType({}),
    ) -> None:
        self.rows: Final = tuple(rows)
        self.work: Final = work
        self.shown: Final = shown

    def find(self, code: str, level: Level, type_: str) -> Operation | None:
        for row in self.rows:
            fits = level == "system" or type_ in row.types
            if row.code == code and level in row.levels and fits:
                return row
        return None

    def of_type(self, type_: str) -> list[Operation]:
        """The operations that a CapabilityStatement lists for a resource type."""
        return [row for row in self.rows if type_ in row.types and row.levels - {"system"}]


def definition(row: Operation, base: str) -> Json:
    """The OperationDefinition: https://hl7.org/fhir/R4/operationdefinition.html"""
    id_ = row.id or row.code
    return {
        "resourceType": "OperationDefinition",
        "id": id_,
        "url": f"{base}/OperationDefinition/{id_}",
        "name": id_.replace("-", "_"),
        "status": "active",
        "kind": "operation",
        "affectsState": row.affects_state,
        "description": row.description,
        "code": row.code,
        **({"base": row.canonical} if row.canonical else {}),
        **_resources(row),
        "system": "system" in row.levels,
        "type": "type" in row.levels,
        "instance": bool(row.levels & {"instance", "version"}),
        "parameter": [
            *(p.definition("in") for p in row.inputs),
            *(p.definition("out") for p in row.outputs),
        ],
    }


def _resources(row: Operation) -> Json:
    """The types of R4 that it is of."""
    types = [type_ for type_ in row.types if type_ not in row.foreign]
    return {"resource": types} if types else {}
