"""Decisions on consent, as whoever takes them tells them to the audit trail.

They are part of the line of the request that they were taken for, so that no answer leaves
without them; ``authorised.py`` makes the AuditEvents of IHE BALP (AuthZ-Consent) of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fhir_server.access.audit.entry import Decision, Recording
from fhir_server.access.principal import Principal


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One decision for one patient. ``consents``: id and version of each Consent that was looked
    at. ``rule``: the path of what decided (``Consent/7 provision[1].provision[0]``, or a word
    for what is no Consent: ``implicit``, ``own-data``, ``relationship``). ``reason``: why, for
    people; it is recorded and never answered. ``purpose``: v3-ActReason. ``jti``: of the token.
    """

    principal: Principal
    patient: str
    consents: tuple[tuple[str, int], ...]
    rule: str
    outcome: Literal["permit", "deny"]
    reason: str = ""
    purpose: str = ""
    jti: str = ""


def decided(recording: Recording | None, record: DecisionRecord) -> None:
    """Recorded with the request; the same decision once. Nothing where nothing is recorded."""
    if recording is None:
        return
    made = Decision(
        patient=record.patient,
        outcome=record.outcome,
        rule=record.rule,
        reason=record.reason,
        purpose=record.purpose,
        token=record.jti,
        consents=record.consents,
    )
    recording.decisions[made] = None
