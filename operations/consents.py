"""The operations by which patients decide: rows in one place."""

from __future__ import annotations

from datetime import tzinfo

from fhir_server.access.previewing import Previewing

from .consent import Domain, consent_operation
from .consent_history import consent_history
from .consent_preview import consent_preview
from .consent_templates import consent_templates
from .registry import Operation


def consent_operations(previewing: Previewing, domain: str, zone: tzinfo) -> tuple[Operation, ...]:
    """``domain``: the name of the custodian."""
    decided = consent_operation(Domain(domain, previewing.implicit))
    return consent_templates, decided, consent_preview(previewing, zone), consent_history
