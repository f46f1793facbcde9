"""One contract for every store: changes, guards, history, the feed and the ledger."""

from __future__ import annotations

import asyncio

import pytest

from fhir_server.model.resource import Key, Stored
from fhir_server.search import plan
from fhir_server.search.plan import History, Scan
from fhir_server.search.values import TokenValue
from fhir_server.store.base import ChangeSet, Guard, Stale
from fhir_server.store.ledger import LedgerWrite
from tests.store.building import Bench, names, prepared_change, values
from tests.store.conftest import Clock


def feed(bench: Bench, since: int = 0) -> list[Stored]:
    async def read() -> list[Stored]:
        return [s async for s in bench.store.changes(since)]

    return bench.do(read())


def test_versions_are_kept(backend: Bench) -> None:
    backend.put("Patient/p")
    backend.put("Patient/p")
    backend.delete("Patient/p")
    (newest, never) = backend.do(backend.store.current([Key("Patient", "p"), Key("Patient", "q")]))
    assert newest is not None and newest.deleted and newest.version == 3 and never is None
    for number in (1, 2):
        old = backend.do(backend.store.version(Key("Patient", "p"), number))
        assert old is not None and old.body.endswith(b'"n":%d}' % number)
    gone = backend.do(backend.store.version(Key("Patient", "p"), 3))
    assert gone is not None and gone.deleted and gone.body == b""
    assert backend.do(backend.store.version(Key("Patient", "p"), 4)) is None
    assert backend.do(backend.store.version(Key("Patient", "q"), 1)) is None


def test_history(backend: Bench) -> None:
    for name in ("Patient/p", "Patient/q", "Patient/p", "Group/g"):
        backend.put(name)
    backend.delete("Patient/q")

    def versions(history: History) -> list[tuple[str, int]]:
        found = backend.do(backend.store.versions(history)).entries
        return [(str(s.key), s.version) for s in found]

    everything = versions(History())
    assert everything == [
        ("Patient/q", 2),
        ("Group/g", 1),
        ("Patient/p", 2),
        ("Patient/q", 1),
        ("Patient/p", 1),
    ]
    assert versions(History("Patient")) == [v for v in everything if v[0] != "Group/g"]
    of_p = backend.do(backend.store.versions(History("Patient", "p")))
    assert [s.version for s in of_p.entries] == [2, 1] and of_p.total == 2
    alone = backend.do(backend.store.versions(History("Patient", count=0)))
    assert (list(alone.entries), alone.next) == ([], None)
    assert alone.total == backend.do(backend.store.versions(History("Patient"))).total
    first = backend.do(backend.store.versions(History("Patient", count=2)))
    second = backend.do(backend.store.versions(History("Patient", count=2, before=first.next)))
    assert [s.version for s in (*first.entries, *second.entries)] == [2, 2, 1, 1]
    assert second.next is None
    since = of_p.entries[0].updated
    assert versions(History(since=since)) == everything[:3]
    assert versions(History("Patient", "nobody")) == []


def test_feed_position_and_counts(backend: Bench) -> None:
    seqs = backend.apply(backend.change("Patient/p"), backend.change("Group/g"))
    backend.put("Patient/p")
    backend.delete("Group/g")
    assert [(str(s.key), s.version, s.method) for s in feed(backend)] == [
        ("Patient/p", 1, "PUT"),
        ("Group/g", 1, "PUT"),
        ("Patient/p", 2, "PUT"),
        ("Group/g", 2, "DELETE"),
    ]
    assert [s.seq for s in feed(backend)][:2] == list(seqs)
    assert names(feed(backend, seqs[1])) == ["Patient/p", "Group/g"]
    assert backend.do(backend.store.position()) == feed(backend)[-1].seq
    assert backend.do(backend.store.counts()) == {"Patient": 1}


def test_a_moved_version_is_stale_and_changes_nothing(backend: Bench) -> None:
    backend.put("Patient/p")
    wrong = backend.change("Patient/p", expect=0)
    with pytest.raises(Stale) as stale:
        backend.apply(backend.change("Patient/new"), wrong)
    assert stale.value.keys == (Key("Patient", "p"),)
    with pytest.raises(Stale):
        backend.apply(backend.change("Patient/q", expect=4))
    assert backend.found(plan.Search((Scan("Patient"),))) == ["Patient/p"]
    assert len(feed(backend)) == 1 and backend.do(backend.store.counts()) == {"Patient": 1}


