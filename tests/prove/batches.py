"""A long proof in batches that several processes share, and that goes on where it was stopped.

``PROVE_KEEP``: a folder for the results of finished batches; what is there is not run again, and
the row adds up all of them. ``PROVE_SHARE`` (``0/2``, ``1/2``): of all batches, this one's.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path


class Batches:
    """``name``: of the proof. ``count``: things to do in all, ``size`` at a time."""

    def __init__(self, name: str, count: int, size: int) -> None:
        self._count = count
        self._size = size
        self._done: dict[int, dict[str, int]] = {}
        kept = os.environ.get("PROVE_KEEP")
        self._folder = Path(kept) / name.replace(" ", "-") if kept else None
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            for one in self._folder.glob("*.json"):
                self._done[int(one.stem)] = json.loads(one.read_text(encoding="utf-8"))

    def todo(self) -> Iterator[tuple[int, int]]:
        """(number of the first, how many) of this process's batches that are not done."""
        which, _, of = os.environ.get("PROVE_SHARE", "0/1").partition("/")
        for place, first in enumerate(range(0, self._count, self._size)):
            if place % int(of) == int(which) and first not in self._done:
                yield first, min(self._size, self._count - first)

    def finished(self, first: int, found: Counter[str]) -> None:
        """The batch's counts by name; only of a batch in which nothing was wrong."""
        self._done[first] = dict(found)
        if self._folder is not None:
            text = json.dumps(found)
            (self._folder / f"{first}.json").write_text(text, encoding="utf-8")

    def total(self) -> Counter[str]:
        """The counts of all finished batches."""
        found = Counter[str]()
        for one in self._done.values():
            found.update(one)
        return found
