"""``GET /fhir/AuditEvent``: what was recorded, and what other systems have sent, as one search."""

from __future__ import annotations

import time
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.audit import index, trail
from fhir_server.definitions.registry import load
from fhir_server.model.datatypes import format_instant
from fhir_server.model.fresh import micros
from fhir_server.validation.validate import Validator
from tests.audit.trail import NAME, Clinic, observation, patient
from tests.serving import Json, served

CHECK = Validator(load()).check


@pytest.fixture
def used(clinic: Clinic) -> Clinic:
    """With a day's work: reads, searches, a failure, a denial, two patients, two clients."""
    get, all_ = clinic.server.get, clinic.all
    for _ in range(3):
        get(f"Observation/{clinic.observation}", headers=all_)
    get(f"Observation?patient={clinic.patient}&code=a|b", headers=all_)
    clinic.other = clinic.server.create(patient(), headers=all_)["id"]
    clinic.server.create(observation(clinic.other), headers=all_)
    get("Observation?code:text=weight", headers=all_ | {"x-purpose-of-use": "TREAT"})
    get("Observation/none", headers=all_)
    few = clinic.server.bearer("system/Observation.rs", client="few")
    get(f"Patient/{clinic.patient}", headers=few)
    clinic.auditor = clinic.server.bearer("system/AuditEvent.crs", client="auditor")
    time.sleep(0.002)
    clinic.until = format_instant(micros())
    time.sleep(0.002)
    return clinic


def found(clinic: Clinic, query: str, headers: Json | None = None) -> list[Json]:
    """All pages; each resource is valid and comes once."""
    headers = headers or clinic.auditor
    url, entries = f"AuditEvent?{query}", []
    while url:
        answer = clinic.server.get(url, headers=headers)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        entries += [entry["resource"] for entry in page.get("entry", ())]
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), "")
    for event in entries:
        if event["resourceType"] == "AuditEvent":
            CHECK(event)
    assert len({event["id"] for event in entries}) == len(entries)
    return entries


def count(clinic: Clinic, query: str) -> int:
    """Of what was there before the test began to look."""
    return len(found(clinic, f"{query}&date=lt{clinic.until}"))


def test_it_is_what_was_recorded(used: Clinic) -> None:
    lines = used.lines()
    events = found(used, "_count=100")
    assert len(events) == sum(max(1, len(line.get("patients", ()))) for line in lines)
    text = str(events)
    assert all(line["request"] in text for line in lines)
    assert [event["recorded"] for event in events] == sorted(
        (event["recorded"] for event in events), reverse=True
    )


def test_each_parameter(used: Clinic) -> None:
    seen = f"Observation/{used.observation}"
    assert count(used, f"entity={seen}") == 4
    assert count(used, f"patient={used.patient}") == count(used, f"patient=Patient/{used.patient}")
    assert count(used, f"patient={used.patient}&action=R") == 4
    assert count(used, f"patient={used.other}") == 3
    assert count(used, "patient=nobody") == 0
    assert count(used, "subtype=search-type&agent:identifier=test") == 3
    assert count(used, "subtype=http://hl7.org/fhir/restful-interaction|create") == 4
    assert count(used, "agent:identifier=few") == 1
    assert count(used, "outcome=4") == 2
    assert count(used, "outcome=8") == 0
    assert count(used, "outcome:not=0") == 2
    assert count(used, "type=rest&outcome=4") == 2
    assert count(used, "type=110114") == 0
    assert count(used, "purpose=TREAT") == 2 and count(used, "purpose=BTG") == 0
    assert count(used, "purpose:not=TREAT") == count(used, "") - 2
    assert count(used, "address=127&agent:identifier=few") == 1
    assert count(used, "entity-type=24") == count(used, "entity-type=none") == 0
    until = f"action=R&date=lt{used.until}"
    assert count(used, f"patient.name={NAME}&action=R") == 0  # no patient is visible
    assert len(found(used, f"patient.name={NAME}&{until}", used.all)) == 4
    assert count(used, "patient.name=Nobody") == 0
    assert found(used, "date=lt2020") == []
    assert len(found(used, "_summary=count")) == 0
    one = found(used, f"entity={seen}&_count=1")[0]
    assert [event["id"] for event in found(used, f"_id={one['id']},none")] == [one["id"]]
    assert found(used, f"_id={one['id']}&action=E") == []
    [event, person] = found(used, f"_id={one['id']}&_include=AuditEvent:patient", used.all)
    assert (event["id"], person["id"]) == (one["id"], used.patient)


