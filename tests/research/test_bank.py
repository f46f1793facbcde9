"""The data bank from end to end: consent, de-identification, researchers, withdrawal, erasing."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from fhir_server.access.audit.entry import Entry
from fhir_server.access.audit.keeping import by_itself
from fhir_server.access.audit.log import AuditLog
from fhir_server.app import bank_of
from fhir_server.model.problem import Conflict
from operations.research import sync as pipeline
from operations.research.bank import Lease
from operations.research.sync import Outcome, every, sync
from tests.serving import Json, Server, served
from tests.smart.bulk import consent, put
from tests.smart.flow import BACK, WORD, App, parameters, tokens_for

BASE = "http://127.0.0.1:8080/research/"
MANY = [f"patient-{n}" for n in range(12)]
SURNAME = "Zaborowski"


def patient(id_: str) -> Json:
    return {
        "resourceType": "Patient",
        "id": id_,
        "identifier": [{"system": "urn:mrn", "value": f"MRN-{id_}"}],
        "name": [{"family": SURNAME, "given": [f"Given-{id_}"]}],
        "birthDate": "1961-05-17",
        "gender": "female",
    }


def observation(id_: str, of: str, **more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": {"reference": f"Patient/{of}", "display": SURNAME},
        "effectiveDateTime": "2021-03-04T10:00:00Z",
        "valueQuantity": {"value": 13.5, "unit": "g/dL"},
        **more,
    }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Twelve patients permit, one denies, one has decided nothing."""
    with served("sqlite", tmp_path / "data", open_=False, research="on") as server:
        fill(server)
        yield server


