"""C60, C64: identity within a transaction, and writes on a condition."""

from __future__ import annotations

import pytest

from tests.interactions.transacting import PATIENT, URN, entry, located, observation, post, refused
from tests.serving import Json, Server


@pytest.mark.parametrize(
    "entries",
    [
        [entry("PUT", "Patient/a", PATIENT | {"id": "a"})] * 2,
        [entry("PUT", "Patient/a", PATIENT | {"id": "a"}), entry("DELETE", "Patient/a")],
        [entry("POST", "Patient", PATIENT, ifNoneExist="identifier=1")] * 2,
        [
            entry("POST", "Patient", PATIENT, "urn:uuid:11111111-1111-4111-8111-111111111111"),
            entry("POST", "Patient", PATIENT, "urn:uuid:11111111-1111-4111-8111-111111111111"),
        ],
    ],
)
def test_c60_same_identity_twice(server: Server, entries: list[Json]) -> None:
    status, first = refused(server, *entries)
    assert status == 400 and first["expression"] == ["Bundle.entry[1]"]


NEW = PATIENT | {"identifier": [{"system": "urn:x", "value": "7"}]}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("identifier=urn:x|7", "identifier=7"),
        ("identifier=7", "identifier=urn:x%7C7"),
        ("identifier=7&name=doe", "name=doe&identifier=7"),
        ("identifier=7", "name=doe&identifier=7&_id:not=1"),
        ("name=doe", "family:exact=Doe"),
        ("identifier=7", None),
        (
            "organization.name=x&general-practitioner.name=y",
            "general-practitioner.name=y&organization.name=x",
        ),
    ],
)
def test_c60_same_identity_to_come(server: Server, first: str, second: str | None) -> None:
    """Two spellings of one condition make one resource or none, not two."""
    creates = [entry("POST", "Patient", NEW, ifNoneExist=first)]
    if second is None:
        creates.append(entry("POST", "Patient", NEW))
    else:
        creates.append(entry("POST", "Patient", NEW, ifNoneExist=second))
        updates = entry("PUT", f"Patient?{second}", NEW)
        assert refused(server, creates[0], updates)[0] == 400
    status, found = refused(server, *creates)
    assert status == 400 and found["code"] == "duplicate"
    assert found["expression"][0].startswith("Bundle.entry[")


def test_c60_conditions_that_find_nobody_else(server: Server) -> None:
    other = PATIENT | {"identifier": [{"system": "urn:x", "value": "8"}], "active": True}
    old = server.create(other)
    shown = post(
        server,
        entry("DELETE", f"Patient/{old['id']}"),
        entry("POST", "Patient", NEW, ifNoneExist="identifier=urn:x|7&name=doe"),
        entry("POST", "Patient", other, ifNoneExist="identifier=urn:x|9"),
        entry("POST", "Patient", PATIENT, ifNoneExist="identifier=urn:x|10"),
        entry("POST", "Patient", PATIENT),
    )
    assert [e["response"]["status"][:3] for e in shown] == ["204", "201", "201", "201", "201"]


def test_c60_same_identity_by_condition(server: Server) -> None:
    known = server.create(PATIENT | {"identifier": [{"value": "7"}]})
    status, _ = refused(
        server,
        entry("POST", "Patient", PATIENT, ifNoneExist="identifier=7"),
        entry("PUT", f"Patient/{known['id']}", known),
    )
    assert status == 400


def test_c64_conditional_create_of_what_exists(server: Server) -> None:
    known = server.create(PATIENT | {"identifier": [{"value": "1"}]})
    shown = post(
        server,
        entry("POST", "Patient", PATIENT, URN, ifNoneExist="identifier=1"),
        entry("POST", "Observation", observation(URN)),
    )
    assert shown[0]["response"]["status"] == "200 OK"
    assert shown[0]["response"]["location"] == f"Patient/{known['id']}/_history/1"
    assert located(server, shown[1])["subject"]["reference"] == f"Patient/{known['id']}"
    server.create(PATIENT | {"identifier": [{"value": "1"}]})
    status, _ = refused(server, entry("POST", "Patient", PATIENT, ifNoneExist="identifier=1"))
    assert status == 412


def identified(value: str, **members: object) -> Json:
    return PATIENT | {"identifier": [{"system": "urn:x", "value": value}]} | members


def test_conditional_writes_in_a_transaction(server: Server) -> None:
    kept, gone = (server.create(identified(value))["id"] for value in ("kept", "gone"))
    observation_ = observation("urn:uuid:22222222-2222-4222-8222-222222222222")
    shown = post(
        server,
        entry(
            "PUT",
            "Patient?identifier=urn:x|kept",
            identified("kept", active=True),
            "urn:uuid:22222222-2222-4222-8222-222222222222",
        ),
        entry("PUT", "Patient?identifier=urn:x|new", identified("new")),
        entry("DELETE", "Patient?identifier=urn:x|gone"),
        entry("DELETE", "Patient?identifier=urn:x|nothing"),
        entry("POST", "Observation", observation_),
    )
    status = [one["response"]["status"][:3] for one in shown]
    assert status == ["200", "201", "204", "204", "201"]
    assert shown[0]["response"]["location"] == f"Patient/{kept}/_history/2"
    assert server.get(f"Patient/{gone}").status_code == 410
    made = server.get(shown[4]["response"]["location"]).json()
    assert made["subject"]["reference"] == f"Patient/{kept}"


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (entry("PUT", "Patient?identifier=urn:x|1", identified("1")), 412),
        (entry("DELETE", "Patient?identifier=urn:x|1"), 412),
        (entry("PUT", "Patient?identifier=urn:x|2", identified("2", id="other")), 400),
        (entry("PUT", "Patient?unknown=1", identified("1")), 400),
        (entry("DELETE", "Patient"), 400),
        (entry("PATCH", "Patient?identifier=urn:x|none", PATIENT), 404),
        (entry("PATCH", "Patient?identifier=urn:x|2", PATIENT), 400),
    ],
)
def test_conditional_writes_that_fail(server: Server, bad: Json, status: int) -> None:
    for value in ("1", "1", "2"):
        server.create(identified(value))
    before = server.get("Patient").json()["total"]
    found, first = refused(server, entry("POST", "Patient", PATIENT), bad)
    assert found == status, first
    assert server.get("Patient").json()["total"] == before


def test_c60_same_identity_by_two_conditions(server: Server) -> None:
    id_ = server.create(identified("1") | {"birthDate": "2000-01-01"})["id"]
    first = entry("PUT", "Patient?identifier=urn:x|1", identified("1"))
    for other in (
        entry("DELETE", f"Patient/{id_}"),
        entry("DELETE", "Patient?birthdate=2000-01-01"),
        first,
    ):
        found, _ = refused(server, first, other)
        assert found == 400