def test_guards(backend: Bench) -> None:
    scan = Scan("Patient", plan.TokenIs("identifier", None, "1"))
    first = backend.change("Patient/p", values(TokenValue("identifier", "", "1")))
    backend.apply(first, guards=(Guard(scan, ()),))
    again = backend.change("Patient/q", values(TokenValue("identifier", "", "1")))
    with pytest.raises(Stale) as stale:
        backend.apply(again, guards=(Guard(scan, ()),))
    assert stale.value.keys == ()
    backend.apply(backend.change("Patient/r", values()), guards=(Guard(scan, ("p",)),))
    assert backend.found(plan.Search((Scan("Patient"),))) == ["Patient/r", "Patient/p"]


def test_conditional_create_in_a_crowd_makes_one(backend: Bench) -> None:
    scan = Scan("Patient", plan.TokenIs("identifier", None, "1"))
    made = [
        backend.change(f"Patient/{n}", values(TokenValue("identifier", "", "1"))) for n in range(20)
    ]

    async def crowd() -> list[object]:
        sets = [ChangeSet((c,), (Guard(scan, ()),)) for c in made]
        return await asyncio.gather(*(backend.store.apply(s) for s in sets), return_exceptions=True)

    results = backend.do(crowd())
    assert sum(isinstance(r, Stale) for r in results) == 19
    assert len(backend.found(plan.Search((Scan("Patient"),)))) == 1


def test_concurrent_sets_all_commit(backend: Bench) -> None:
    made = [backend.change(f"Patient/{n}") for n in range(50)]

    async def crowd() -> list[int]:
        done = await asyncio.gather(*(backend.store.apply(ChangeSet((c,))) for c in made))
        return [d.seqs[0] for d in done]

    assert sorted(backend.do(crowd())) == list(range(1, 51))


def test_one_set_may_hold_two_versions_of_a_resource(backend: Bench) -> None:
    token = values(TokenValue("code", "", "x"))
    backend.apply(backend.change("Patient/p", token), backend.change("Patient/p", expect=1))
    assert backend.found(plan.Search((Scan("Patient", plan.TokenIs("code", None, "x")),))) == []
    assert backend.do(backend.store.counts()) == {"Patient": 1}


def test_ledger_rows(backend: Bench, clock: Clock) -> None:
    ledger, do = backend.store.ledger, backend.do
    assert do(ledger.insert_unique("code", "a", {"n": 1}, clock.now + 10))
    assert not do(ledger.insert_unique("code", "a", {"n": 2}))
    row = do(ledger.get("code", "a"))
    assert row is not None and row.value == {"n": 1} and row.revision == 1
    assert row.expires == clock.now + 10
    assert do(ledger.cas("code", "a", {"n": 3}, 1, clock.now + 10))
    assert not do(ledger.cas("code", "a", {"n": 4}, 1))
    row = do(ledger.get("code", "a"))
    assert row is not None and (row.value, row.revision) == ({"n": 3}, 2)
    do(ledger.insert_unique("code", "b_", {"s": "ї"}))
    do(ledger.insert_unique("code", "bc", {}))
    do(ledger.insert_unique("other", "bd", {}))
    wanted = (("other", "bd"), ("code", "none"), ("code", "a"), ("other", "a"))
    many = do(ledger.get_many(wanted))
    assert many == [do(ledger.get(*place)) for place in wanted]
    assert [r and r.key for r in many] == ["bd", None, "a", None]
    assert [r.key for r in do(ledger.scan("code"))] == ["a", "b_", "bc"]
    assert [r.key for r in do(ledger.scan("code", "b_"))] == ["b_"]
    clock.now += 11
    assert do(ledger.get("code", "a")) is None
    assert do(ledger.get_many([("code", "a"), ("code", "a")])) == [None, None]
    assert [r.key for r in do(ledger.scan("code"))] == ["b_", "bc"]
    assert not do(ledger.cas("code", "a", {"n": 5}, 2))
    assert do(ledger.insert_unique("code", "a", {"n": 6}, clock.now + 1))
    clock.now += 2
    assert do(ledger.expire()) == 1 and do(ledger.expire()) == 0
    assert do(ledger.cas("code", "bc", None, 1)) and do(ledger.get("code", "bc")) is None


