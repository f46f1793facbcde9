"""Everything that is known about who may come in, over one ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fhir_server.access.commit import Commit
from fhir_server.access.ports import Ledger
from fhir_server.auth import codes, invitations, launches, tokens, websessions
from fhir_server.auth.clients import Clients
from fhir_server.auth.passwords import Passwords
from fhir_server.auth.people import People
from fhir_server.auth.ports import SecurityLog, Unrecorded
from fhir_server.auth.records import Records
from fhir_server.auth.relations import Relations
from fhir_server.auth.throttle import Throttle
from fhir_server.auth.tokens import Tokens
from fhir_server.auth.users import Users

TRANSIENT: Final = (
    *(tokens.KIND, tokens.MANDATE, tokens.APPROVAL),
    *(codes.KIND, launches.KIND, websessions.KIND, invitations.KIND),
)
"""Rows that a restored backup leaves behind: what they allow may have been withdrawn since."""


@dataclass(frozen=True, slots=True)
class Identities:
    """The parts; ``tokens`` is what the gate asks. ``log``: what happens is told to it."""

    records: Records
    users: Users
    relations: Relations
    clients: Clients
    people: People
    tokens: Tokens
    throttle: Throttle
    log: SecurityLog

    @classmethod
    def over(
        cls,
        ledger: Ledger,
        commit: Commit,
        now: Callable[[], float],
        log: SecurityLog | None = None,
    ) -> Identities:
        records = Records(ledger, commit, now)
        users, relations = Users(records, Passwords()), Relations(records)
        clients, people = Clients(records), People(records, users, relations)
        issued = Tokens(records, clients, people)
        throttle = Throttle(records)
        told = log or Unrecorded()
        return cls(records, users, relations, clients, people, issued, throttle, told)
