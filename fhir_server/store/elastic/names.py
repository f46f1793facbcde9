"""Many ids in a plan."""

from __future__ import annotations

from functools import cached_property


class Names(tuple[str, ...]):
    """Ids, of which there may be thousands: whether one is among them is known at once."""

    @cached_property
    def _members(self) -> frozenset[str]:
        return frozenset(self)

    def __contains__(self, key: object) -> bool:
        return key in self._members
