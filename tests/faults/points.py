"""Named instants of a commit at which a process can be made to kill itself.

They are put around the server's own functions from outside: the code that ships has none.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, Final

from fhir_server.store.sqlite.group import Group
from fhir_server.store.sqlite.writer import LocalWriter


class Countdown:
    """Kills this process when it is called for the ``count``-th time."""

    def __init__(self, count: int) -> None:
        self._left = count

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _before(owner: Any, name: str) -> Callable[[Countdown], None]:
    def install(strike: Countdown) -> None:
        real = getattr(owner, name)

        def struck(*arguments: Any, **named: Any) -> Any:
            strike()
            return real(*arguments, **named)

        setattr(owner, name, struck)

    return install


def _after(owner: Any, name: str) -> Callable[[Countdown], None]:
    def install(strike: Countdown) -> None:
        real = getattr(owner, name)

        async def struck(*arguments: Any, **named: Any) -> Any:
            result = await real(*arguments, **named)
            strike()
            return result

        setattr(owner, name, struck)

    return install


class _Struck:
    """A connection whose statements strike before or after."""

    def __init__(self, real: Any, sql: str, strike: Countdown, *, after: bool) -> None:
        self._real, self._sql, self._strike, self._after = real, sql, strike, after

    def execute(self, sql: str, *parameters: Any) -> Any:
        return self._around(sql, lambda: self._real.execute(sql, *parameters))

    def executemany(self, sql: str, rows: Any) -> Any:
        return self._around(sql, lambda: self._real.executemany(sql, rows))

    def _around(self, sql: str, work: Callable[[], Any]) -> Any:
        struck = sql.startswith(self._sql)
        if struck and not self._after:
            self._strike()
        result = work()
        if struck and self._after:
            self._strike()
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _statement(sql: str, *, after: bool) -> Callable[[Countdown], None]:
    def install(strike: Countdown) -> None:
        real = LocalWriter._open

        def opened(self: LocalWriter) -> Any:
            return _Struck(real(self), sql, strike, after=after)

        LocalWriter._open = opened  # type: ignore[method-assign]

    return install


POINTS: Final[dict[str, Callable[[Countdown], None]]] = {
    "before-write": _before(Group, "add"),
    "after-check": _after(Group, "add"),
    "after-begin": _statement("BEGIN", after=True),
    "before-body": _statement("INSERT INTO version", after=False),
    "after-body": _statement("INSERT INTO version", after=True),
    "before-index": _statement("INSERT INTO posting", after=False),
    "after-index": _statement("INSERT INTO posting", after=True),
    "before-commit": _statement("COMMIT", after=False),
    "after-commit": _statement("COMMIT", after=True),
    "before-acknowledgement": _after(LocalWriter, "_commit_group"),
    "after-write": _after(LocalWriter, "write"),
}


ERASING: Final[dict[str, Callable[[Countdown], None]]] = {
    "before-bodies": _statement("DELETE FROM version", after=False),
    "after-bodies": _statement("DELETE FROM version", after=True),
    "before-resource": _statement("DELETE FROM resource", after=False),
    "before-counter": _statement("UPDATE counter", after=False),
    "before-erase-commit": _statement("COMMIT", after=False),
    "after-erase-commit": _statement("COMMIT", after=True),
    "before-rewrite": _statement("VACUUM", after=False),
    "after-rewrite": _statement("VACUUM", after=True),
    "before-log-cut": _statement("PRAGMA wal_checkpoint", after=False),
}
"""Instants of an erase."""


def kill_at(point: str, count: int) -> None:
    """From now on in this process."""
    (POINTS | ERASING)[point](Countdown(count))
