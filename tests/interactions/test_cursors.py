"""Page links: what they carry comes back; L54: their length tells nothing of what else is there."""

from __future__ import annotations

import pytest

from fhir_server.access.principal import Principal
from fhir_server.interactions.cursors import Cursors
from fhir_server.search.plan import Cursor, Rest

CURSORS = Cursors(b"k" * 32)
READER = Principal("d", client="test")
QUERY = (("patient", "p1"), ("_count", "10"))
WIDTHS = (0, 1, 127, 128, 40_000, 70_000, 5_000_000_000, -1, -200, -1_700_000_000_000_000)


@pytest.mark.parametrize(
    "rest", [None, Rest((1_700_000_000_000_000, 5), 0), Rest((1_700_000_000_000_000, 500), 3)]
)
def test_a_link_is_as_long_whatever_its_numbers(rest: Rest | None) -> None:
    lengths = set()
    for number in WIDTHS:
        after: Cursor = ("x", 2.5, None, number)
        text = CURSORS.seal(READER, "Observation", QUERY, after, rest)
        found = CURSORS.open(READER, "Observation", text)
        assert (found.query, found.after, found.rest) == (QUERY, after, rest)
        lengths.add(len(text))
    assert len(lengths) == 1


def test_so_is_one_of_what_is_included() -> None:
    rests = [Rest((number,), behind) for number in (3, 300, 70_000) for behind in (1, 200, 99_999)]
    assert len({len(CURSORS.seal(READER, "Observation", QUERY, (1,), r)) for r in rests}) == 1
