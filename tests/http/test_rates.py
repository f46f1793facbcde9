"""T20: users and clients may ask so often; T19: whose word about addresses counts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from fhir_server.auth.rate_table import RateTable
from fhir_server.auth.rates import Allowances, Rates, is_delicate
from fhir_server.http.middleware import client_of
from fhir_server.model.problem import TooManyRequests
from tests.serving import Json, Server, issue, served

CONSENT: Json = {"resourceType": "Consent"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def spent(rates: Rates, user: str, times: int) -> int:
    """How many of so many requests pass."""
    passed = 0
    for _ in range(times):
        try:
            rates.spend(user, "app")
        except TooManyRequests:
            continue
        passed += 1
    return passed


def test_a_burst_passes_and_then_the_rate() -> None:
    clock = Clock()
    rates = Rates(Allowances(user=60, client=0, delicate=0), clock)
    assert spent(rates, "ann", 100) == 60
    with pytest.raises(TooManyRequests) as refused:
        rates.spend("ann", "app")
    assert refused.value.headers["Retry-After"] == "1"
    clock.now += 10
    assert spent(rates, "ann", 100) == 10
    assert spent(rates, "bob", 60) == 60
    clock.now += 3600
    assert spent(rates, "ann", 100) == 60


def test_who_waits_as_told_gets_through() -> None:
    clock = Clock()
    rates = Rates(Allowances(user=7, client=0, delicate=0), clock)
    for _ in range(50):
        try:
            rates.spend("ann", "")
        except TooManyRequests as refused:
            clock.now += int(refused.headers["Retry-After"])
            rates.spend("ann", "")
    assert clock.now >= 1000 + 60 * 42 / 7


def test_a_cost_above_the_allowance_can_be_paid() -> None:
    clock = Clock()
    rates = Rates(Allowances(user=10, client=0, delicate=0), clock)
    rates.spend("ann", "", 1000)
    with pytest.raises(TooManyRequests):
        rates.spend("ann", "")


def test_zero_is_no_limit() -> None:
    clock = Clock()
    assert spent(Rates(Allowances(0, 0, 0), clock), "ann", 10_000) == 10_000


def test_who_has_all_of_it_gives_place() -> None:
    """More names than the table has places, and none of them is refused, or forgotten in use."""
    clock = Clock()
    rates = Rates(Allowances(user=60, client=0, delicate=0), clock)
    assert spent(rates, "ann", 60) == 60
    for n in range(30_000):
        rates.spend(f"user{n}", "")
        clock.now += 0.0001
    assert spent(rates, "ann", 60) == 3


def test_processes_count_together(tmp_path: Path) -> None:
    """Two that take turns, a third that comes later, and several that do not wait."""
    clock, path = Clock(), tmp_path / "rates"
    two = [Rates(Allowances(60, 0, 0), clock, RateTable(path)) for _ in range(2)]
    assert sum(spent(two[n % 2], "ann", 1) for n in range(100)) == 60
    third = Rates(Allowances(60, 0, 0), clock, RateTable(path))
    assert spent(third, "ann", 10) == 0 and spent(third, "bob", 60) == 60
    clock.now = 5.0  # the machine was started anew
    assert spent(third, "ann", 100) == 60


def test_a_large_allowance_is_kept_although_it_is_taken_ahead(tmp_path: Path) -> None:
    """In one process to the request; in several no more than what each may hold comes on top."""
    clock, path = Clock(), tmp_path / "rates"
    assert spent(Rates(Allowances(6000, 0, 0), clock), "ann", 7000) == 6000
    two = [Rates(Allowances(6000, 0, 0), clock, RateTable(path)) for _ in range(2)]
    assert sum(spent(two[n % 2], "ann", 1) for n in range(7000)) == 6000
    clock.now += 60
    assert sum(spent(two[n % 2], "ann", 1) for n in range(7000)) == 6000
    clock.now += 60
    assert spent(two[0], "ann", 1) == 1
    clock.now += 60
    assert 6000 <= sum(spent(two[n % 2], "ann", 1) for n in range(8000)) <= 6000 + 2 * 6000 // 64


ADDS = """
import sys
from pathlib import Path
from fhir_server.auth.rate_table import RateTable
table = RateTable(Path(sys.argv[1]))
for _ in range(20_000):
    with table:
        table.put("eve", table.get("eve") + 1)
