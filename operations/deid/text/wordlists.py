"""The lists of words that the rules use, as data (``words.json``)."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files


def words(name: str) -> list[str]:
    """One list, in its order. KeyError if there is none of that name."""
    return _lists()[name]


@cache
def _lists() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(
        files(__package__).joinpath("words.json").read_text("utf-8")
    )
    return found
