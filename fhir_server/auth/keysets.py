"""Key sets of others (RFC 7517), fetched through the one way out and kept for a while."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.auth.outbound import Outbound, OutboundError

KEPT: Final = 3600
REFETCH: Final = 60
"""Seconds: a key set is kept no longer than an hour, and fetched again for an unknown key no
sooner than a minute after the last time."""


@dataclass(slots=True)
class _Kept:
    keys: list[dict[str, Any]]
    fetched: float
    until: float


class KeySets:
    """``now``: epoch seconds."""

    def __init__(self, outbound: Outbound, now: Callable[[], float]) -> None:
        self._outbound = outbound
        self._now = now
        self._kept: dict[str, _Kept] = {}

    async def keys(self, url: str, kid: str) -> list[dict[str, Any]]:
        """The keys at an address, asked again if ``kid`` is none of those that are kept.
        OutboundError if they cannot be had.
        """
        now, kept = self._now(), self._kept.get(url)
        if kept is not None and now < kept.until:
            known = any(row.get("kid") == kid for row in kept.keys)
            if known or now < kept.fetched + REFETCH:
                return kept.keys
        try:
            document = await self._outbound.get_json(url)
        except OutboundError:
            known_keys = kept.keys if kept is not None and now < kept.until else []
            self._kept[url] = _Kept(known_keys, now, now + REFETCH)
            raise
        rows = rows_of(document.content)
        life = min(document.max_age or REFETCH, KEPT)
        self._kept[url] = _Kept(rows, now, now + life)
        return rows


def rows_of(document: Any) -> list[dict[str, Any]]:
    """The keys of a key set; of anything else there are none."""
    rows = document.get("keys") if isinstance(document, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
