"""Relations between searches that hold whatever the data are, on the demo patients."""

from __future__ import annotations

import pytest

from tests.serving import Server

from .searching import ids, walk

CODES = ("8867-4", "8480-6", "8310-5")

pytestmark = pytest.mark.slow


def count(server: Server, url: str) -> int:
    joint = "&" if "?" in url else "?"
    total: int = server.get(f"{url}{joint}_summary=count").json()["total"]
    return total


def found(server: Server, url: str, size: int = 200) -> list[str]:
    return [id for page in walk(server, f"{url}&_count={size}") for id in ids(page)]


def test_months_are_at_most_the_year(demo: Server) -> None:
    months = [count(demo, f"Observation?date=2025-{month:02}") for month in range(1, 13)]
    assert 0 < sum(months) <= count(demo, "Observation?date=2025")


@pytest.mark.parametrize("query", ["Observation?status=final", "Encounter?_sort=date", "Patient?"])
def test_pages_are_the_count_and_their_size_does_not_matter(demo: Server, query: str) -> None:
    large, small = found(demo, query), found(demo, query, 37)
    assert large == small and len(set(large)) == len(large) == count(demo, query) > 0


def test_alternatives_are_the_union(demo: Server) -> None:
    single = [set(found(demo, f"Observation?code={code}")) for code in CODES]
    assert set(found(demo, f"Observation?code={','.join(CODES)}")) == set().union(*single) != set()


@pytest.mark.parametrize("code", CODES)
def test_not_is_the_complement(demo: Server, code: str) -> None:
    every = count(demo, "Observation")
    assert count(demo, f"Observation?code={code}") + count(
        demo, f"Observation?code:not={code}"
    ) == (every)


@pytest.mark.parametrize(
    ("type_", "name"), [("Observation", "value-quantity"), ("Patient", "gender")]
)
def test_missing_is_the_complement(demo: Server, type_: str, name: str) -> None:
    parts = [count(demo, f"{type_}?{name}:missing={word}") for word in ("true", "false")]
    assert sum(parts) == count(demo, type_)


def test_a_compartment_is_the_search_by_patient(demo: Server) -> None:
    for id_ in found(demo, "Patient?")[:5]:
        inside = set(found(demo, f"Patient/{id_}/Observation?"))
        assert inside == set(found(demo, f"Observation?subject=Patient/{id_}"))
        chained = set(found(demo, f"Observation?subject:Patient._id={id_}"))
        assert chained == inside