def test_ledger_writes_are_part_of_a_set(backend: Bench) -> None:
    add = LedgerWrite("audit", "1", {"a": 1}, expect=0)
    backend.apply(backend.change("Patient/p"), ledger=(add,))
    with pytest.raises(Stale):
        backend.apply(backend.change("Patient/q"), ledger=(add,))
    assert backend.do(backend.store.counts()) == {"Patient": 1}
    with pytest.raises(Stale):
        two = LedgerWrite("audit", "2", {})
        backend.apply(backend.change("Patient/p", expect=7), ledger=(two,))
    assert backend.do(backend.store.ledger.get("audit", "2")) is None
    backend.apply(ledger=(LedgerWrite("audit", "1", {"a": 2}), LedgerWrite("audit", "3", {})))
    row = backend.do(backend.store.ledger.get("audit", "1"))
    assert row is not None and (row.value, row.revision) == ({"a": 2}, 2)
    backend.apply(ledger=(LedgerWrite("audit", "1", None, expect=2),))
    assert backend.do(backend.store.ledger.get("audit", "1")) is None


def test_a_fresh_row_that_is_there_after_all_is_noticed(backend: Bench) -> None:
    """Whatever a store trusts in, it does as if it had looked, and others do not suffer."""

    def fresh(n: int) -> LedgerWrite:
        return LedgerWrite("audit", "1", {"n": n}, fresh=b'{"n":%d}' % n)

    def row() -> object:
        found = backend.do(backend.store.ledger.get("audit", "1"))
        return found and (found.value, found.revision)

    assert row() is None
    backend.apply(backend.change("Patient/p"), ledger=(fresh(1),))
    assert row() == ({"n": 1}, 1)

    async def together() -> None:
        sets = [ChangeSet((backend.change(f"Patient/{n}"),), (), (fresh(n),)) for n in (2, 3)]
        plain = ChangeSet((backend.change("Patient/q"),))
        await asyncio.gather(*map(backend.store.apply, (*sets, plain)))

    backend.do(together())
    assert row() == ({"n": 3}, 3) and backend.do(backend.store.counts()) == {"Patient": 4}
    with pytest.raises(Stale):
        backend.apply(backend.change("Patient/p", expect=7), ledger=(fresh(4),))
    assert row() == ({"n": 3}, 3)


def test_no_update_is_lost(backend: Bench) -> None:
    """Ten clients read, add one and write, again when they are stale."""
    key = Key("Count", "1")

    async def client() -> None:
        for _ in range(5):
            while True:
                (now,) = await backend.store.current([key])
                version = now.version if now else 0
                token = values(TokenValue("n", "", str(version + 1)), date=version)
                change = prepared_change(key, version + 1, token)
                try:
                    await backend.store.apply(ChangeSet((change,)))
                    break
                except Stale:
                    await asyncio.sleep(0)

    async def crowd() -> None:
        await asyncio.gather(*(client() for _ in range(10)))

    backend.do(crowd())
    (found,) = backend.do(backend.store.current([key]))
    assert found is not None and found.version == 50
    assert [s.version for s in feed(backend)] == list(range(1, 51))
    last = plan.TokenIs("n", None, "50")
    assert backend.found(plan.Search((Scan("Count", last),))) == ["Count/1"]
    stale = plan.Any(tuple(plan.TokenIs("n", None, str(n)) for n in range(50)))
    assert backend.found(plan.Search((Scan("Count", stale),))) == []


def test_several_writers_of_one_resource_in_one_group(backend: Bench) -> None:
    """Sets that arrive together see what the sets before them have written."""
    first, second = (prepared_change(Key("A", "1"), n, values(date=n)) for n in (1, 2))
    late = prepared_change(Key("A", "1"), 1, values())

    async def together() -> list[object]:
        sets = (ChangeSet((c,)) for c in (first, second, late))
        return await asyncio.gather(*(backend.store.apply(s) for s in sets), return_exceptions=True)

    results = backend.do(together())
    assert isinstance(results[2], Stale) and not isinstance(results[1], Exception)
    assert [s.version for s in feed(backend)] == [1, 2]