"""


def test_nothing_is_lost_between_processes(tmp_path: Path) -> None:
    path = tmp_path / "rates"
    table = RateTable(path)
    running = [subprocess.Popen([sys.executable, "-c", ADDS, str(path)]) for _ in range(2)]
    assert [one.wait() for one in running] == [0, 0]
    assert table.get("eve") == 40_000 and table.get("ann") == 0


@pytest.mark.parametrize(
    ("method", "path", "delicate"),
    [
        ("POST", b"/fhir/Consent", True),
        ("PUT", b"/fhir/Consent/1", True),
        ("DELETE", b"/fhir/Consent/1", True),
        ("GET", b"/fhir/Consent/1", False),
        ("POST", b"/fhir/Consent/_search", False),
        ("GET", b"/fhir/Group/1/$export", True),
        ("POST", b"/fhir/Observation", False),
        ("POST", b"/fhir/%43onsent", True),
        ("POST", b"/fhir/Patient/a/$consent", True),
        ("POST", b"/fhir/Patient/a/%24consent", True),
        ("POST", b"/fhir/Patient/a/$consent-preview", False),
        ("GET", b"/fhir/Patient/a/$consent-history", False),
        ("GET", b"/fhir/%24export", True),
        ("POST", b"/fhir/$viewdefinition-export", True),
        ("POST", b"/fhir/Consent/%5fsearch", False),
    ],
)
def test_what_is_delicate(method: str, path: bytes, delicate: bool) -> None:
    assert is_delicate(method, path) is delicate


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Server]:
    rates = {"user_rate": 20, "client_rate": 30, "delicate_rate": 3}
    with served("memory", tmp_path, open_=False, **rates) as server:
        system = server.bearer("system/*.cruds", client="")
        for id_ in ("a", "b"):
            server.put(f"Patient/{id_}", {"resourceType": "Patient", "id": id_}, headers=system)
        for name in ("ann", "bob"):
            server.user(name, "family-doctor", "Practitioner/d")
            server.relation(name, "a")
        yield server


def test_t20_a_user_and_a_client_have_limits(limited: Server) -> None:
    ann = limited.bearer("user/*.rs", user="ann", client="app")
    bob = limited.bearer("user/*.rs", user="bob", client="app")
    answers = [limited.get("Patient/a", headers=ann) for _ in range(22)]
    assert [a.status_code for a in answers] == [200] * 20 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert issue(answers[-1])["code"] == "throttled"
    found = [limited.get("Patient/a", headers=bob).status_code for _ in range(12)]
    assert found == [200] * 10 + [429] * 2, "the client of both has an allowance too"
    other = limited.bearer("user/*.rs", user="bob", client="other")
    assert limited.get("Patient/a", headers=other).status_code == 200


def test_t20_entries_of_bundles_count(limited: Server) -> None:
    ann = limited.bearer("user/*.rs", user="ann", client="app")
    entry = {"request": {"method": "GET", "url": "Patient/a"}}
    batch = {"resourceType": "Bundle", "type": "batch", "entry": [entry] * 18}
    assert limited.post("", batch, headers=ann).status_code == 200
    assert limited.post("", batch, headers=ann).status_code == 429


def test_t20_delicate_acts_have_a_limit_of_their_own(limited: Server) -> None:
    ann = limited.bearer("user/*.cruds", user="ann", client="app")
    found = [limited.post("Consent", CONSENT, headers=ann).status_code for _ in range(5)]
    assert found == [403, 403, 403, 429, 429]
    broken = {**ann, "x-break-glass-reason": "emergency", "x-purpose-of-use": "BTG"}
    assert limited.get("Patient/b", headers=broken).status_code == 429
    ledger = limited.domain.store.ledger
    assert not limited.run(ledger.scan("break-glass")), "nobody is told of what was not done"
    assert limited.get("Patient/a", headers=ann).status_code == 200
    entry = {"resource": CONSENT, "request": {"method": "POST", "url": "Consent"}}
    batch = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}
    assert limited.post("", batch, headers=ann).status_code == 429


def test_t20_an_open_server_and_services_without_a_user_are_not_slowed(limited: Server) -> None:
    system = limited.bearer("system/*.cruds", client="loader")
    found = {limited.post("Consent", CONSENT, headers=system).status_code for _ in range(6)}
    assert 429 not in found


PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.9", "198.51.100.1", "192.0.2.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.7, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.7, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.7, nonsense", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7, 198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
        ("10.0.0.1", "[2001:db8::1]", "2001:db8::1"),
        ("10.0.0.1", "198.51.100.1:x", "10.0.0.1"),
        ("fd00::1", "2001:db8::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3", "10.0.0.3"),
    ],
)
def test_t19_only_proxies_are_believed(peer: str, forwarded: str, client: str) -> None:
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    assert client_of((peer, 1), headers, PROXIES)[0] == client
