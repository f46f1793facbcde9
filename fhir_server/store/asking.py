"""On whose behalf a store works: for sharing what is scarce, never for what may be seen."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

asking: Final[ContextVar[str]] = ContextVar("asking", default="")
"""A name that stands for one principal, of the current task."""
