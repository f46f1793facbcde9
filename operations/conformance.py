"""The operations about what is valid: rows in one place."""

from __future__ import annotations

from collections.abc import Iterable

from fhir_server.access.engine import Engine
from fhir_server.jobs.queue import Queue

from .packages import package_operations
from .registry import Operation
from .validate import validate_operation


def conformance_operations(
    types: Iterable[str], engine: Engine, queue: Queue
) -> tuple[Operation, ...]:
    """``types``: of resources. ``queue``: for what an installation leaves to be done."""
    return (validate_operation(types, engine), *package_operations(engine, queue))
