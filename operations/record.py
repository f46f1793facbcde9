"""The operations that read the record: rows in one place."""

from __future__ import annotations

from .everything import everything_operations
from .lastn import lastn
from .match import match
from .registry import Operation
from .searchset import Searchsets
from .stats import stats


def record_operations(sets: Searchsets, base: str) -> tuple[Operation, ...]:
    """$everything, $match, $lastn and $stats; ``base``: the own base URL."""
    return (*everything_operations(sets, base), match(sets), lastn(sets), stats(sets, base))
