"""The operations about what is valid: rows in one place."""

from __future__ import annotations

from collections.abc import Iterable

from fhir_server.access.engine import Engine

from .packages import package_operations
from .registry import Operation
from .validate import validate_operation


def conformance_operations(types: Iterable[str], engine: Engine) -> tuple[Operation, ...]:
    """``types``: of resources."""
    return (validate_operation(types, engine), *package_operations(engine))
