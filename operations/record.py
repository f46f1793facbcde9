"""The operations that read the record: rows in one place."""

from __future__ import annotations

from .docref import docref
from .everything import everything_operations
from .lastn import lastn
from .match import match
from .registry import Operation
from .searchset import Searchsets
from .stats import stats


def record_operations(sets: Searchsets, base: str) -> tuple[Operation, ...]:
    """$everything, $match, $lastn, $stats and $docref; ``base``: the own base URL."""
    whole = everything_operations(sets, base)
    return (*whole, match(sets), lastn(sets), stats(sets, base), docref(sets))
