"""Logins, tokens, launches, administration and commands are in the trail, and are found there."""

from __future__ import annotations

import asyncio
import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from fhir_server.access.audit import codes
from fhir_server.access.audit.verify import verify
from fhir_server.app import opened
from fhir_server.auth.ports import SecurityEvent, What
from fhir_server.cli import app as command
from fhir_server.config import Settings
from fhir_server.definitions.registry import load
from fhir_server.http.security import line_of
from fhir_server.validation.validate import Validator
from tests.audit.trail import Clinic, entries
from tests.serving import Json, Server, served
from tests.smart.conftest import people, quick_passwords
from tests.smart.flow import App, Browser, tokens_for

__all__ = ["quick_passwords"]

CHECK = Validator(load()).check
SCOPE = "openid launch/patient patient/*.rs offline_access"


@pytest.fixture
def hospital(backend: str, tmp_path: Path) -> Any:
    with served(backend, tmp_path, open_=False) as server:
        yield people(server)


def events(server: Server, query: str) -> list[Json]:
    auditor = server.bearer("system/AuditEvent.rs", client="auditor")
    answer = server.get(f"AuditEvent?_count=200&{query}", headers=auditor)
    assert answer.status_code == 200, answer.text
    found = [entry["resource"] for entry in answer.json().get("entry", ())]
    for event in found:
        CHECK(event)
    return found


def subtypes(event: Json) -> list[str]:
    return [coding["code"] for coding in event.get("subtype", ())]


def test_every_kind_of_event_has_codes() -> None:
    assert set(get_args(What)) <= set(codes.ACTS)
    for what in get_args(What):
        for outcome in ("success", "refused"):
            line = line_of(SecurityEvent(what, outcome, user="ann", reason="why", target="user/x"))
            from fhir_server.access.audit.events import audit_events

            [event] = audit_events(line, "https://ehr.example/fhir")
            CHECK(event)
            assert event["outcome"] == ("0" if outcome == "success" else "4")
            assert what in subtypes(event) and "why" in event["outcomeDesc"]


def test_a_way_in_and_out(hospital: Server, tmp_path: Path) -> None:
    app, browser = App(hospital), Browser(hospital)
    tokens = tokens_for(app, SCOPE, browser)
    refreshed = app.refresh(tokens["refresh_token"]).json()
    app.post("revoke", token=refreshed["refresh_token"])
    browser.submit(browser.get("logout"))
    authentications = events(hospital, "type=110114&_sort=date")
    assert [subtypes(event)[-1] for event in authentications] == [
        "login",
        "authorize",
        "token",
        "refresh",
        "logout",
    ]
    login, authorize = authentications[:2]
    assert "110122" in subtypes(login)
    assert login["agent"][-1]["who"]["identifier"]["value"] == "doc"
    assert login["agent"][0]["network"] == {"address": "127.0.0.1", "type": "2"}
    assert "Patient/a" in str(authorize["entity"])
    assert [subtypes(e)[-1] for e in events(hospital, "type=110113")] == ["revoke"]
    assert len(events(hospital, "subtype=110122")) == 1
    assert len(events(hospital, "patient=a&type=110114")) == 3
    secret = {tokens["access_token"], tokens["refresh_token"], app.verifier}
    assert not any(one in str(line) for one in secret for line in entries(tmp_path))


def test_what_is_refused(hospital: Server) -> None:
    app, browser = App(hospital), Browser(hospital)
    login = browser.get(app.authorize(SCOPE))
    for _ in range(9):
        browser.sign_in(login, "doc", "wrong wrong wrong")
    failed = events(hospital, "subtype=login&outcome=4")
    assert failed and all("login-wrong" in event["outcomeDesc"] for event in failed)
    assert events(hospital, "subtype=lockout&outcome=4&type=110113")
    assert not events(hospital, "subtype=login&outcome=0")


