"""Opaque access tokens: random, stored as a hash, looked up at every request.

What a token stands for is judged once under each policy epoch (``records``), so that a request
costs two point reads and a revocation acts on the next one.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Final, NamedTuple

from fhir_server.access.gate import Grant
from fhir_server.access.ports import LedgerWrite, Row
from fhir_server.access.roles import Standing
from fhir_server.auth.clients import Clients
from fhir_server.auth.people import People
from fhir_server.auth.records import Records, digest, new_secret
from fhir_server.auth.relations import FOREVER

KIND: Final = "token"
APPROVAL: Final = "approval"
MANDATE: Final = "mandate"
"""What a job goes on by when the token of its request has expired; the key begins with that
of the token, so that a revocation finds it."""

MANDATE_SECONDS: Final = 30 * 86_400
"""No job is older."""

FACE: Final = "/fhir"
"""The audience of a token is one face of this domain, by its path: the record of a domain has
one public URL, but commands beside the server need not know it."""
REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Held:
    """What a token is issued for. ``approval``: the id of the user's approval that it comes
    from; it dies with that. ``operator``: issued by a command, for a client that need not be
    registered. ``context``: further launch context (encounter, …).
    """

    scope: str
    client: str
    user: str = ""
    patient: str | None = None
    audience: str = FACE
    approval: str = ""
    operator: bool = False
    context: dict[str, Any] = field(default_factory=dict)


class _Judged(NamedTuple):
    token: int
    epoch: int
    until: float
    grant: Grant | None


class Tokens:
    """Access tokens in the ledger."""

    def __init__(self, records: Records, clients: Clients, people: People) -> None:
        self._records = records
        self._clients = clients
        self._people = people
        self._judged: dict[str, _Judged] = {}
        self._revisions = count(1)

    async def issue(
        self,
        *,
        scope: str,
        minutes: int,
        client: str,
        user: str = "",
        patient: str | None = None,
        audience: str = FACE,
    ) -> str:
        """A new token of a command's, for one face of this domain; only its hash is kept."""
        held = Held(scope, client, user, patient, audience, operator=True)
        token, write = self.made(held, minutes * 60)
        await self._records.commit(write)
        return token

    def made(self, held: Held, seconds: float, token: str = "") -> tuple[str, LedgerWrite]:
        """A new token (256 random bits, unless it is given) and the row to commit."""
        token = token or new_secret()
        now = self._records.now()
        value = {
            "scope": held.scope,
            "client": held.client,
            "user": held.user,
            "patient": held.patient,
            "audience": held.audience,
            "approval": held.approval,
            "operator": held.operator,
            "context": held.context,
            "issued": int(now),
        }
        return token, LedgerWrite(KIND, digest(token), value, expires=now + seconds)

    async def verify(self, token: str) -> Grant | None:
        """The grant of a token for this domain's record, None if it is unknown, expired,
        revoked, or for something else.
        """
        return await self.grant(digest(token))

    def for_audience(self, audience: str) -> Callable[[str], Awaitable[Grant | None]]:
        """``verify`` of another face."""

        def verify(token: str) -> Awaitable[Grant | None]:
            return self.grant(digest(token), audience)

        return verify

    async def grant(self, key: str, audience: str = FACE) -> Grant | None:
        """The grant by its id, for work that goes on without the token."""
        kind = MANDATE if "/" in key else KIND
        row, epoch = await self._records.get_with_epoch(kind, key)
        if row is None or row.value.get("audience") != audience:
            return None
        known = self._judged.get(key)
        same = known is not None and known[:2] == (row.revision, epoch)
        if known is not None and same and self._records.now() < known.until:
            return known.grant
        return await self._judge(row, epoch, known)

    async def _judge(self, row: Row, epoch: int, known: _Judged | None) -> Grant | None:
        """Judge anew; the revision of the grant changes only if its meaning does."""
        grant, until = await self._meaning(row, epoch)
        before = known.grant if known is not None else None
        if grant is not None and before is not None:
            same = replace(grant, revision=before.revision, epoch=before.epoch) == before
            grant = replace(before, epoch=epoch) if same else grant
        if len(self._judged) >= REMEMBERED:
            self._judged.clear()
        self._judged[row.key] = _Judged(row.revision, epoch, until, grant)
        return grant

    async def _meaning(self, row: Row, epoch: int) -> tuple[Grant | None, float]:
        value, until = row.value, FOREVER
        client = await self._clients.find(value["client"])
        if client is None and not value["operator"]:
            return None, until
        if client is not None and client.disabled:
            return None, until
        approval = value["approval"]
        if approval and await self._records.get(APPROVAL, approval) is None:
            return None, until
        standing: Standing | None = None
        if value["user"]:
            standing, until = await self._people.standing(value["user"])
            if standing is None:
                return None, until
        grant = Grant(
            id=row.key,
            client=value["client"],
            user=value["user"],
            scope=value["scope"],
            patient=value["patient"],
            revision=next(self._revisions),
            standing=standing,
            epoch=epoch,
            expires=row.expires or math.inf,
        )
        return grant, until

    async def row(self, token: str) -> Row | None:
        """The row of a token that is valid for some face, for introspection."""
        row = await self._records.get(KIND, digest(token))
        if row is None or await self.grant(row.key, row.value.get("audience", "")) is None:
            return None
        return row

    async def revoke(self, token: str) -> bool:
        """True if the token was valid until now."""
        key = digest(token)
        row = await self._records.get(KIND, key)
        gone = [LedgerWrite(MANDATE, m.key, None) for m in await self._mandates(key)]
        if row is not None:
            gone.append(LedgerWrite(KIND, key, None, row.revision))
        done = await self._records.commit_policy(*gone) if gone else False
        return done and row is not None

    async def entrust(self, grant: str) -> str:
        """A mandate for a job (``jobs.queue.Mandates``): it is judged as its token is, but
        outlives it.
        """
        kind = MANDATE if "/" in grant else KIND
        row = await self._records.get(kind, grant)
        if row is None:
            return grant
        mandate = f"{grant.partition('/')[0]}/{new_secret()}"
        expires = self._records.now() + MANDATE_SECONDS
        await self._records.commit(LedgerWrite(MANDATE, mandate, row.value, expires=expires))
        if await self._records.get(kind, grant) is None:  # revoked meanwhile, perhaps unseen
            await self.release(mandate)
        return mandate

    async def release(self, mandate: str) -> None:
        """The job has ended: nothing goes on by it."""
        if "/" in mandate:
            await self._records.commit(LedgerWrite(MANDATE, mandate, None))

    async def _mandates(self, token: str) -> list[Row]:
        return await self._records.scan(MANDATE, f"{token}/")
