"""The linter: misspelt rules, rules that earlier ones leave nothing to, and what may surprise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fhir_server.cli import app
from fhir_server.definitions.registry import load
from operations.deid.linter import findings
from operations.deid.profile import FOLDER


def rule(path: str, method: str = "redact", **more: Any) -> dict[str, Any]:
    return {"path": path, "method": method, **more}


def told(*rules: dict[str, Any], **more: Any) -> list[str]:
    document = {"fhirPathRules": list(rules), **more}
    return [str(one) for one in findings("test", document, load())]


OWN = {"url": "https://h.example/own"}


def test_misspelt() -> None:
    assert told(rule("Patient.nmae"), **OWN) == [
        "error: rule 0 (Patient.nmae): child nmae finds no element; name?"
    ]
    theirs = told(rule("HealthcareService.notAvaliable.description"))
    assert theirs[0] == (
        "dead: rule 0 (HealthcareService.notAvaliable.description):"
        " child notAvaliable finds no element; notAvailable?"
    )


@pytest.mark.parametrize(
    "rules",
    [
        (rule("Patient.name"), rule("Patient.name.family", "keep")),
        (rule("nodesByType('HumanName')"), rule("Patient.contact.name", "keep")),
        (rule("nodesByType('HumanName')"), rule("Patient.name.where(use = 'old')", "keep")),
        (rule("Resource.id", "keep"), rule("Patient.id")),
        (rule("Patient.birthDate", "keep"), rule("Patient.birthDate")),
        (rule("Patient.deceased"), rule("Patient.deceased as boolean", "keep")),
    ],
)
def test_a_rule_to_which_nothing_is_left(rules: tuple[dict[str, Any], ...]) -> None:
    [found] = told(*rules, **OWN)
    assert found.startswith("dead: rule 1 ") and found.endswith("everything that it speaks of")


@pytest.mark.parametrize(
    "rules",
    [
        (rule("Patient.name.family", "keep"), rule("Patient.name")),
        (rule("Patient.name.where(use = 'old')"), rule("Patient.name", "keep")),
        (rule("Patient.contact.name"), rule("nodesByType('HumanName')", "keep")),
        (rule("Patient.name"), rule("nodesByType('HumanName')", "keep")),
    ],
)
def test_a_rule_to_which_something_is_left(rules: tuple[dict[str, Any], ...]) -> None:
    assert told(*rules, **OWN) == []


def test_what_may_surprise() -> None:
    found = told(
        rule("Patient.name"), processingErrors="skip", parameters={"cryptoHashKey": "secret"}
    )
    assert [one.partition(":")[0] for one in found] == ["warning"] * 3
    assert "secret" not in str(found)


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.json")), ids=lambda file: file.stem)
def test_shipped_profiles_have_no_idle_rule(file: Path) -> None:
    assert findings(file.stem, json.loads(file.read_text(encoding="utf-8")), load()) == []


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEHR_DEID", str(tmp_path / "deid"))
    monkeypatch.setenv("VEHR_DEID_KEYS", str(tmp_path / "keys.json"))
    run = CliRunner()
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"fhirPathRules": [rule("Patient.name")], **OWN}))
    assert run.invoke(app, ["deid", "lint", str(file)]).exit_code == 0
    assert run.invoke(app, ["deid", "add", str(file)]).stdout == "added mine\n"
    assert "mine" in run.invoke(app, ["deid", "profiles"]).stdout.split()
    file.write_text(json.dumps({"fhirPathRules": [rule("Patient.nmae")], **OWN}))
    broken = run.invoke(app, ["deid", "lint", str(file)])
    assert broken.exit_code == 1 and "nmae" in broken.stdout
    assert run.invoke(app, ["deid", "add", str(file)]).exit_code != 0
    assert run.invoke(app, ["deid", "keys", "add", "study"]).stdout == "study 1\n"
    assert run.invoke(app, ["deid", "keys", "rotate", "study"]).stdout == "study 2\n"
    listed = run.invoke(app, ["deid", "keys", "list"]).stdout.splitlines()
    assert [line.split()[:2] for line in listed] == [["study", "2"], ["study", "1"]]
    assert run.invoke(app, ["deid", "keys", "add", "study"]).exit_code != 0
    assert run.invoke(app, ["deid", "keys", "rotate", "none"]).exit_code != 0
