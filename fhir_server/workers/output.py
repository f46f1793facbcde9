"""What a server prints: lost where it cannot be written, never a reason to fail.

A full disk under the log, or a reader of it that has gone, must not end a process that serves.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Any, TextIO


class Forgiving:
    """A text stream that passes over errors of the system."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def forgive_output() -> None:
    """From now on in this process."""
    logging.raiseExceptions = False
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, Forgiving):
            setattr(sys, name, Forgiving(stream))
