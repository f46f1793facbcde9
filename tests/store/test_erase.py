"""One contract for every store: what is erased leaves nothing behind."""

from __future__ import annotations

import pytest

from fhir_server.model.resource import Key
from fhir_server.search import plan
from fhir_server.search.plan import History, Scan, Search
from fhir_server.search.values import TokenValue
from fhir_server.store.base import Erasure, Stale
from fhir_server.store.ledger import LedgerWrite
from tests.store.building import Bench, key, names, to, values, walk
from tests.store.erasing import erased, named
from tests.store.test_apply import feed


def history(bench: Bench, *where: str, **more: object) -> list[tuple[str, int]]:
    found = bench.do(bench.store.versions(History(*where, **more)))  # type: ignore[arg-type]
    return [(str(s.key), s.version) for s in found.entries]


def test_a_whole_resource_leaves_nothing(backend: Bench) -> None:
    backend.put("Patient/p", *named("Old"), patients=("p",))
    backend.put("Patient/p", *named("New"), TokenValue("identifier", "s", "1"), patients=("p",))
    backend.put("Patient/q", *named("New"), patients=("q",))
    backend.put("Observation/o", to("subject", "Patient/p"), patients=("p",))
    assert erased(backend, ("Patient/p", 2, None)) == (2,)
    assert backend.do(backend.store.current([key("Patient/p")])) == [None]
    for version in (1, 2):
        assert backend.do(backend.store.version(key("Patient/p"), version)) is None
    assert history(backend, "Patient", "p") == []
    assert history(backend) == [("Observation/o", 1), ("Patient/q", 1)]
    assert names(feed(backend)) == ["Patient/q", "Observation/o"]
    assert backend.do(backend.store.counts()) == {"Patient": 1, "Observation": 1}
    for where in (
        plan.TRUE,
        plan.StringIs("name", "new"),
        plan.Not(plan.TokenIs("identifier", None, "1")),
        plan.InPatient(("p", "q")),
        plan.IdIn(("p", "q")),
    ):
        assert backend.found(Search((Scan("Patient", where),))) == ["Patient/q"], where
    for where in (plan.TokenIs("identifier", "s", "1"), plan.StringIs("name", "old")):
        assert backend.found(Search((Scan("Patient", where),))) == []
    chain = plan.Chain("subject", (Scan("Patient"),))
    assert backend.found(Search((Scan("Observation", chain),))) == []
    assert backend.found(
        Search((Scan("Observation", plan.ReferenceIs("subject", "Patient", "p")),))
    ) == ["Observation/o"]
    counted = backend.page(Search((Scan("Patient"),), count=0, total="exact"))
    assert counted.total == 1


def test_a_deleted_resource(backend: Bench) -> None:
    backend.put("Patient/p")
    backend.delete("Patient/p")
    assert erased(backend, ("Patient/p", 2, None)) == (2,)
    assert history(backend) == [] and backend.do(backend.store.counts()) == {}
    assert backend.do(backend.store.current([key("Patient/p")])) == [None]


def test_an_erased_id_begins_anew_and_positions_go_on(backend: Bench) -> None:
    backend.put("Patient/q")
    last = backend.put("Patient/p", *named("Canary"))
    erased(backend, ("Patient/p", 1, None))
    assert backend.do(backend.store.position()) == last
    assert names(feed(backend, last)) == []
    seq = backend.apply(backend.change("Patient/p", values(*named("Other")), expect=0))
    assert seq == (last + 1,)
    (now,) = backend.do(backend.store.current([key("Patient/p")]))
    assert now is not None and now.version == 1
    assert history(backend, "Patient", "p") == [("Patient/p", 1)]
    assert backend.found(Search((Scan("Patient", plan.StringIs("name", "canary")),))) == []
    assert backend.found(Search((Scan("Patient"),))) == ["Patient/p", "Patient/q"]


def test_old_versions(backend: Bench) -> None:
    times = []
    for _ in range(4):
        backend.put("Patient/p", *named("Same"))
        (now,) = backend.do(backend.store.current([key("Patient/p")]))
        assert now is not None
        times.append(now.updated)
    assert erased(backend, ("Patient/p", 4, (1, 3, 9))) == (2,)
    assert history(backend, "Patient", "p") == [("Patient/p", 4), ("Patient/p", 2)]
    page = backend.do(backend.store.versions(History("Patient", "p")))
    assert page.total == 2
    assert backend.do(backend.store.version(key("Patient/p"), 3)) is None
    assert backend.found(Search((Scan("Patient", plan.StringIs("name", "same")),))) == ["Patient/p"]
    # A version that stays counts as current until the next one that stays.
    third = (times[2], times[2] + 1)
    assert history(backend, "Patient", "p", at=third) == [("Patient/p", 2)]
    assert history(backend, "Patient", at=third) == [("Patient/p", 2)]
    assert history(backend, "Patient", "p", at=(times[0], times[0] + 1)) == []
    assert erased(backend, ("Patient/p", 4, None)) == (2,)
    assert history(backend) == []


