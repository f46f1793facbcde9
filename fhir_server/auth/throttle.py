"""Throttling of guesses: an attempt is counted before it is judged, so that many at a time
count too. What is counted needs not exist: an unknown name is throttled like a known one.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

from fhir_server.access.ports import LedgerWrite
from fhir_server.auth.records import ATTEMPTS, Records, digest
from fhir_server.model.problem import TooManyRequests, Unavailable

KIND: Final = "throttle"
SUBSCRIBER: Final = 64
"""Bits of an IPv6 address that whoever has a line cannot choose."""


@dataclass(frozen=True, slots=True)
class Limit:
    """``free`` attempts pass; from then on each failure locks for ``first`` seconds, doubled
    every time up to ``longest``. What is not tried for ``forget`` seconds is forgotten.
    """

    free: int
    first: float = 30
    longest: float = 900
    forget: float = 3600


ACCOUNT: Final = Limit(free=5)
"""Failures of one name."""
ADDRESS: Final = Limit(free=60, first=10)
"""Failures from one address, which many people may share."""
CLIENT: Final = Limit(free=20, first=10)
"""Failures of one client to say who it is."""


def origin(address: str) -> str:
    """What is counted of a client's address: all of an IPv4 address, the network of an IPv6 one,
    in which one client has as many addresses as it likes.
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address  # of a socket of this machine
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Network((found, SUBSCRIBER), strict=False))


class Throttle:
    """Counts in the ledger, so that all workers count together and a restart forgets nothing."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def attempt(self, name: str, limit: Limit) -> None:
        """Count one attempt; TooManyRequests while ``name`` is locked."""
        key = digest(name)
        for _ in range(ATTEMPTS):
            row = await self._records.get(KIND, key)
            count, until = (row.value["count"], row.value["until"]) if row else (0, 0.0)
            now = self._records.now()
            if until > now:
                wait = int(until - now) + 1
                raise TooManyRequests(
                    "too many attempts; wait before the next", headers={"Retry-After": str(wait)}
                )
            over = count + 1 - limit.free
            lock = min(limit.first * 2 ** min(over, 30), limit.longest) if over >= 0 else 0.0
            value = {"count": count + 1, "until": now + lock}
            expect = row.revision if row else 0
            if await self._records.commit(
                LedgerWrite(KIND, key, value, expect, now + lock + limit.forget)
            ):
                return
        raise Unavailable("too many attempts at a time", headers={"Retry-After": "5"})

    async def taken_back(self, name: str) -> None:
        """One attempt was none. The others stay counted: who signs in now and then by an account
        of his own gets no further guesses at those of others.
        """
        key = digest(name)
        for _ in range(ATTEMPTS):
            row = await self._records.get(KIND, key)
            if row is None:
                return
            value = {"count": max(0, row.value["count"] - 1), "until": 0.0}
            expires = self._records.now() + ADDRESS.forget
            if await self._records.commit(LedgerWrite(KIND, key, value, row.revision, expires)):
                return

    async def succeeded(self, *names: str) -> None:
        """Forget the attempts of these names."""
        await self._records.commit(*(LedgerWrite(KIND, digest(n), None) for n in names))
