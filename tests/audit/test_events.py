"""AuditEvents of lines: valid FHIR, and what the profiles of IHE BALP 1.1 ask of each kind."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest

from fhir_server.access.audit.entry import Entry
from fhir_server.access.audit.events import audit_events
from fhir_server.definitions.registry import load
from fhir_server.http.routes import ROUTES
from fhir_server.validation.validate import Validator

BASE = "https://ehr.example/fhir"
CHECK = Validator(load()).check
SECURED = sorted({route.interaction for route in ROUTES if not route.public})


def entry(interaction: str, **more: Any) -> Entry:
    given = {
        "at": 1_700_000_000_000_000,
        "request": "r-1",
        "interaction": interaction,
        "method": "GET",
        "status": 200,
        "url": b"/fhir/Observation?patient=p1&code=a%7Cb",
        "client": "app",
        "user": "ann",
        "role": "nurse",
        "grant": "0" * 32,
        "purpose": "TREAT",
        "peer": "192.0.2.7",
        "patients": ("p1",),
    }
    return Entry(**(given | more))


def codes(event: dict[str, Any], name: str) -> list[str]:
    return [part["type"]["coding"][0]["code"] for part in event[name]]


@pytest.mark.parametrize("interaction", [*SECURED, "unknown"])
@pytest.mark.parametrize("status", [200, 404, 503])
@pytest.mark.parametrize("what", ["", "Observation/1/_history/2"])
def test_every_interaction_is_valid(interaction: str, status: int, what: str) -> None:
    why = "" if status < 400 else "not-found"
    for line in (
        entry(interaction, status=status, what=what, why=why),
        Entry(at=0, request="r", interaction=interaction, method="GET", status=status, what=what),
    ):
        [event] = audit_events(line, BASE)
        CHECK(event)
        assert event["type"]["code"] == "rest"
        assert event["outcome"] == {200: "0", 404: "4", 503: "8"}[status]
        assert sum(agent["requestor"] for agent in event["agent"]) == 1


# action, client, server: the patterns of IHE.BasicAudit.Read, Create, Update, Delete and Query
BALP = {
    "read": ("R", "110152", "110153"),
    "vread": ("R", "110152", "110153"),
    "create": ("C", "110153", "110152"),
    "update": ("U", "110153", "110152"),
    "patch": ("U", "110153", "110152"),
    "delete": ("D", "110150", "custodian"),
    "search-type": ("E", "110153", "110152"),
}


@pytest.mark.parametrize("interaction", BALP)
def test_the_patterns_of_the_profiles(interaction: str) -> None:
    searches = interaction == "search-type"
    [event] = audit_events(entry(interaction, what="" if searches else "Observation/1"), BASE)
    action, client, server = BALP[interaction]
    assert event["action"] == action
    assert codes(event, "agent") == [client, server, "IRCP"]
    assert [coding["code"] for coding in event["subtype"]] == [interaction]
    asking, answering, user = event["agent"]
    assert asking["network"] == {"address": "192.0.2.7", "type": "2"}
    assert answering["network"] == {"address": BASE, "type": "5"}
    assert user["who"] == {"identifier": {"value": "ann"}} and user["requestor"] is True
    assert user["purposeOfUse"][0]["coding"][0]["code"] == "TREAT"
    about, patient, request = event["entity"]
    assert (patient["type"]["code"], patient["role"]["code"]) == ("1", "1")
    assert patient["what"] == {"reference": "Patient/p1"}
    assert request["type"]["code"] == "XrequestId"
    assert request["what"]["identifier"]["value"] == "r-1"
    assert about["type"]["code"] == "2"
    if searches:
        assert about["role"]["code"] == "24" and "what" not in about
        asked = b64decode(about["query"]).decode()
        assert asked == f"GET {BASE}/Observation?patient=p1&code=a%7Cb"
    else:
        assert about["role"]["code"] == "4"
        assert about["what"] == {"reference": "Observation/1"}


def test_each_patient_has_an_event_that_names_no_other() -> None:
    line = entry("search-type", patients=("p1", "p2"), url=b"/fhir/Observation?code=a")
    one, two = audit_events(line, BASE)
    assert "Patient/p1" in str(one) and "Patient/p2" not in str(one)
    assert "Patient/p2" in str(two) and "Patient/p1" not in str(two)


def test_a_form_is_part_of_the_query() -> None:
    line = entry("search-type", method="POST", url=b"/fhir/Observation/_search", form=b"code=a")
    [event] = audit_events(line, BASE)
    asked = b64decode(event["entity"][0]["query"]).decode()
    assert asked == f"POST {BASE}/Observation/_search\n\ncode=a"


def test_a_refusal_says_why() -> None:
    [event] = audit_events(entry("read", status=403, why="forbidden: not permitted"), BASE)
    assert (event["outcome"], event["outcomeDesc"]) == ("4", "403 forbidden: not permitted")
