"""A breaker: a service that has failed several times in a row is left alone for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

FAILURES: Final = 5
REST: Final = 10.0
"""Seconds."""


class Breaker:
    """``allows`` is asked before each call, ``succeeded`` or ``failed`` told after it.

    After ``failures`` in a row nothing is allowed for ``rest`` seconds, then one call at a time
    until one succeeds.
    """

    def __init__(
        self,
        failures: int = FAILURES,
        rest: float = REST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = failures
        self._rest = rest
        self._clock = clock
        self._failures = 0
        self._until = 0.0

    @property
    def wait(self) -> float:
        """Seconds until a call is allowed again; 0 when one is."""
        if self._failures < self._most:
            return 0.0
        return max(0.0, self._until - self._clock())

    def allows(self) -> bool:
        if self.wait:
            return False
        if self._failures >= self._most:
            self._until = self._clock() + self._rest
        return True

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        self._until = self._clock() + self._rest
