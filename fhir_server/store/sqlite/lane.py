"""The lane of slow searches: few threads, shared fairly among those who ask.

A search that is too much for the event loop waits here. Whoever has used the least time of late
goes next, and nobody has all threads: who asks dear queries makes himself wait, not others. Who
has too many waiting is refused (429) at once. So are the last of those that cannot be answered in
time, as soon as it is known how long they take: a late refusal helps nobody.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from fhir_server.model.problem import TooManyRequests
from fhir_server.store.asking import asking
from fhir_server.store.sqlite.turns import given

THREADS: Final = 2
MOST_WAITING: Final = 32
"""Slow searches of one that wait at a time."""
IN_TIME: Final = 22.5
"""Seconds in which a search that waits is to be answered."""
LOOK_SECONDS: Final = 1.0
"""Between two looks at what waits."""
MOST_RETRY: Final = 60
"""Seconds after which to come again, at most."""
HALF_LIFE: Final = 30.0
"""Seconds in which half of what somebody has used is forgotten."""
NOTHING: Final = 0.001
"""Seconds of use that are forgotten altogether."""

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Share:
    """Of one who asks. ``used``: seconds of threads, as of ``at``; ``usual``: seconds that a
    search takes, the latest half of it. ``began``: when the latest did. ``limited``: those that
    wait and may be refused.
    """

    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    running: int = 0
    used: float = 0.0
    at: float = 0.0
    usual: float = 0.0
    began: float = 0.0
    limited: set[asyncio.Future[None]] = field(default_factory=set)

    def until(self, now: float) -> float:
        """What has been used, forgotten by and by."""
        left = 0.5 ** ((now - self.at) / HALF_LIFE)
        self.used, self.usual, self.at = self.used * left, self.usual * left, now
        return self.used


class Lane:
    """For one event loop. ``clock``: seconds that only rise. ``patience``: seconds in which what
    waits is to be answered.
    """

    def __init__(
        self,
        most_waiting: int = MOST_WAITING,
        patience: float = IN_TIME,
        threads: int = THREADS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threads = ThreadPoolExecutor(threads, "search")
        self._all = self._free = threads
        self._most_running = max(threads - 1, 1)
        self._most_waiting = most_waiting
        self._patience = patience
        self._clock = clock
        self._shares: dict[str, Share] = {}
        self._looking = False

    @property
    def mine(self) -> int:
        """Searches, running or waiting, of who asks now."""
        share = self._shares.get(asking.get())
        return 0 if share is None else share.running + len(share.waiting)

    async def run(self, work: Callable[..., T], *arguments: Any, limited: bool = True) -> T:
        """``work`` in a thread, in its turn. ``limited`` False: it is never refused."""
        share = self._share(asking.get())
        share.until(self._clock())
        if limited and len(share.waiting) >= self._room(share):
            raise self._refusal(share)
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        share.waiting.append(turn)
        if limited:
            share.limited.add(turn)
        self._give()
        self._watch()
        try:
            await given(turn, share.waiting, lambda: self._leave(share, 0.0))
        finally:
            share.limited.discard(turn)
        began = self._clock()
        running = loop.run_in_executor(self._threads, work, *arguments)
        # The thread works on when its client is gone: the place is free when it has ended.
        running.add_done_callback(lambda _: self._ended(share, self._clock() - began, limited))
        return await asyncio.shield(running)

    def _share(self, name: str) -> Share:
        share = self._shares.get(name)
        if share is None:
            now = self._clock()
            for other, one in [*self._shares.items()]:
                if not one.waiting and not one.running and one.until(now) < NOTHING:
                    del self._shares[other]
            share = self._shares[name] = Share(at=now)
        return share

    def _each(self, share: Share) -> float:
        """Seconds from one of somebody's answers to the next, with all who ask now."""
        busy = sum(1 for one in self._shares.values() if one.running or one.waiting)
        seconds = max(share.usual, self._clock() - share.began if share.running else 0.0)
        return seconds * max(1 / self._most_running, busy / self._all)

    def _room(self, share: Share) -> int:
        """How many of somebody's may wait: all of them answered in time, and one at least."""
        each = self._each(share)
        in_time = int(self._patience / each) - 1 if each else self._most_waiting
        return max(1, min(self._most_waiting, in_time))

    def _refusal(self, share: Share) -> TooManyRequests:
        seconds = math.ceil(self._each(share) * len(share.waiting)) or 5
        return TooManyRequests(
            "too many of your searches that look at many resources are waiting",
            headers={"Retry-After": str(min(seconds, MOST_RETRY))},
        )

    def _ended(self, share: Share, used: float, limited: bool) -> None:
        """A search has ended."""
        self._leave(share, used)
        if limited:
            share.usual = (share.usual + used) / 2 if share.usual else used
        self._refuse(share)

    def _look(self) -> None:
        """What runs shows now and then how long it takes, before it has ended."""
        self._looking = False
        for share in self._shares.values():
            self._refuse(share)
        self._watch()

    def _watch(self) -> None:
        if not self._looking and any(one.limited for one in self._shares.values()):
            self._looking = True
            asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _refuse(self, share: Share) -> None:
        """Those that would come too late."""
        for turn in reversed([turn for turn in share.waiting if turn in share.limited]):
            if len(share.waiting) <= self._room(share):
                return
            refusal = self._refusal(share)
            share.waiting.remove(turn)
            if not turn.done():
                turn.set_exception(refusal)

    def _leave(self, share: Share, used: float) -> None:
        share.until(self._clock())
        share.used += used
        share.running -= 1
        self._free += 1
        self._give()

    def _give(self) -> None:
        """Free threads to those who have used the least."""
        while self._free:
            now = self._clock()
            able = [
                share
                for share in self._shares.values()
                if share.waiting and share.running < self._most_running
            ]
            if not able:
                return
            share = min(able, key=lambda one: (one.running, one.until(now)))
            turn = share.waiting.popleft()
            if not turn.cancelled():
                turn.set_result(None)
                share.running += 1
                share.began = now
                self._free -= 1

    def close(self) -> None:
        """Waits for what is running."""
        self._threads.shutdown()