def test_reads_by_id(used: Clinic) -> None:
    one = found(used, f"entity=Observation/{used.observation}")[0]
    answer = used.server.get(f"AuditEvent/{one['id']}", headers=used.auditor)
    assert answer.json() == one and answer.headers["etag"] == 'W/"1"'
    assert used.server.get(f"AuditEvent/{one['id']}/_history/1", headers=used.auditor).json() == one
    history = used.server.get(f"AuditEvent/{one['id']}/_history", headers=used.auditor).json()
    assert history["total"] == 1
    chain = one["id"].rsplit("-", 2)[0]
    for id_ in (
        f"{chain}-999-0",
        f"{chain}-2-0",
        f"{chain}-99999999999999-0",
        "none",
        "a-1-0",
    ):
        assert used.server.get(f"AuditEvent/{id_}", headers=used.auditor).status_code == 404, id_
    gone = used.server.get(f"AuditEvent/{one['id']}/_history/2", headers=used.auditor)
    assert gone.status_code == 404


@pytest.mark.parametrize("sort", ["", "-date", "date", "-_lastUpdated", "action,-date", "_id"])
@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_pages_of_any_size_are_one_list(used: Clinic, sort: str, size: int) -> None:
    """Stored ones and those of the trail, which lie between each other."""
    between = found(used, f"patient={used.patient}&date=lt{used.until}")[4]["recorded"]
    for n, moment in enumerate(("2020-01-01T00:00:00.000Z", "2021-01-01T00:00:00.000Z", between)):
        sent = event(f"sent-{n}", moment, used.patient)
        assert used.server.post("AuditEvent", sent, headers=used.auditor).status_code == 201
    query = f"date=lt{used.until}&patient={used.patient}&_total=none"
    query += f"&_sort={sort}" if sort else ""
    whole = [one["id"] for one in found(used, f"{query}&_count=1000")]
    paged = [one["id"] for one in found(used, f"{query}&_count={size}")]
    assert paged == whole and len(whole) > 10
    if sort in ("", "-date"):
        names = [one["agent"][0]["who"]["identifier"]["value"] for one in found(used, query)]
        assert 2 <= names.index("sent-2") <= 4 and names[-2:] == ["sent-1", "sent-0"]


def event(name: str, recorded: str, patient: str) -> Json:
    """Of another system (ATNA)."""
    return {
        "resourceType": "AuditEvent",
        "type": {"code": "rest"},
        "recorded": recorded,
        "agent": [{"who": {"identifier": {"value": name}}, "requestor": True}],
        "source": {"observer": {"display": name}},
        "entity": [{"what": {"reference": f"Patient/{patient}"}}],
    }


def test_totals_are_those_of_both(used: Clinic) -> None:
    sent = event("sent", "2020-01-01T00:00:00.000Z", used.other)
    assert used.server.post("AuditEvent", sent, headers=used.auditor).status_code == 201
    for more in ("_summary=count", "_total=accurate&_count=1", "_count=2"):
        query = f"AuditEvent?patient={used.other}&date=lt{used.until}&{more}"
        page = used.server.get(query, headers=used.auditor).json()
        assert page["total"] == 4, more
        following = next((link for link in page["link"] if link["relation"] == "next"), None)
        if following:
            later = used.server.get(following["url"], headers=used.auditor).json()
            assert later["total"] == 4


def test_nobody_changes_an_event(used: Clinic) -> None:
    sent = event("sent", "2020-01-01T00:00:00.000Z", used.patient)
    made = used.server.create(sent, headers=used.auditor)
    [of_trail] = found(used, f"entity=Observation/{used.observation}&_count=1&action=R")[:1]
    everything = used.server.bearer("system/*.cruds __expunge", client="other")
    for one in (made, of_trail):
        place, body = f"AuditEvent/{one['id']}", {**sent, "id": one["id"]}
        for method, url, content in (
            ("PUT", place, body),
            ("DELETE", place, None),
            ("PUT", f"AuditEvent?_id={one['id']}", sent),
            ("DELETE", f"AuditEvent?_id={one['id']}", None),
            ("POST", f"{place}/$meta-add", meta()),
            ("POST", f"{place}/$expunge?expungeEverything=true", None),
        ):
            answer = used.server.send(method, url, json=content, headers=everything)
            assert answer.status_code == 403, (method, url, answer.text)
        request = {"method": "DELETE", "url": place}
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [{"request": request}]}
        assert used.server.post("", bundle, headers=everything).status_code == 403
        assert used.server.get(place, headers=used.auditor).json() == one
    assert used.server.put("AuditEvent/new", {**sent, "id": "new"}, headers=everything).is_error


