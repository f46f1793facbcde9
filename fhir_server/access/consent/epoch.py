"""The policy epoch: a ledger row whose revision grows with every change of who may do what.

Users, clients, relationships and revocations, consents, and what says who somebody is. What was
decided under one epoch holds until the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fhir_server.store.ledger import LedgerWrite

POLICY: Final = "policy"
EPOCH: Final = "epoch"
ERASED: Final = "erased"

GOVERNING: Final = frozenset({"Consent", "Group", "CareTeam", "PractitionerRole", "Organization"})
"""Types whose resources decide who may see what: consents, and who belongs to whom."""

MARK: Final = LedgerWrite(POLICY, EPOCH, {})
"""Goes with every change: a new epoch."""


def marks(types: Iterable[str], *, erased: bool = False) -> tuple[LedgerWrite, ...]:
    """What goes with a write, or an erase, of resources of these types."""
    if GOVERNING.isdisjoint(types):
        return ()
    return (MARK, LedgerWrite(POLICY, ERASED, {})) if erased else (MARK,)
