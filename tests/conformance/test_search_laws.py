"""Relations between searches that hold whatever the data are, on the demo patients.

A law is a pair of values that must be related; with ``flip`` one of them is spoilt, and every law
must then be seen to break.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.serving import Server

from .searching import ids, link, walk

pytestmark = pytest.mark.slow


class Matter(NamedTuple):
    """What the laws are tried on: codes of Observations and a year in which there are some; as
    they are in the demo patients."""

    codes: tuple[str, ...] = ("8867-4", "8480-6", "8310-5")
    year: int = 2025


class Client(NamedTuple):
    server: Server
    matter: Matter = Matter()

    def count(self, url: str) -> int:
        joint = "&" if "?" in url else "?"
        total: int = self.server.get(f"{url}{joint}_summary=count").json()["total"]
        return total

    def found(self, url: str, size: int = 200) -> list[str]:
        return [id for page in walk(self.server, f"{url}&_count={size}") for id in ids(page)]


class Equal(NamedTuple):
    """Two answers that are the same, and not empty."""

    what: str
    one: object
    other: object


def months(client: Client) -> Iterator[Equal]:
    """The sum over months is at most the year; equal but for what spans months."""
    year = client.matter.year
    by_month = [client.count(f"Observation?date={year}-{m:02}") for m in range(1, 13)]
    whole = client.count(f"Observation?date={year}")
    yield Equal(f"{year}", min(sum(by_month), whole), sum(by_month))


def pages(client: Client) -> Iterator[Equal]:
    for query in ("Observation?status=final", "Encounter?_sort=date", "Patient?", "?_type=Patient"):
        large, small = client.found(query), client.found(query, 37)
        yield Equal(f"{query} by 200 and by 37", large, small)
        yield Equal(f"{query} repeats nothing", len(set(large)), len(large))
        yield Equal(f"{query} is what is counted", len(large), client.count(query))


def totals(client: Client) -> Iterator[Equal]:
    for query in ("Patient?gender=female", f"Observation?code={client.matter.codes[1]}"):
        shown = {page.get("total") for page in walk(client.server, f"{query}&_total=accurate")}
        yield Equal(f"{query}: the total of every page", shown, {client.count(query)})


def alternatives(client: Client) -> Iterator[Equal]:
    codes, year = client.matter
    single = [set(client.found(f"Observation?code={code}")) for code in codes]
    union = set(client.found(f"Observation?code={','.join(codes)}"))
    yield Equal("a,b is the union", union, set().union(*single))
    both = set(client.found(f"Observation?code={codes[0]}&date=ge{year}"))
    late = set(client.found(f"Observation?date=ge{year}"))
    yield Equal("a&b is the intersection", both, single[0] & late)


def complements(client: Client) -> Iterator[Equal]:
    every = set(client.found("Observation?"))
    for code in client.matter.codes:
        inside = set(client.found(f"Observation?code={code}"))
        yield Equal(
            f"not {code}", set(client.found(f"Observation?code:not={code}")), every - inside
        )
    for type_, name in (("Observation", "value-quantity"), ("Patient", "gender")):
        parts = [client.count(f"{type_}?{name}:missing={word}") for word in ("true", "false")]
        yield Equal(f"{name} is missing or not", sum(parts), client.count(type_))


def compartments(client: Client) -> Iterator[Equal]:
    for id_ in client.found("Patient?")[:5]:
        inside = set(client.found(f"Patient/{id_}/Observation?"))
        by_subject = set(client.found(f"Observation?subject=Patient/{id_}"))
        yield Equal("a compartment is the search by patient", inside, by_subject)
        chained = set(client.found(f"Observation?subject:Patient._id={id_}"))
        yield Equal("a chain on _id is the reference", chained, inside)


def joins(client: Client) -> Iterator[Equal]:
    """What a chain finds from one side, ``_has`` and an include find from the other."""
    observations = f"Observation?subject:Patient.gender=female&code={client.matter.codes[0]}"
    patients = f"Patient?gender=female&_has:Observation:subject:code={client.matter.codes[0]}"
    forward, women = set(client.found(observations)), set(client.found(patients))
    back = client.server.get(f"{patients}&_count=200&_revinclude=Observation:subject").json()
    included = ids(back, "include")
    while (further := link(back, "next")) is not None:
        back = client.server.get(further).json()
        included += ids(back, "include")
    yield Equal("each is included once", len(set(included)), len(included))
    yield Equal("what a chain finds is included", forward & set(included), forward)
    subjects = {
        entry["resource"]["subject"]["reference"].partition("/")[2]
        for page in walk(client.server, f"{observations}&_count=200")
        for entry in page.get("entry", ())
    }
    yield Equal("_has finds the subjects", women, subjects)


Law = Callable[[Client], Iterator[Equal]]
LAWS: tuple[Law, ...] = (
    months, pages, totals, alternatives, complements, compartments, joins,
)  # fmt: skip


def spoilt(value: object) -> object:
    match value:
        case int():
            return value + 1
        case set():
            return value ^ {"nobody"}
        case list():
            return [*value, "nobody"]
    raise TypeError(value)


DEMO = Matter()


def broken(
    law: Law, server: Server, flip: bool = False, matter: Matter = DEMO
) -> tuple[list[str], int]:
    """(what does not hold, how much was compared)."""
    compared = list(law(Client(server, matter)))
    seen = [one._replace(one=spoilt(one.one)) for one in compared] if flip else compared
    return [one.what for one in seen if one.one != one.other or not one.other], len(compared)


@pytest.mark.parametrize("law", LAWS)
def test_a_law_holds(demo: Server, law: Law) -> None:
    wrong, compared = broken(law, demo)
    assert not wrong and compared, wrong


@pytest.mark.parametrize("law", LAWS)
def test_a_law_can_break(demo: Server, law: Law) -> None:
    wrong, compared = broken(law, demo, flip=True)
    assert len(wrong) == compared > 0