def meta() -> Json:
    parameter = {"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}
    return {"resourceType": "Parameters", "parameter": [parameter]}


def test_expunge_of_a_patient_keeps_the_trail(used: Clinic) -> None:
    sent = event("sent", "2020-01-01T00:00:00.000Z", used.patient)
    made = used.server.create(sent, headers=used.auditor)
    before = count(used, f"patient={used.patient}")
    right = used.server.bearer("system/*.cruds __expunge", client="eraser")
    answer = used.server.post(f"Patient/{used.patient}/$expunge?compartment=true", headers=right)
    assert answer.status_code == 200, answer.text
    assert used.server.get(f"Patient/{used.patient}", headers=used.all).status_code == 404
    assert count(used, f"patient={used.patient}") == before
    assert used.server.get(f"AuditEvent/{made['id']}", headers=used.auditor).status_code == 200


class Who:
    """Tokens of people."""

    def __init__(self, used: Clinic) -> None:
        server = used.server
        server.user("ann", "family-doctor", "Practitioner/ann")
        server.relation("ann", used.patient)
        server.user("pat", "patient", f"Patient/{used.patient}")
        server.user("boss", "admin")
        scopes = "user/*.rs patient/*.rs user/AuditEvent.cruds patient/AuditEvent.cruds"
        launched = {"patient": used.patient}
        self.doctor = server.bearer(scopes, user="ann")
        self.doctor_in_context = server.bearer(scopes, user="ann", **launched)
        self.patient = server.bearer("patient/*.cruds", user="pat", **launched)
        self.narrow = server.bearer("patient/Observation.rs", user="pat", **launched)
        self.admin = server.bearer("user/AuditEvent.cruds user/*.rs", user="boss")
        self.few = server.bearer("system/Observation.rs", client="few")


def test_who_may_see_it(used: Clinic) -> None:
    who, get = Who(used), used.server.get
    one = found(used, f"entity=Observation/{used.observation}&action=R")[0]["id"]
    of_other = found(used, f"patient={used.other}")[0]["id"]
    for headers in (who.doctor, who.doctor_in_context, who.few, who.narrow):
        for url in ("AuditEvent", f"AuditEvent/{one}", f"AuditEvent?entity=Observation/{one}"):
            assert get(url, headers=headers).status_code == 403, url
        assert "AuditEvent" not in get("Patient?_revinclude=*", headers=headers).text
    assert {event["id"] for event in found(used, "_count=3", who.admin)} > {one, of_other}
    assert get(f"AuditEvent/{of_other}", headers=who.admin).status_code == 200
    assert get(f"Patient/{used.patient}", headers=who.admin).status_code == 403
    mine = found(used, "", who.patient)
    assert one in {event["id"] for event in mine}
    assert all(f"Patient/{used.patient}" in str(event) for event in mine)
    assert used.other not in str(mine)
    hidden, unused = get(f"AuditEvent/{of_other}", headers=who.patient), "AuditEvent/none"
    assert hidden.status_code == get(unused, headers=who.patient).status_code == 404
    assert found(used, f"patient={used.other}", who.patient) == []
    assert found(used, f"_id={of_other}", who.patient) == []
    for headers in (who.doctor, who.patient, who.admin, who.few):
        sent = event("sent", "2020-01-01T00:00:00.000Z", used.patient)
        assert used.server.post("AuditEvent", sent, headers=headers).status_code == 403


def test_a_patient_sees_no_word_of_others(used: Clinic) -> None:
    """Not in what was asked, not as the resource, no address, no reason."""
    who, get = Who(used), used.server.get
    get(f"Observation?patient={used.patient},{used.other}&code=HIV", headers=used.all)
    get(f"Patient?name={NAME}&_count=5", headers=used.all)
    get(f"Observation?subject=Patient/{used.other},Patient/{used.patient}", headers=used.all)
    linked = {"other": {"reference": f"Patient/{used.patient}"}, "type": "seealso"}
    made = used.server.create({**patient(), "link": [linked]}, headers=used.all)["id"]
    get(f"Patient/{made}", headers=used.all)
    few = used.server.bearer("system/Observation.rs", client="few")
    get(f"Patient/{used.patient}", headers=few)
    mine = found(used, "", who.patient)
    asked = [b64decode(e["query"]).decode() for m in mine for e in m["entity"] if "query" in e]
    text = str(mine) + "".join(asked)
    for secret in (used.other, made, NAME, '127.0.0.1"', "not permitted"):
        assert secret not in text, secret
    assert "127.0.0.1'" not in text.replace("http://127.0.0.1", "")
    assert any(f"Observation?patient={used.patient}&code=a|b" in one for one in asked)
    assert any("Observation?patient=...&code=HIV" in one for one in asked)
    assert any("Patient?name=...&_count=5" in one for one in asked)
    assert "another patient" in text
    whole = found(used, f"patient={used.patient}")
    asked = [b64decode(e["query"]).decode() for m in whole for e in m["entity"] if "query" in e]
    assert any(NAME in one for one in asked)


def test_a_search_by_words_of_others_finds_nothing(used: Clinic) -> None:
    """The masked event is what is searched."""
    who = Who(used)
    used.server.get(
        f"Patient/{used.patient}", headers=used.server.bearer("system/Observation.rs", client="few")
    )
    assert found(used, "address=127.0.0.1&agent:identifier=few", who.patient) == []
    assert found(used, "address=127.0.0.1&agent:identifier=few") != []


def test_the_index_changes_nothing(used: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks, whole files, no index at all: the same answers."""
    queries = [
        f"date=lt{used.until}&{more}"
        for more in (
            f"patient={used.patient}",
            f"patient={used.other}",
            "outcome=4",
            "agent:identifier=few",
            "_sort=date",
            f"patient={used.patient},{used.other}&action=R",
            "outcome=4,8&subtype=read",
        )
    ]
    expected = [found(used, query) for query in queries]
    assert all(expected)
    engine = used.server.domain.engine
    for lines in (1, 2, 5):
        monkeypatch.setattr(index, "LINES", lines)
        monkeypatch.setattr(index, "STILL", 0.0 if lines == 5 else 60.0)
        (used.data / index.FILE).write_bytes(b"damaged" * 1000)
        _drop_connection(used)
        assert [found(used, query) for query in queries] == expected
    assert engine.trail is None  # the server has an engine of its own, with the trail


def _drop_connection(clinic: Clinic) -> None:
    import gc

    for one in gc.get_objects():
        if type(one) is index.TrailIndex:  # isinstance would ask dead proxies
            one.close()
    for end in ("-wal", "-shm"):
        (clinic.data / (index.FILE + end)).unlink(missing_ok=True)


def test_what_costs_too_much_is_refused(used: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "EVENTS", 5)
    refused = used.server.get("AuditEvent?_sort=date", headers=used.auditor)
    assert refused.status_code == 400
    assert refused.json()["issue"][0]["code"] == "too-costly"
    for narrow in (f"patient={used.other}", "outcome=4", "type=110114", "_id=none"):
        narrowed = f"AuditEvent?{narrow}&date=lt{used.until}&_sort=date&_total=accurate"
        assert used.server.get(narrowed, headers=used.auditor).status_code == 200, narrow
    latest = used.server.get("AuditEvent?_count=2&_total=none", headers=used.auditor)
    assert latest.status_code == 200 and len(latest.json()["entry"]) == 2
    unknown = used.server.get("AuditEvent?_count=2", headers=used.auditor).json()
    assert "total" not in unknown
    counted = used.server.get("AuditEvent?_summary=count", headers=used.auditor)
    assert counted.status_code == 400
    has = used.server.get("AuditEvent?_has:Provenance:target:agent=x", headers=used.auditor)
    assert has.status_code == 400


def test_several_processes_and_restarts(backend: str, tmp_path: Path) -> None:
    """Chains of servers before are part of it."""
    made: list[Any] = []
    for _ in range(3):
        with served(backend, tmp_path, open_=False) as server:
            clinic = Clinic(server, tmp_path)
            made.append(clinic.observation)
            clinic.auditor = server.bearer("system/AuditEvent.rs", client="auditor")
            for place in made:
                assert len(found(clinic, f"entity=Observation/{place}")) == 1
                assert len(found(clinic, "subtype=create&_count=2")) == 2 * len(made)


def test_an_open_server_has_stored_ones_only(backend: str, tmp_path: Path) -> None:
    with served(backend, tmp_path) as server:
        server.create(patient())
        assert server.get("AuditEvent").json()["total"] == 0
        server.create(event("sent", "2020-01-01T00:00:00.000Z", "x"))
        assert server.get("AuditEvent").json()["total"] == 1
