"""Delegates: a person who acts for a patient, up to a day or a birthday."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fhir_server.auth.relations import Relation, birthday
from fhir_server.model.problem import BadRequest
from tests.auth.test_administration import Admin
from tests.serving import Server
from tests.smart.flow import WORD, App, Browser, approve, bearer, forms, parameters

SCOPE = "launch/patient patient/*.cruds openid fhirUser"
NOTE = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"text": "temperature"},
    "subject": {"reference": "Patient/a"},
}


@pytest.fixture
def family(lasting: Server) -> Server:
    """A mother, who is a RelatedPerson of patient a and acts for it until the 18th birthday."""
    system = lasting.bearer("system/*.cruds")
    mother = {"resourceType": "RelatedPerson", "id": "m", "patient": {"reference": "Patient/a"}}
    lasting.put("RelatedPerson/m", mother, headers=system)
    child = {"resourceType": "Patient", "id": "a", "birthDate": f"{datetime.now(UTC).year - 8}"}
    assert lasting.put("Patient/a", child, headers=system).status_code == 200
    lasting.user("mother", "patient", "RelatedPerson/m", WORD)
    body = {"user": "mother", "patient": "a", "kind": "delegate", "untilAge": 18}
    assert Admin(lasting)("POST", "relations", body).status_code == 201
    return lasting


def test_a_delegate_acts_for_the_patient_alone(family: Server) -> None:
    app, browser = App(family), Browser(family)
    page = browser.sign_in(browser.get(app.authorize(SCOPE)), "mother")
    if 'name="patient"' in page.text:
        assert forms(page)[-1].values("patient") == ["a"]
    answer = approve(browser, page, patient="a")
    tokens = app.redeem(parameters(answer)["code"]).json()
    headers = bearer(tokens)
    assert tokens["patient"] == "a"
    assert family.get("Patient/a", headers=headers).status_code == 200
    assert family.get("Observation/laboratory-a", headers=headers).status_code == 200
    assert family.get("RelatedPerson/m", headers=headers).status_code == 200
    for hidden in ("Patient/b", "Observation/laboratory-b"):
        assert family.get(hidden, headers=headers).status_code == 404
    assert family.post("Observation", NOTE, headers=headers).status_code == 201
    assert family.delete("Observation/laboratory-a", headers=headers).status_code == 403


def test_d10_it_ends_on_the_birthday(family: Server) -> None:
    bearer_ = family.bearer("patient/*.rs", user="mother", patient="a")
    assert family.get("Patient/a", headers=bearer_).status_code == 200
    records = family.domain.identities.records
    year = datetime.now(UTC).year + 10
    last = datetime(year - 1, 12, 31, 23, tzinfo=UTC).timestamp()
    records.now = lambda: last
    assert family.get("Patient/a", headers=bearer_).status_code == 200
    records.now = lambda: last + 7200
    assert family.get("Patient/a", headers=bearer_).status_code == 404


def test_an_earlier_end_holds(family: Server) -> None:
    body = {
        "user": "mother",
        "patient": "a",
        "kind": "delegate",
        "untilAge": 18,
        "end": "2027-01-01T00:00:00Z",
    }
    assert Admin(family)("POST", "relations", body).json()["end"] == "2027-01-01T00:00:00Z"
    unknown = {**body, "patient": "nobody"}
    assert Admin(family)("POST", "relations", unknown).status_code == 400
    found = family.run(family.domain.identities.relations.of("mother"))
    assert [r.kind for r in found] == ["delegate"] and isinstance(found[0], Relation)


@pytest.mark.parametrize(
    ("born", "age", "zone", "day"),
    [
        ("2010-05-17", 18, "UTC", "2028-05-17T00:00:00+00:00"),
        ("2010-05-17", 18, "Europe/Kyiv", "2028-05-16T21:00:00+00:00"),
        ("2008-02-29", 18, "UTC", "2026-03-01T00:00:00+00:00"),
        ("2008-02-29", 16, "UTC", "2024-02-29T00:00:00+00:00"),
        ("2010-05", 18, "UTC", "2028-05-01T00:00:00+00:00"),
        ("2010", 14, "UTC", "2024-01-01T00:00:00+00:00"),
    ],
)
def test_birthdays(born: str, age: int, zone: str, day: str) -> None:
    assert birthday(born, age, zone) == datetime.fromisoformat(day).timestamp()


def test_without_a_birth_date_there_is_no_age() -> None:
    with pytest.raises(BadRequest):
        birthday("", 18, "UTC")
