"""The operations of the terminology service: rows in one place.

https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

from fhir_server.access.ports import Ledger
from fhir_server.jobs.queue import Queue

from .closure import closure
from .expand import expand
from .find_matches import find_matches
from .import_codes import import_codes
from .lookup import lookup
from .registry import Operation
from .relay import Relay, relayed
from .subsumes import subsumes
from .terms import SourceOf
from .translate import translate
from .validate_code import validate_code_system, validate_value_set


def terminology_operations(
    source_of: SourceOf, queue: Queue, ledger: Ledger, relay: Relay | None = None
) -> tuple[Operation, ...]:
    """``source_of``: the resources as a session may see them. ``relay``: to another server."""
    rows = (
        lookup(source_of),
        subsumes(source_of),
        validate_code_system(source_of),
        expand(source_of),
        validate_value_set(source_of),
        translate(source_of),
        find_matches(source_of),
        closure(source_of, ledger),
        import_codes(queue),
    )
    return rows if relay is None else tuple(relayed(row, relay) for row in rows)
