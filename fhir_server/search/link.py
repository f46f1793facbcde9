"""Applied parameters back as a query string, for the ``self`` and ``next`` links.

https://hl7.org/fhir/R4/search.html#conformance: the self link says what was applied.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote


def query_string(applied: Iterable[tuple[str, str]]) -> str:
    """``name=value&...``, percent-encoded, so that parsing it gives the same search."""
    return "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in applied])


@lru_cache(maxsize=4096)
def _quoted(text: str) -> str:
    """Names, codes and patients come again and again."""
    return quote(text, safe=":/|,$")
