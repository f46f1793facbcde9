"""Authorization codes: single use, one minute, bound to everything that they were given for."""

from __future__ import annotations

import asyncio
import hmac
from base64 import urlsafe_b64encode
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from typing import Any, Final

from fhir_server.access.ports import LedgerWrite, Row
from fhir_server.auth.approvals import ACCESS_SECONDS, Approvals, Issued
from fhir_server.auth.records import ATTEMPTS, Records, digest, new_secret
from fhir_server.auth.tokens import Held
from fhir_server.model.problem import Unavailable

KIND: Final = "code"
LIFE: Final = 60
"""Seconds."""
PAUSE: Final = 0.005
"""Seconds by which each look at a code that others are spending comes later."""


class BadCode(Exception):
    """The code is not valid (any more), or not for this client, address or verifier."""


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a code was given for. ``signed_in``: when the user did, epoch seconds."""

    redirect: str
    challenge: str
    nonce: str
    session: str
    signed_in: float
    held: Held


class Codes:
    """Code rows. A spent code stays known for as long as what it issued, so that a second use
    ends that."""

    def __init__(self, records: Records, approvals: Approvals) -> None:
        self._records = records
        self._approvals = approvals

    def made(self, grounds: Grounds) -> tuple[str, LedgerWrite]:
        """A new code and the row to commit."""
        code = new_secret()
        expires = self._records.now() + LIFE
        return code, LedgerWrite(KIND, digest(code), asdict(grounds), 0, expires)

    async def redeem(
        self, code: str, client: str, redirect: str, verifier: str
    ) -> tuple[Issued, Grounds]:
        """The first tokens. BadCode; a code that was tried in vain is spent too."""
        key = digest(code)
        for attempt in range(ATTEMPTS):
            row = await self._records.get(KIND, key)
            if row is None:
                raise BadCode("the code is not valid")
            if "approval" in row.value:
                if row.value["approval"]:
                    await self._approvals.withdraw(row.value["approval"])
                raise BadCode("the code was used before; what it gave has ended")
            grounds = _grounds(row.value)
            right = grounds.held.client == client and grounds.redirect == redirect
            if right and fits(verifier, grounds.challenge):
                issued = await self._approvals.begin(
                    grounds.held, grounds.session, partial(self._spending, row)
                )
                if issued is not None:
                    return issued, grounds
            elif await self._records.commit(self._spending(row, "")):
                raise BadCode("the code is not for this client, address or verifier")
            # Another request was first, whose commit may not be seen yet; what it got has to end.
            await asyncio.sleep(PAUSE * attempt)
        raise Unavailable("the code is being used by others")

    def _spending(self, row: Row, approval: str) -> LedgerWrite:
        """``approval``: what it begins; empty for a code that was tried in vain."""
        spent = self._records.now() + ACCESS_SECONDS
        return LedgerWrite(KIND, row.key, {"approval": approval}, row.revision, spent)


def fits(verifier: str, challenge: str) -> bool:
    """S256 (RFC 7636, section 4.6), in constant time."""
    made = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=")
    return 43 <= len(verifier) <= 128 and hmac.compare_digest(made, challenge.encode())


def _grounds(value: dict[str, Any]) -> Grounds:
    return Grounds(**{**value, "held": Held(**value["held"])})
