"""The operations over the audit trail: rows in one place."""

from __future__ import annotations

from datetime import tzinfo

from .access_log import access_log
from .access_report import access_report
from .registry import Operation


def audit_operations(zone: tzinfo) -> tuple[Operation, ...]:
    """$access-log and $access-report; ``zone``: in which people read moments."""
    return access_log(zone), access_report(zone)
