"""Applied parameters back as a query string, for the ``self`` and ``next`` links.

https://hl7.org/fhir/R4/search.html#conformance: the self link says what was applied.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, urlencode


def query_string(applied: Iterable[tuple[str, str]]) -> str:
    """``name=value&...``, percent-encoded, so that parsing it gives the same search."""
    return urlencode(list(applied), safe=":/|,$", quote_via=quote)