def fill(server: Server) -> None:
    for id_ in (*MANY, "denies", "silent"):
        put(server, patient(id_), observation(f"o-{id_}", id_))
    put(server, *[consent(id_, "permit") for id_ in MANY], consent("denies", "deny"))
    server.user("rita", "researcher")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same after one run; tests only read it."""
    folder = tmp_path_factory.mktemp("bank") / "data"
    with served("sqlite", folder, open_=False, research="on", research_project="study") as server:
        fill(server)
        put(server, observation("wrong", MANY[0], status="entered-in-error"))
        server.first = run(server)  # type: ignore[attr-defined]
        yield server


def run(server: Server, *, full: bool = False) -> Outcome:
    async def once() -> Outcome:
        async with bank_of(server.domain) as (_, bank):
            return await sync(bank, full=full)

    return server.run(once())


def bearer(server: Server, user: str = "rita", scope: str = "user/*.rs") -> dict[str, str]:
    return server.bearer(scope, user=user, audience="/research")


def ask(server: Server, url: str, **options: Any) -> httpx.Response:
    options.setdefault("headers", bearer(server))
    return server.send(options.pop("method", "GET"), BASE + url, **options)


def found(server: Server, type_: str) -> list[Json]:
    answer = ask(server, f"{type_}?_count=100")
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", [])]


def test_l63_what_researchers_see(filled: Server) -> None:
    """Nothing of the record; of the bank what patients permit, and no name, id or number."""
    outcome = filled.first  # type: ignore[attr-defined]
    assert (outcome.added, outcome.held, outcome.removed) == (12, 12, 0)
    people, values = found(filled, "Patient"), found(filled, "Observation")
    assert len(people) == len(values) == 12
    seen = json.dumps([people, values])
    for told in (SURNAME, "Given-", "MRN-", "patient-", "denies", "silent", "05-17", "2021-03-04"):
        assert told not in seen, told
    pseudonyms = {one["id"] for one in people}
    assert {one["subject"]["reference"] for one in values} == {f"Patient/{p}" for p in pseudonyms}
    one = people[0]["id"]
    assert ask(filled, f"Patient/{one}").json()["id"] == one
    assert len(ask(filled, f"Observation?patient={one}").json()["entry"]) == 1
    for url in ("Patient", "Patient/patient-1", "Observation?code=718-7", "$export"):
        answer = filled.get(url, headers=filled.bearer("user/*.rs", user="rita"))
        assert answer.status_code == 403, url
    for url in ("Patient?identifier=x", f"Patient?_id={one}", "Patient?birthdate=1961-05-17"):
        assert ask(filled, url).status_code == 403, url


def test_l63_counts(filled: Server) -> None:
    for url in ("Patient?_summary=count", "Observation?code=718-7&_summary=count"):
        told = ask(filled, url).json()["total"]
        assert 10 <= told <= 16 and ask(filled, url).json()["total"] == told
    assert ask(filled, "Patient?gender=male&_summary=count").json()["_total"]["extension"]
    assert "total" not in ask(filled, "Patient?gender=male").json()
    counted = ask(filled, "Patient/$cohort-count?gender=female").json()["parameter"]
    assert 10 <= counted[0]["valueInteger"] <= 16 and counted[1]["valueInteger"] == 10
    few = ask(filled, "Patient/$cohort-count?gender=male").json()["parameter"][0]
    assert "valueInteger" not in few and few["_valueInteger"]
    assert ask(filled, "Patient/$cohort-count?_id=x").status_code == 403


def test_the_face(filled: Server) -> None:
    statement = ask(filled, "metadata", headers={}).json()
    assert statement["implementation"]["url"] == BASE[:-1]
    offered = {
        one["code"] for type_ in statement["rest"][0]["resource"] for one in type_["interaction"]
    }
    assert offered == {"read", "search-type"}
    smart = ask(filled, ".well-known/smart-configuration", headers={}).json()
    assert smart["token_endpoint"].endswith("/auth/token")
    # What would work here alone: no patient is opened, no service gets a token.
    assert "client_credentials" not in smart["grant_types_supported"]
    told = {*smart["capabilities"], *smart["scopes_supported"]}
    assert {"launch-standalone", "permission-user", "user/*.rs"} <= told
    assert not [one for one in told if re.match("patient/|system/|launch-ehr|context-", one)]
    assert ask(filled, "Patient", headers={}).status_code == 401
    assert ask(filled, "Patient", headers=filled.bearer("system/*.rs")).status_code == 401
    assert filled.get("Patient", headers=bearer(filled)).status_code == 401
    filled.user("dora", "family-doctor", "Practitioner/d")
    assert ask(filled, "Patient", headers=bearer(filled, "dora")).status_code == 403
    system = filled.bearer("system/*.cruds", audience="/research")
    assert ask(filled, "Patient", headers=system).status_code == 403
    few = bearer(filled, scope="user/Observation.rs")
    assert ask(filled, "Patient", headers=few).status_code == 403
    for method, url in (("POST", "Patient"), ("PUT", "Patient/x"), ("DELETE", "Patient/x")):
        json_ = patient("x") if method != "DELETE" else None
        assert ask(filled, url, method=method, json=json_).status_code in (405, 501)
    for url in ("Patient/x/_history", "_history", "Patient/x/_history/1"):
        assert ask(filled, url).status_code == 501
    assert ask(filled, "AuditEvent").status_code == 403


def test_tables_of_the_bank(filled: Server) -> None:
    columns = [{"name": "patient", "path": "subject.getReferenceKey(Patient)"}]
    view = {
        "resourceType": "ViewDefinition",
        "resource": "Observation",
        "select": [{"column": columns}],
    }
    parameter = [{"name": "viewResource", "resource": view}]
    body = {"resourceType": "Parameters", "parameter": parameter}
    answer = ask(filled, "ViewDefinition/$run", method="POST", json=body)
    rows = {json.loads(line)["patient"] for line in answer.text.splitlines()}
    assert rows == {one["id"] for one in found(filled, "Patient")}


def test_lineage_and_quality_name_nobody(filled: Server) -> None:
    told = ask(filled, "$lineage")
    [first] = told.json()["parameter"]
    parts = {part["name"]: part for part in first["part"]}
    assert parts["number"]["valueInteger"] == 1 and "|1" in parts["profile"]["valueCanonical"]
    assert "valueInteger" in parts["added"] and "valueInteger" not in parts["removed"]
    quality = ask(filled, "$data-quality")
    reasons = [part["part"][0].get("valueString") for part in quality.json()["parameter"]]
    assert "it was entered in error" in reasons
    [again] = [one["part"] for one in quality.json()["parameter"] if one["name"] == "found-again"]
    assert again[0] == parts["profile"]
    claims = [one["part"] for one in again if one["name"] == "claim"]
    rates = {known["valueString"]: rate["valueDecimal"] for known, rate in claims}
    assert rates["a date"] == 0 and rates["intervals of all dates"] == 1 and len(rates) >= 13
    assert [one["valueDecimal"] for one in again[-2:]] == [round(1 / 12, 6), 0]
    for text in (told.text, quality.text):
        assert "patient-" not in text and found(filled, "Patient")[0]["id"] not in text


def test_a_second_run_does_what_has_changed(server: Server) -> None:
    run(server)
    before = {one["id"] for one in found(server, "Patient")}
    outcome = run(server)
    assert (outcome.added, outcome.renewed, outcome.removed) == (0, 0, 0)
    other = {"valueQuantity": {"value": 14.5, "unit": "g/dL"}}
    put(server, observation("more", MANY[3], **other), observation("twice", MANY[3], **other))
    outcome = run(server)
    assert (outcome.added, outcome.renewed, outcome.removed) == (0, 1, 0)
    headers = server.bearer("system/*.cruds")
    assert server.delete(f"Observation/o-{MANY[4]}", headers=headers).status_code == 204
    assert run(server).renewed == 1 and len(found(server, "Observation")) == 12
    assert {one["id"] for one in found(server, "Patient")} == before
    outcome = run(server, full=True)
    assert outcome.renewed == 12 and {one["id"] for one in found(server, "Patient")} == before


def test_withdrawal_takes_a_patient_out_within_one_run(server: Server) -> None:
    run(server)
    before = {one["id"] for one in found(server, "Patient")}
    put(server, consent(MANY[5], "deny"))
    outcome = run(server)
    assert (outcome.removed, outcome.held) == (1, 11)
    [gone] = before - {one["id"] for one in found(server, "Patient")}
    assert ask(server, f"Patient/{gone}").status_code == 404
    assert gone not in json.dumps(found(server, "Observation"))

    async def traces() -> int:
        async with bank_of(server.domain) as (there, _):
            counts = await there.store.counts()
            return counts["Patient"] + counts["Observation"]

    assert server.run(traces()) == 22
    put(server, consent("silent", "permit"), consent(MANY[5], "permit"))
    assert run(server).added == 2
    assert gone in {one["id"] for one in found(server, "Patient")}


def test_erasing_reaches_the_bank(server: Server) -> None:
    run(server)
    headers = server.bearer("system/*.cruds __expunge")
    one = {"resourceType": "Parameters", "parameter": [
        {"name": "expungeEverything", "valueBoolean": True}]}  # fmt: skip
    answer = server.post(f"Observation/o-{MANY[6]}/$expunge", one, headers=headers)
    assert answer.status_code == 200, answer.text
    run(server)
    assert len(found(server, "Observation")) == 11 and len(found(server, "Patient")) == 12
    whole = {"name": "compartment", "valueBoolean": True}
    record = {"resourceType": "Parameters", "parameter": [whole]}
    answer = server.post(f"Patient/{MANY[7]}/$expunge", record, headers=headers)
    assert answer.status_code == 200, answer.text
    outcome = run(server)
    assert outcome.removed == 1 and len(found(server, "Patient")) == 11
    assert len(found(server, "Observation")) == 10


def test_a_run_that_is_killed_goes_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = pipeline._Run._load
    count = 0

    async def dying(self: Any, resources: Any) -> None:
        nonlocal count
        count += 1
        if count > 4:
            raise RuntimeError("killed")
        await loaded(self, resources)

    monkeypatch.setattr(pipeline._Run, "_load", dying)
    with pytest.raises(RuntimeError):
        run(server)
    monkeypatch.undo()
    outcome = run(server)
    assert outcome.added + outcome.renewed == 8 and outcome.held == 12
    assert len(found(server, "Patient")) == len(found(server, "Observation")) == 12


def test_one_run_at_a_time(server: Server) -> None:
    lease = Lease(server.domain.store.ledger)
    server.run(lease.take())
    with pytest.raises(Conflict):
        run(server)
    server.run(lease.leave())
    assert run(server).held == 12


def test_runs_by_themselves(server: Server) -> None:
    """As ``VEHR_RESEARCH_MINUTES`` has it."""

    told: list[bool] = []

    async def held() -> int:
        async with bank_of(server.domain) as (there, bank), asyncio.timeout(60):
            going = asyncio.create_task(every(bank, 0.01, told.append))
            while not (told and await there.store.ledger.scan(pipeline.LINEAGE)):
                await asyncio.sleep(0.05)
            going.cancel()
            await asyncio.wait({going})
            return int((await there.store.counts())["Patient"])

    assert server.run(held()) == 12
    assert all(told)


def test_a_run_by_the_clock_is_in_the_audit_trail(tmp_path: Path) -> None:
    """As one by command is, but by the server."""
    with served("sqlite", tmp_path / "data", open_=False) as server:
        engine = server.domain.engine
        lines: list[Entry] = []

        class Kept:
            def write(self, entry: Entry) -> None:
                lines.append(entry)

        ended = by_itself(cast(AuditLog, Kept()), engine, "research sync", "research")
        ended(True)
        ended(False)
    assert [(one.interaction, one.status, one.client, one.target) for one in lines] == [
        ("command-research sync", 200, "vehr", "research"),
        ("command-research sync", 500, "vehr", "research"),
    ]


def test_an_app_of_a_researcher(filled: Server) -> None:
    """An app asks for a token by the audience of this face."""
    filled.user("rosa", "researcher", password=WORD)
    filled.client("app", redirects=(BACK,), scope="user/*.rs")
    app = App(filled)
    tokens = tokens_for(app, "user/*.rs", user="rosa", request={"aud": BASE[:-1]})
    own = {"authorization": f"Bearer {tokens['access_token']}"}
    assert ask(filled, "Patient", headers=own).status_code == 200
    assert filled.get("Patient", headers=own).status_code == 401
    told = parameters(filled.send("GET", app.authorize("user/*.rs", aud=BASE + "else")))
    assert told["error"] == "invalid_request"


def test_settings_of_the_face(tmp_path: Path) -> None:
    with served("memory", tmp_path, open_=False, research="off") as server:
        assert ask(server, "metadata", headers={}).status_code == 501
    with served("memory", tmp_path, open_=False, research="on", research_least=1) as server:
        counted = ask(server, "Patient/$cohort-count", headers=bearer(server, "nobody"))
        assert counted.status_code in (401, 403)
        server.user("rita", "researcher")
        parts = ask(server, "Patient/$cohort-count").json()["parameter"]
        assert parts[1]["valueInteger"] == 1


def test_a_lost_bank_is_filled_anew(server: Server) -> None:
    """As after a restore, which brings back the record alone."""
    run(server)

    async def lose() -> None:
        async with bank_of(server.domain) as (there, _):
            row = await there.store.ledger.get("research", "bank")
            assert row is not None
            other = {"id": "another"}
            assert await there.store.ledger.cas("research", "bank", other, row.revision)

    server.run(lose())
    assert run(server).added == 12
