"""Approvals: what a user let an app do, from the consent page until it is withdrawn.

Access tokens and refresh tokens hang on one row. A refresh token is ``<approval>.<secret>``;
its successor is derived from it (HMAC), so that a client whose answer was lost gets the same
successor again within ``GRACE`` seconds and two parallel requests get one. Any other use of a
spent refresh token ends the approval.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.access.ports import LedgerWrite, Row
from fhir_server.auth.records import ATTEMPTS, Records, digest
from fhir_server.auth.seals import Seals
from fhir_server.auth.tokens import APPROVAL as KIND
from fhir_server.auth.tokens import Held, Tokens
from fhir_server.auth.websessions import LONGEST, WebSessions, ending
from fhir_server.model.problem import Unavailable

GRACE: Final = 10
ACCESS_SECONDS: Final = 3600
"""SMART App Launch 2.2: no more than an hour for users."""
OFFLINE: Final = 100 * 86_400
"""Seconds without use after which an ``offline_access`` approval ends."""


class SpentToken(Exception):
    """A refresh token that is not valid (any more)."""


@dataclass(frozen=True, slots=True)
class Approval:
    """``held``: as its access tokens. ``session``: the web session that it ends with, empty
    for ``offline_access``. ``created``, ``used``: epoch seconds.
    """

    id: str
    held: Held
    session: str
    refreshes: bool
    created: float
    used: float


@dataclass(frozen=True, slots=True)
class Issued:
    """What a client gets. ``refresh`` is empty without the right to refresh."""

    access: str
    refresh: str
    scope: str
    approval: Approval


class Approvals:
    """Approval rows."""

    def __init__(
        self, records: Records, tokens: Tokens, sessions: WebSessions, seals: Seals
    ) -> None:
        self._records = records
        self._tokens = tokens
        self._sessions = sessions
        self._seals = seals

    async def begin(
        self, held: Held, session: str, spending: Callable[[str], LedgerWrite]
    ) -> Issued | None:
        """The first tokens of an approval, in one commit with what is spent for it.

        ``spending``: its row by the id of the approval. None if that is spent already.
        """
        id_, now = secrets.token_hex(16), self._records.now()
        words = held.scope.split()
        offline = "offline_access" in words
        refreshes = offline or "online_access" in words
        refresh = f"{id_}.{secrets.token_urlsafe(32)}" if refreshes else ""
        value = {
            "scope": held.scope,
            "client": held.client,
            "user": held.user,
            "patient": held.patient,
            "audience": held.audience,
            "context": held.context,
            "session": "" if offline else session,
            "created": now,
            "used": now,
            "refresh": digest(refresh) if refresh else "",
            "spent": None,
        }
        made = _approval(Row(KIND, id_, value, 1))
        access, write = self._tokens.made(made.held, ACCESS_SECONDS)
        rows = (LedgerWrite(KIND, id_, value, 0, now + _lifetime(value)), write, spending(id_))
        if not await self._records.commit(*rows):
            return None
        return Issued(access, refresh, held.scope, made)

    async def refresh(self, token: str, client: str, scope: str | None) -> Issued:
        """The successor of a refresh token. ``scope``: what ``narrowed`` made of the request.

        Raises SpentToken; a reuse has then ended the approval.
        """
        for _ in range(ATTEMPTS):
            row = await self._row(token)
            if row is None or row.value["client"] != client:
                raise SpentToken("the refresh token is not valid")
            value, now = row.value, self._records.now()
            if value["session"] and not await self._sessions.lives(value["session"]):
                raise SpentToken("the session of the refresh token has ended")
            granted = scope if scope is not None else value["scope"]
            issued = self._successor(row, token, granted)
            if self._is(token, value["spent"], granted, now):
                return issued
            if not hmac.compare_digest(value["refresh"], digest(token)):
                await self.withdraw(row.key)
                raise SpentToken("the refresh token was used before; the approval has ended")
            spent = {"hash": digest(token), "until": now + GRACE, "scope": granted}
            next_ = {"refresh": digest(issued.refresh), "spent": spent, "used": now}
            _, write = self._tokens.made(_held(row, granted), ACCESS_SECONDS, issued.access)
            changed = LedgerWrite(
                KIND, row.key, value | next_, row.revision, now + _lifetime(value)
            )
            if await self._records.commit(changed, write):
                return issued
        raise Unavailable("the refresh token is being used by others")

    def _is(self, token: str, spent: dict[str, Any] | None, scope: str, now: float) -> bool:
        """Is it the same request again, whose answer may have been lost?"""
        return (
            spent is not None
            and hmac.compare_digest(spent["hash"], digest(token))
            and now < spent["until"]
            and spent["scope"] == scope
        )

    def _successor(self, row: Row, token: str, scope: str) -> Issued:
        access = self._seals.derive("access", row.key, token, scope)
        refresh = f"{row.key}.{self._seals.derive('refresh', row.key, token)}"
        return Issued(access, refresh, scope, _approval(row))

    async def _row(self, token: str) -> Row | None:
        id_, dot, _ = token.partition(".")
        return await self._records.get(KIND, id_) if dot else None

    async def of_refresh(self, token: str) -> Approval | None:
        """The approval whose newest refresh token this is."""
        row = await self._row(token)
        if row is None or not hmac.compare_digest(row.value["refresh"], digest(token)):
            return None
        if row.value["session"] and not await self._sessions.lives(row.value["session"]):
            return None
        return _approval(row)

    async def client_of(self, token: str) -> str:
        """The client that a refresh token, spent or not, was issued to; empty if unknown."""
        row = await self._row(token)
        return "" if row is None else str(row.value["client"])

    async def scope_of(self, token: str) -> str:
        row = await self._row(token)
        return "" if row is None else str(row.value["scope"])

    async def of_user(self, user: str) -> list[Approval]:
        """What a user let apps do, newest first."""
        return [one for one in await approvals_of(self._records) if one.held.user == user]

    async def acts(self, approval: Approval) -> bool:
        """May the app still do something? Its last access token may outlive the web session."""
        if self._records.now() < approval.used + ACCESS_SECONDS:
            return True
        return not approval.session or await self._sessions.lives(approval.session)

    async def end_session(self, id_: str) -> None:
        """End a web session and what was to last no longer than it."""
        lasting = await ending_with(self._records, (id_,))
        await self._records.commit_policy(ending(id_), *lasting)

    async def withdraw(self, id_: str) -> None:
        """End an approval; its tokens are refused from the next request on."""
        await self._records.commit_policy(withdrawal(id_))


async def approvals_of(records: Records) -> list[Approval]:
    """All that stand, the newest first."""
    return sorted(map(_approval, await records.scan(KIND)), key=lambda a: -a.created)


async def ending_with(records: Records, sessions: Collection[str]) -> list[LedgerWrite]:
    """What ends the ``online_access`` approvals of web sessions that end."""
    return [
        withdrawal(one.id)
        for one in await approvals_of(records)
        if one.refreshes and one.session in sessions
    ]


def withdrawal(id_: str) -> LedgerWrite:
    """What ends an approval; a change of policy."""
    return LedgerWrite(KIND, id_, None)


def _lifetime(value: dict[str, Any]) -> float:
    if not value["refresh"]:
        return ACCESS_SECONDS
    return LONGEST if value["session"] else OFFLINE


def _held(row: Row, scope: str) -> Held:
    value = row.value
    return Held(
        scope=scope,
        client=value["client"],
        user=value["user"],
        patient=value["patient"],
        audience=value["audience"],
        approval=row.key,
        context=value["context"],
    )


def _approval(row: Row) -> Approval:
    value = row.value
    held = _held(row, value["scope"])
    refreshes = bool(value["refresh"])
    return Approval(row.key, held, value["session"], refreshes, value["created"], value["used"])