def test_nobody_comes_in_unrecorded(
    hospital: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: no login, no token; afterwards both."""
    app, browser = App(hospital), Browser(hospital)
    login = browser.get(app.authorize(SCOPE))
    real, full, ours = os.write, [True], (tmp_path / "audit").stat().st_dev

    def write(file: int, data: Any) -> int:
        if full[0] and bytes(data).startswith(b'{"n":') and os.fstat(file).st_dev == ours:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data)

    monkeypatch.setattr(os, "write", write)
    refused = browser.sign_in(login, "doc")
    assert refused.status_code == 503
    assert not any("session" in one for one in refused.headers.get_list("set-cookie"))
    full[0] = False
    assert browser.sign_in(browser.get(app.authorize(SCOPE)), "doc").status_code in (200, 303)


def test_administration_by_http(hospital: Server) -> None:
    hospital.user("boss", "admin", password="correct horse battery")
    token = hospital.bearer("administration", user="boss")
    token |= {"content-type": "application/json"}
    body = {"name": "new", "role": "nurse"}
    url = "http://127.0.0.1:8080/auth/admin/users"
    answer = hospital.send("POST", url, json=body, headers=token)
    assert answer.status_code in (200, 201), answer.text
    [made] = events(hospital, "subtype=admin")
    assert made["agent"][-1]["who"]["identifier"]["value"] == "boss"
    assert made["entity"][0]["name"] == "user/new"


def run(data: Path, *arguments: str, given: str = "") -> str:
    found = CliRunner().invoke(command, [*arguments, "--data", str(data)], input=given)
    assert found.exit_code == 0, found.output
    return found.output


def test_commands(tmp_path: Path) -> None:
    data = tmp_path / "data"
    patient = '{"resourceType": "Patient", "id": "p", "name": [{"family": "Kovalenko"}]}'
    (tmp_path / "patients.ndjson").write_text(patient)
    run(data, "load", str(tmp_path / "patients.ndjson"))
    run(data, "user", "add", "ann", "--role", "nurse", "--fhir-user", "Practitioner/ann")
    run(data, "relation", "add", "--user", "ann", "--patient", "p", "--kind", "care-team")
    secret = "a secret of some length"
    run(data, "client", "add", "x", "--secret-stdin", "--scope", "system/*.rs", given=secret + "\n")
    token = run(data, "token", "--user", "ann", "--patient", "p").strip()
    run(data, "backup", str(tmp_path / "b.tar"))
    run(data, "user", "list")
    run(data, "reindex", "Patient")
    run(data, "keys", "rotate")
    run(data, "expunge", "Patient/p", "--everything")
    lines = [line for line in entries(data) if line["n"]]
    assert [line["interaction"] for line in lines] == [
        "command-load",
        "admin",
        "admin",
        "admin",
        "command-token",
        "command-backup",
        "command-reindex",
        "command-keys",
        "command-expunge",
    ]
    assert all(line["status"] == 200 for line in lines)
    assert [line.get("target", "") for line in lines[:4]] == [
        "patients.ndjson",
        "user/ann",
        lines[2]["target"],
        "client/x",
    ]
    assert [line["target"] for line in lines[6:8]] == ["Patient", "rotate"]
    assert lines[2]["patients"] == lines[4]["patients"] == lines[-1]["patients"] == ["p"]
    assert lines[-1]["what"] == "Patient/p"
    whole = str(lines)
    assert token not in whole and secret not in whole and "Kovalenko" not in whole
    assert "ok " in run(data, "audit", "verify")
    restored = tmp_path / "restored"
    run(restored, "restore", str(tmp_path / "b.tar"))
    last = [line for line in entries(restored) if line["n"]]
    assert last[-1]["interaction"] == "command-restore"

    async def judged() -> list[str]:
        async with opened(replace(Settings(), data=restored)) as domain:
            return (await verify(restored, domain.store.ledger)).faults

    assert asyncio.run(judged()) == []


def test_a_command_that_fails_and_one_that_cannot_be_recorded(tmp_path: Path) -> None:
    data = tmp_path / "data"
    run(data, "user", "add", "ann", "--role", "nurse")
    failing = ["expunge", "Patient", "--everything", "--data", str(data)]
    assert CliRunner().invoke(command, failing).exit_code != 0
    assert [line["status"] for line in entries(data) if line["n"]] == [200, 500]
    for path in (data / "audit").glob("*"):
        path.unlink()
    (data / "audit").rmdir()
    (data / "audit").write_text("in the way")
    refused = CliRunner().invoke(
        command, ["user", "add", "eve", "--role", "admin", "--data", str(data)]
    )
    assert refused.exit_code != 0 and "audit trail" in refused.output
    assert "eve" not in run(data, "user", "list")


def test_a_clinic_that_reads_its_trail_is_in_it(clinic: Clinic) -> None:
    auditor = clinic.server.bearer("system/AuditEvent.rs", client="auditor")
    clinic.server.get(f"AuditEvent?patient={clinic.patient}", headers=auditor)
    found = clinic.server.get("AuditEvent?subtype=110101", headers=auditor).json()
    assert found["total"] == 1
    event = found["entry"][0]["resource"]
    assert event["agent"][0]["who"]["identifier"]["value"] == "auditor"


def test_a_server_says_that_it_starts_and_stops(backend: str, tmp_path: Path) -> None:
    """Each process of it, by who runs it (DICOM 110100 with 110120 and 110121)."""
    for _ in range(2):
        with served(backend, tmp_path, open_=False) as server:
            [latest, *before] = events(server, "subtype=110120&type=110100")
    lives = [line for line in entries(tmp_path) if line.get("interaction", "").startswith("server")]
    assert [line["interaction"] for line in lives] == ["server-start", "server-stop"] * 2
    assert len(before) == 1 and subtypes(latest) == ["110120", "server-start"]
    assert latest["agent"][-1]["who"]["identifier"]["value"].startswith("os:")
    assert str(os.getpid()) in latest["entity"][0]["name"]