def test_the_versions_before_a_deletion(backend: Bench) -> None:
    backend.put("Patient/p")
    backend.put("Patient/p")
    backend.delete("Patient/p")
    assert erased(backend, ("Patient/p", 3, (1, 2))) == (2,)
    (now,) = backend.do(backend.store.current([key("Patient/p")]))
    assert now is not None and now.deleted and now.version == 3
    assert history(backend) == [("Patient/p", 3)]


def test_what_moved_is_stale_and_nothing_goes(backend: Bench) -> None:
    backend.put("Patient/p")
    backend.put("Patient/q")
    backend.put("Patient/q")
    with pytest.raises(Stale) as stale:
        erased(backend, ("Patient/p", 1, None), ("Patient/q", 1, None), ("Patient/r", 1, None))
    assert stale.value.keys == (key("Patient/q"), key("Patient/r"))
    assert len(feed(backend)) == 3
    assert erased(backend, ("Patient/r", 0, None), ("Patient/p", 1, None)) == (0, 1)
    assert names(feed(backend)) == ["Patient/q", "Patient/q"]
    with pytest.raises(ValueError, match="current"):
        Erasure(key("Patient/q"), 2, (2,))


def test_the_ledger_is_part_of_it(backend: Bench) -> None:
    backend.put("Patient/p")
    ledger = backend.store.ledger
    backend.do(ledger.insert_unique("blob", "Patient/p/1", {"sha256": "x"}))
    refused = (LedgerWrite("blob", "Patient/p/1", None, expect=7),)
    with pytest.raises(Stale):
        erased(backend, ("Patient/p", 1, None), ledger=refused)
    assert len(feed(backend)) == 1
    rows = (LedgerWrite("blob", "Patient/p/1", None), LedgerWrite("erased", "1", {"id": "p"}))
    erased(backend, ("Patient/p", 1, None), ledger=rows)
    assert backend.do(ledger.get("blob", "Patient/p/1")) is None
    found = backend.do(ledger.get("erased", "1"))
    assert found is not None and found.value == {"id": "p"}


def test_pages_and_runs_as_of_a_point_go_on(backend: Bench) -> None:
    for number in range(12):
        backend.put(f"Patient/p{number}", date=number % 3)
    whole = Search((Scan("Patient"),), count=2, total="none", as_of=None)
    everybody, _ = walk(backend, whole)
    first = backend.page(whole)
    at = backend.do(backend.store.position())
    frozen = Search((Scan("Patient"),), count=5, total="none", as_of=at)
    before = backend.page(frozen)
    backend.put("Patient/p0")
    backend.delete("Patient/p1")
    gone = {"Patient/p1", "Patient/p7", str(first.matches[-1].key)}
    for name in gone:
        (now,) = backend.do(backend.store.current([key(name)]))
        assert now is not None
        erased(backend, (name, now.version, None))
    rest, _ = walk(backend, Search((Scan("Patient"),), count=2, after=first.next, total="none"))
    seen = [*names(first.matches), *rest]
    assert len(seen) == len(set(seen)) and set(everybody) - set(seen) <= gone
    after, _ = walk(
        backend, Search((Scan("Patient"),), count=5, after=before.next, total="none", as_of=at)
    )
    assert set(names(before.matches)) | set(after) | gone == set(everybody)
    paged = backend.do(backend.store.versions(History("Patient", count=4)))
    more = backend.do(backend.store.versions(History("Patient", count=50, before=paged.next)))
    assert [s.seq for s in (*paged.entries, *more.entries)] == sorted(
        (s.seq for s in feed(backend)), reverse=True
    )


def test_where_a_patient_was_formerly(backend: Bench) -> None:
    backend.put("Observation/moved", patients=("a",))
    backend.put("Observation/moved", patients=("b",))
    backend.put("Observation/gone", patients=("a",))
    backend.delete("Observation/gone")
    backend.put("Observation/still", patients=("a",))
    backend.put("Observation/still", patients=("a",))
    backend.put("Observation/ab", *named("a"), patients=("ab",))
    backend.put("Observation/ab", patients=("ab",))
    assert backend.do(backend.store.formerly("a")) == {
        Key("Observation", "moved"): (1,),
        Key("Observation", "gone"): (1,),
        Key("Observation", "still"): (1,),
    }
    assert backend.do(backend.store.formerly("nobody")) == {}


def test_scrub(backend: Bench) -> None:
    backend.put("Patient/p", *named("Same"))
    assert backend.do(backend.store.scrub())
    assert backend.found(Search((Scan("Patient", plan.StringIs("name", "same")),))) == ["Patient/p"]
