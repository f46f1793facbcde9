"""How often one user, and one client, may ask: RFC 6585 section 4 (429 with Retry-After).

Each has an allowance of a minute's requests, which refills evenly; so a burst passes, and a
steady stream up to the rate. The workers of a server count together (``rate_table.py``); it is
forgotten when the machine starts anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from fhir_server.access.principal import Principal
from fhir_server.auth.rate_table import RateTable
from fhir_server.config import Settings
from fhir_server.model.problem import TooManyRequests

MINUTE: Final = 60.0
FILE: Final = "rates"
"""In the data directory: what the workers share."""
AHEAD: Final = 64
"""Such a part of an allowance is taken at once, so that the table, which is locked for that, is
not asked for each request. It may come on top of a minute's requests, once in each process."""
REMEMBERED: Final = 4096
READS: Final = frozenset({"GET", "HEAD"})
EXPORTS: Final = (b"$export", b"$viewdefinition-export")
BREAK_GLASS: Final = "x-break-glass-reason"


@dataclass(frozen=True, slots=True)
class Allowances:
    """In a minute; 0: as many as one likes. ``user``, ``client``: requests, the entries of a
    Bundle counted. ``delicate``: of a user or address, what a person does now and then and a
    program could do to harm: to break the glass, change consents, start exports, register apps,
    administer.
    """

    user: int
    client: int
    delicate: int


class Rates:
    """The allowances of a server. ``clock``: seconds, the same in all its processes. ``table``:
    when each will be whole again.
    """

    def __init__(
        self,
        allowances: Allowances,
        clock: Callable[[], float] = time.monotonic,
        table: RateTable | None = None,
    ) -> None:
        self._allowances = allowances
        self._clock = clock
        self._table = table or RateTable()
        self._held: dict[str, int] = {}
        """What was taken ahead of the requests that will spend it."""

    def spend(self, user: str, client: str, cost: int = 1) -> None:
        """One request. TooManyRequests when an allowance is used up."""
        if user:
            self._spend(f"u {user}", self._allowances.user, cost)
        if client:
            self._spend(f"c {client}", self._allowances.client, cost)

    def spend_delicate(self, name: str, cost: int = 1) -> None:
        """One act of ``Allowances.delicate``, by a user or from an address."""
        self._spend(f"d {name}", self._allowances.delicate, cost)

    def request(
        self, principal: Principal, method: str, path: bytes, headers: Mapping[str, str]
    ) -> None:
        """One request to a FHIR base, before its body is read."""
        self.spend(principal.user, principal.client)
        if principal.user and (is_delicate(method, path) or BREAK_GLASS in headers):
            self.spend_delicate(principal.user)

    def entries(self, principal: Principal, bundle: Mapping[str, Any]) -> None:
        """The entries of a batch or transaction, each as a request."""
        found = bundle.get("entry")
        if not isinstance(found, list) or not found:
            return
        self.spend(principal.user, principal.client, len(found))
        asked = [e.get("request") for e in found if isinstance(e, dict)]
        delicate = [r for r in asked if isinstance(r, dict) and _is_delicate_entry(r)]
        if delicate and principal.user:
            self.spend_delicate(principal.user, len(delicate))

    def _spend(self, name: str, allowance: int, cost: int) -> None:
        if not allowance:
            return
        held = self._held.get(name, 0)
        if cost > held:
            held = self._taken(name, allowance, cost) + held
        self._held[name] = held - cost

    def _taken(self, name: str, allowance: int, cost: int) -> int:
        """From the table, ``cost`` and some more, or ``cost`` alone when that is all there is."""
        if len(self._held) >= REMEMBERED:
            self._held.clear()
        ahead = cost + allowance // AHEAD
        for some in (ahead, cost) if ahead > cost else (cost,):
            wait = self._wait(name, allowance, some)
            if wait <= 0:
                return some
        seconds = str(max(1, ceil(wait)))
        raise TooManyRequests("too many requests; wait", headers={"Retry-After": seconds})

    def _wait(self, name: str, allowance: int, cost: int) -> float:
        """Seconds until there is so much; it is taken if it is there now."""
        each, now = MINUTE / allowance, self._clock()
        with self._table:
            known = self._table.get(name)
            # Of a clock that has begun anew, with the machine.
            known = now if known > now + 2 * MINUTE + each else max(now, known)
            whole = known + each * min(cost, allowance)
            if whole - now <= MINUTE + each / 2:
                self._table.put(name, whole)
                return 0.0
        return whole - now - MINUTE


def is_delicate(method: str, path: bytes) -> bool:
    """Does it change a Consent, or start an export? ``path``: as it came."""
    if b"%" in path:
        path = unquote_to_bytes(path)
    path = path.rstrip(b"/")
    if method not in READS and (b"Consent" in path or path.endswith(b"/$consent")):
        return not path.endswith(b"/_search")
    return path.endswith(EXPORTS)


def _is_delicate_entry(request: Mapping[str, Any]) -> bool:
    method, url = request.get("method"), request.get("url")
    if not isinstance(method, str) or not isinstance(url, str):
        return False
    return is_delicate(method, url.partition("?")[0].encode())


def rates_of(settings: Settings, folder: Path) -> Rates:
    """The rates that the settings allow, counted with all who serve this data directory."""
    allowances = Allowances(settings.user_rate, settings.client_rate, settings.delicate_rate)
    return Rates(allowances, table=RateTable(folder / FILE))
