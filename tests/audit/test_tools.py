"""``Patient/$access-log``, ``AuditEvent/$access-report``, ``vehr audit report``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fhir_server.access.audit.entry import Entry
from fhir_server.access.audit.report import Finding, Report, Rules, table
from fhir_server.cli import app as command
from fhir_server.definitions.registry import load
from fhir_server.validation.validate import Validator
from operations.access_words import LANGUAGES
from tests.audit.trail import NAME, Clinic, observation, patient
from tests.serving import Json, Server

CHECK = Validator(load()).check


def log_of(server: Server, patient: str, headers: Json, query: str = "") -> tuple[str, list[Json]]:
    """The text, and the entries as dicts."""
    answer = server.get(f"Patient/{patient}/$access-log{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    CHECK(answer.json())
    parts = answer.json()["parameter"]
    entries = [
        {p["name"]: next(v for k, v in p.items() if k != "name") for p in part["part"]}
        for part in parts
        if part["name"] == "entry"
    ]
    return parts[0]["valueString"], entries


@pytest.fixture
def ward(clinic: Clinic) -> Clinic:
    """A nurse looked at the patient and at another one, together and apart."""
    server = clinic.server
    clinic.other = server.create(patient(), headers=clinic.all)["id"]
    server.create(observation(clinic.other), headers=clinic.all)
    server.user("nina", "nurse", "Practitioner/nina")
    for id_ in (clinic.patient, clinic.other):
        server.relation("nina", id_)
    nurse = server.bearer("user/*.rs", user="nina") | {"x-purpose-of-use": "TREAT"}
    for url in (
        f"Observation?patient={clinic.patient}",
        f"Observation?patient={clinic.patient},{clinic.other}",
        f"Patient?name={NAME}",
        f"Patient/{clinic.patient}/$everything",
        f"Patient/{clinic.other}",
    ):
        assert server.get(url, headers=nurse).status_code == 200
    server.user("pat", "patient", f"Patient/{clinic.patient}")
    server.user("boss", "admin")
    return clinic


def test_a_patient_reads_who_saw_the_data(ward: Clinic) -> None:
    mine = ward.server.bearer("patient/*.rs", user="pat", patient=ward.patient)
    text, entries = log_of(ward.server, ward.patient, mine)
    by_nurse = [one for one in entries if one["who"] == "nina"]
    assert [one["what"] for one in by_nurse] == [
        "read the whole record",
        "searched: personal data",
        "searched: measurements and results",
        "searched: measurements and results",
    ]
    assert {one["role"] for one in by_nurse} == {"nurse"}
    assert {one["purpose"] for one in by_nurse} == {"treatment"}
    assert text.startswith("Who saw your data\n") and by_nurse[0]["text"] in text
    assert ward.other not in text + str(entries) and NAME not in text + str(entries)
    event = by_nurse[0]["event"]["reference"]
    assert ward.server.get(event, headers=mine).status_code == 200


@pytest.mark.parametrize(
    ("language", "phrase"),
    [
        ("uk", "nina (медсестра / медбрат): пошук: вимірювання та результати; мета: лікування"),
        ("ru", "nina (медсестра / медбрат): поиск: измерения и результаты; цель: лечение"),
        ("en", "nina (nurse): searched: measurements and results; purpose: treatment"),
    ],
)
def test_languages(ward: Clinic, language: str, phrase: str) -> None:
    mine = ward.server.bearer("patient/*.rs", user="pat", patient=ward.patient)
    text, _ = log_of(ward.server, ward.patient, mine, f"?language={language}")
    assert text.splitlines()[0] == LANGUAGES[language].title
    assert phrase in text


def test_every_language_has_every_word() -> None:
    tables = [
        (words.acts.keys(), words.kinds.keys(), words.purposes.keys(), words.roles.keys())
        for words in LANGUAGES.values()
    ]
    assert tables[0] == tables[1] == tables[2]
    for words in LANGUAGES.values():
        assert len(words.months) == 12 and all(words.acts.values()) and all(words.kinds.values())
    from fhir_server.access.roles import ROLES

    assert set(ROLES) == set(LANGUAGES["en"].roles)


def test_whose_log_it_is(ward: Clinic) -> None:
    server = ward.server
    mine = server.bearer("patient/*.rs", user="pat", patient=ward.patient)
    hidden = server.get(f"Patient/{ward.other}/$access-log", headers=mine)
    unused = server.get("Patient/none/$access-log", headers=mine)
    assert hidden.status_code == unused.status_code == 404
    nurse = server.bearer("user/*.rs patient/*.rs", user="nina", patient=ward.patient)
    assert server.get(f"Patient/{ward.patient}/$access-log", headers=nurse).status_code == 403
    narrow = server.bearer("patient/Patient.rs", user="pat", patient=ward.patient)
    assert server.get(f"Patient/{ward.patient}/$access-log", headers=narrow).status_code == 403
    boss = server.bearer("user/AuditEvent.rs", user="boss")
    _, entries = log_of(server, ward.patient, boss)
    assert "nina" in {one["who"] for one in entries}
    _, others = log_of(server, ward.other, boss)
    assert "nina" in {one["who"] for one in others}
    assert server.get(f"Patient/{ward.patient}", headers=boss).status_code == 403


def test_what_is_asked_for(ward: Clinic) -> None:
    mine = ward.server.bearer("patient/*.rs", user="pat", patient=ward.patient)
    answer = ward.server.get(f"Patient/{ward.patient}/$access-log?count=2", headers=mine).json()
    assert [p["name"] for p in answer["parameter"]] == ["text", "entry", "entry", "more"]
    assert answer["parameter"][-1]["valueBoolean"] is True
    text, entries = log_of(ward.server, ward.patient, mine, "?end=2020-01-01&language=en")
    assert not entries and "Nobody looked at your data" in text
    today = datetime.now(UTC).date().isoformat()
    assert log_of(ward.server, ward.patient, mine, f"?start={today}&end={today}")[1]
    for wrong in ("language=de", "count=501", "count=0", "start=soon", "x=1"):
        url = f"Patient/{ward.patient}/$access-log?{wrong}"
        assert ward.server.get(url, headers=mine).status_code == 400, wrong


# --- the report -------------------------------------------------------------------------

MONDAY_NOON = int(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()) * 1_000_000
HOUR = 3_600_000_000


def line(at: int, **more: Any) -> Entry:
    given = {"request": "r", "interaction": "read", "method": "GET", "status": 200}
    return Entry(at=at, **(given | more))


def reported(*entries: Entry) -> list[Finding]:
    made = Report(Rules(UTC))
    made.take(entries)
    return made.findings()


def test_what_is_found() -> None:
    ann = {"user": "ann", "role": "nurse", "patients": ("p",)}
    found = reported(
        line(MONDAY_NOON, interaction="login", status=401, user="eve", why="login-wrong"),
        line(MONDAY_NOON + 1, interaction="login", status=401, user="eve", why="login-wrong"),
        line(MONDAY_NOON, interaction="login", status=401, peer="192.0.2.1", why="login-wrong"),
        line(MONDAY_NOON, interaction="lockout", status=401, user="eve"),
        line(MONDAY_NOON, status=403, client="app", why="forbidden: not permitted: read Patient"),
        line(MONDAY_NOON, status=401, peer="192.0.2.2", why="login: a bearer token is needed"),
        line(MONDAY_NOON, **ann),
        line(MONDAY_NOON + 9 * HOUR, **ann),
        line(MONDAY_NOON - 24 * HOUR, **ann),
        line(MONDAY_NOON + 9 * HOUR, **(ann | {"user": "pat", "role": "patient"})),
        line(MONDAY_NOON, purpose="BTG", what="Observation/1", **(ann | {"user": "doc"})),
        line(MONDAY_NOON, interaction="admin", user="boss", target="user/x", why="add"),
        line(MONDAY_NOON, interaction="command-token", user="os:root", target="user/x"),
        line(MONDAY_NOON, status=404, user="ann"),
    )
    assert [(f.kind, f.who, f.count) for f in found] == [
        ("admin", "boss", 1),
        ("admin", "os:root", 1),
        ("break-glass", "doc", 1),
        ("denied", "app", 1),
        ("denied", "unknown at 192.0.2.2", 1),
        ("failed-login", "eve", 2),
        ("failed-login", "unknown at 192.0.2.1", 1),
        ("lockout", "eve", 1),
        ("off-hours", "ann", 2),
    ]
    assert found[5].last - found[5].first == 1
    assert "not permitted" in table(found) and table(found).startswith("kind")


@pytest.mark.parametrize(("patients", "told"), [(20, False), (61, True), (101, True)])
def test_unusually_many_patients(patients: int, told: bool) -> None:
    """Against the others of that day."""
    usual = [
        line(MONDAY_NOON, user=f"u{n}", role="nurse", patients=tuple(f"p{i}" for i in range(20)))
        for n in range(5)
    ]
    many = line(MONDAY_NOON, user="eve", role="nurse", patients=tuple(map(str, range(patients))))
    found = [f for f in reported(*usual, many) if f.kind == "many-patients"]
    assert [f.who for f in found] == (["eve"] if told else [])


def test_the_report_by_rest_and_by_command(ward: Clinic) -> None:
    server = ward.server
    few = server.bearer("system/Observation.rs", client="few")
    assert server.get(f"Patient/{ward.patient}", headers=few).status_code == 403
    boss = server.bearer("user/AuditEvent.rs", user="boss")
    answer = server.get("AuditEvent/$access-report", headers=boss)
    assert answer.status_code == 200, answer.text
    CHECK(answer.json())
    findings = [
        {p["name"]: next(v for k, v in p.items() if k != "name") for p in part["part"]}
        for part in answer.json()["parameter"]
        if part["name"] == "finding"
    ]
    denied = [one for one in findings if one["kind"] == "denied"]
    assert [(one["who"], one["count"]) for one in denied] == [("few", 1)]
    mine = server.bearer("patient/*.rs", user="pat", patient=ward.patient)
    nurse = server.bearer("user/*.rs", user="nina")
    for headers in (mine, nurse, few):
        refused = server.get("AuditEvent/$access-report", headers=headers)
        assert refused.status_code == 403
    for wrong in ("start=2026-02-01&end=2026-01-01", "patients=0", "begin=noon"):
        url = f"AuditEvent/$access-report?{wrong}"
        assert server.get(url, headers=boss).status_code == 400
    told = by_command(ward.data)
    assert "denied" in told and "few" in told and "forbidden: not permitted: read Patient" in told
    rows = [json.loads(row) for row in by_command(ward.data, "--json").splitlines()]
    assert {row["kind"] for row in rows} >= {"denied"}
    assert "0 findings" in by_command(ward.data, "--until", "2020-01-01")


def test_who_was_refused_the_glass_is_named(ward: Clinic) -> None:
    """To who audits and to the patient, whatever the request was refused for."""
    server, place = ward.server, f"Patient/{ward.patient}"
    nurse = server.bearer("user/*.rs", user="nina", client="app")
    mine = server.bearer("patient/*.rs", user="pat", patient=ward.patient)
    glass, why = {"x-purpose-of-use": "BTG"}, {"x-break-glass-reason": "why"}
    for method, given, status in (
        ("GET", nurse | glass, 400),
        ("DELETE", nurse | glass | why, 403),
        ("GET", mine | glass | why, 403),
        ("GET", nurse | {"x-purpose-of-use": "NONSENSE"}, 400),
    ):
        assert server.send(method, place, headers=given).status_code == status
    lines = [line for line in ward.lines() if line["status"] in (400, 403)]
    users = [(line["user"], line["role"], line["client"]) for line in lines]
    assert users == [
        ("nina", "nurse", "app"),
        ("nina", "nurse", "app"),
        ("pat", "patient", "test"),
        ("nina", "nurse", "app"),
    ]
    entries = log_of(server, ward.patient, mine)[1]
    tried = [one["who"] for one in entries if one.get("outcome") == "refused"]
    assert tried == ["nina", "pat", "nina", "nina"]
    told = by_command(ward.data)
    rows = [row.split()[:3] for row in told.splitlines() if row.startswith("break-glass")]
    assert rows == [["break-glass", "nina", "2"], ["break-glass", "pat", "1"]]


def by_command(data: Path, *options: str) -> str:
    found = CliRunner().invoke(command, ["audit", "report", *options, "--data", str(data)])
    assert found.exit_code == 0, found.output
    return found.output
