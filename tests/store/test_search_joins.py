"""Every store follows references: chains, _has, includes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fhir_server.model.problem import BadRequest
from fhir_server.search import plan
from fhir_server.search.plan import Scan, Search, SortKey
from fhir_server.search.values import (
    StringValue,
    TokenValue,
)
from tests.store.building import Bench, names, to
from tests.store.scanning import scan


@pytest.fixture
def ward(backend: Bench) -> Bench:
    backend.put("Practitioner/d", StringValue("name", "Dr. House"))
    backend.put("Patient/p", StringValue("family", "Петренко"), to("gp", "Practitioner/d"))
    backend.put("Patient/q", StringValue("family", "Quist"))
    backend.put("Patient/gone", StringValue("family", "Gone"))
    for n, patient in enumerate(["p", "p", "q", "gone", "nobody"]):
        backend.put(
            f"Observation/{n}",
            to("subject", f"Patient/{patient}"),
            TokenValue("code", "", str(n % 2)),
            date=n,
            patients=(patient,),
        )
    backend.delete("Patient/gone")
    return backend


def test_chains(ward: Bench) -> None:
    by_name = plan.Chain("subject", (Scan("Patient", plan.StringIs("family", "петр")),))
    assert ward.found(scan(by_name)) == ["Observation/1", "Observation/0"]
    assert ward.found(scan(plan.Chain("subject", (Scan("Patient"),)))) == [
        "Observation/2",
        "Observation/1",
        "Observation/0",
    ]
    assert ward.found(scan(plan.Chain("subject", (Scan("Group"),)))) == []
    gp = plan.Chain("gp", (Scan("Practitioner", plan.StringIs("name", "dr")),))
    two = plan.Chain("subject", (Scan("Group"), Scan("Patient", gp)))
    assert ward.found(scan(two)) == ["Observation/1", "Observation/0"]
    assert ward.found(scan(plan.Not(two))) == [f"Observation/{n}" for n in (4, 3, 2)]


def test_has(ward: Bench) -> None:
    zero = Scan("Observation", plan.TokenIs("code", None, "0"))
    assert ward.found(scan(plan.Has(zero, "subject"), "Patient")) == ["Patient/q", "Patient/p"]
    one = Scan("Observation", plan.TokenIs("code", None, "1"))
    both = plan.All((plan.Has(zero, "subject"), plan.Has(one, "subject")))
    assert ward.found(scan(both, "Patient")) == ["Patient/p"]
    nested = plan.Has(Scan("Patient", plan.Has(one, "subject")), "gp")
    assert ward.found(scan(nested, "Practitioner")) == ["Practitioner/d"]
    assert ward.found(scan(plan.Not(plan.Has(zero, "subject")), "Patient")) == []


def test_system_wide(ward: Bench) -> None:
    search = Search((Scan("Patient"), Scan("Practitioner")), (SortKey("_id", "id"),))
    assert names(ward.page(search).matches) == ["Practitioner/d", "Patient/p", "Patient/q"]


def test_includes(ward: Bench) -> None:
    patients = plan.Include(Scan("Observation"), "subject", (Scan("Patient"),))
    gp = plan.Include(Scan("Patient"), "gp", (Scan("Practitioner"),), iterate=True)
    plain = plan.Include(Scan("Patient"), "gp", (Scan("Practitioner"),))
    every = Search((Scan("Observation"),), includes=(patients,))
    assert ward.included(every) == ["Patient/p", "Patient/q"]
    assert ward.included(Search(every.scans, includes=(patients, gp))) == [
        "Patient/p",
        "Patient/q",
        "Practitioner/d",
    ]
    assert ward.included(Search(every.scans, includes=(patients, plain))) == [
        "Patient/p",
        "Patient/q",
    ]
    hidden = plan.Include(Scan("Observation"), "subject", (Scan("Patient", plan.IdIn(("q",))),))
    assert ward.included(Search(every.scans, includes=(hidden,))) == ["Patient/q"]


def test_reverse_includes(ward: Bench) -> None:
    back = plan.Include(Scan("Observation"), "subject", (Scan("Patient"),), reverse=True)
    search = Search((Scan("Patient", plan.IdIn(("p",))),), includes=(back,))
    assert ward.included(search) == ["Observation/0", "Observation/1"]
    only = plan.Include(
        Scan("Observation", plan.TokenIs("code", None, "1")),
        "subject",
        (Scan("Patient"),),
        reverse=True,
    )
    assert ward.included(Search(search.scans, includes=(only,))) == ["Observation/1"]
    other = plan.Include(Scan("Observation"), "subject", (Scan("Group"),), reverse=True)
    assert ward.included(Search(search.scans, includes=(other,))) == []


def test_include_cycles_end_and_matches_are_not_repeated(backend: Bench) -> None:
    for a, b in ("12", "23", "31"):
        backend.put(f"Location/{a}", to("partof", f"Location/{b}"))
    up = plan.Include(Scan("Location"), "partof", (Scan("Location"),), iterate=True)
    search = Search((Scan("Location", plan.IdIn(("1",))),), includes=(up,))
    assert backend.included(search) == ["Location/2", "Location/3"]
    assert backend.included(Search((Scan("Location"),), includes=(up,))) == []


def test_what_one_answer_does_not_hold_is_asked_for(
    backend: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each included resource once, also when matches come and go meanwhile; then the next
    page."""
    monkeypatch.setattr(plan, "INCLUDE_LIMIT", 2)
    for name in "pqr":
        backend.put(f"Patient/{name}", date=0)
    for n in range(7):
        backend.put(f"Observation/{n}", to("subject", "Patient/r" if n % 2 else "Patient/q"))
    back = plan.Include(Scan("Observation"), "subject", (Scan("Patient"),), reverse=True)
    search = Search((Scan("Patient"),), count=2, includes=(back,))
    page = backend.page(search)
    assert names(page.matches) == ["Patient/r", "Patient/q"]
    assert names(page.included) == ["Observation/0", "Observation/1"]
    for n in range(3):
        backend.put(f"Patient/new{n}", date=0)  # before all others
    found = []
    while page.rest is not None:
        page = backend.page(replace(search, rest=page.rest))
        assert names(page.matches) == [] and len(page.included) <= 2
        found += names(page.included)
    assert found == [f"Observation/{n}" for n in range(2, 7)]
    assert page.next is not None
    last = backend.page(replace(search, after=page.next))
    assert names(last.matches) == ["Patient/p"] and last.next is None is last.rest


def test_too_many_includes_are_refused(backend: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "INCLUDE_MOST", 30)
    changes = [backend.change("Patient/p")]
    for n in range(plan.INCLUDE_MOST + 1):
        made = backend.change(f"Observation/{n}")
        assert made.values is not None
        made.values.references.append(to("subject", "Patient/p"))
        changes.append(made)
    backend.apply(*changes)
    back = plan.Include(Scan("Observation"), "subject", (Scan("Patient"),), reverse=True)
    with pytest.raises(BadRequest) as problem:
        backend.page(Search((Scan("Patient"),), includes=(back,)))
    assert problem.value.issues[0].code == "too-costly"
