"""``vehr ig`` and ``vehr validate``: what is installed is what files are held against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fhir_server.cli import app
from fhir_server.config import SettingsError
from tests.definitions.test_packages import member, packed
from tests.operations.test_validate import NAMED, PROFILE, SET, claiming
from tests.serving import served

Json = dict[str, Any]


def vehr(data: Path, *words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words), "--data", str(data)])


def package(folder: Path, name: str, *resources: Json, **manifest: Any) -> Path:
    told = {"name": name, "version": "1.0.0", "fhirVersions": ["4.0.1"]} | manifest
    files = (
        member(f"package/{i}.json", json.dumps(one).encode()) for i, one in enumerate(resources)
    )
    path = folder / f"{name}.tgz"
    path.write_bytes(packed(*files, manifest=told))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with two packages, of which one needs the other."""
    folder = tmp_path_factory.mktemp("ig")
    base = package(folder, "org.example.base", SET)
    needs = {"dependencies": {"org.example.base": "1.0.x"}}
    more = package(folder, "org.example.more", NAMED, **needs)
    data = folder / "data"
    alone = vehr(data, "ig", "install", more)
    assert isinstance(alone.exception, SettingsError)
    assert "org.example.base#1.0.x" in str(alone.exception)
    done = vehr(data, "ig", "install", more, base)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "org.example.base#1.0.0: installed",
        "org.example.more#1.0.0: installed",
    ]
    return data


def test_what_is_installed(data: Path, tmp_path: Path) -> None:
    lines = vehr(data, "ig", "list").output.splitlines()
    assert [line.split()[0] for line in lines] == [
        "org.example.base#1.0.0",
        "org.example.more#1.0.0",
    ]
    needed = vehr(data, "ig", "remove", "org.example.base#1.0.0")
    assert "needed by org.example.more#1.0.0" in str(needed.exception)
    extra = package(tmp_path, "org.example.extra")
    assert vehr(data, "ig", "install", extra).exit_code == 0
    assert vehr(data, "ig", "install", extra).output.endswith("is installed already\n")
    assert vehr(data, "ig", "remove", "org.example.extra#1.0.0").exit_code == 0
    absent = vehr(data, "ig", "install", tmp_path / "absent.tgz")
    assert "is not there" in str(absent.exception)


def test_files_are_told_what_validate_says(data: Path, tmp_path: Path) -> None:
    good = claiming(name=[{"text": "A"}])
    bad = claiming(gender="blue")
    (tmp_path / "good.json").write_text(json.dumps(good))
    valid = vehr(data, "validate", tmp_path / "good.json")
    assert (valid.exit_code, valid.output) == (0, f"{tmp_path}/good.json: valid\n")
    lines = "\n".join(map(json.dumps, (good, bad)))
    (tmp_path / "both.ndjson").write_text(f"{lines}\nno JSON\n")
    found = vehr(data, "validate", tmp_path / "both.ndjson")
    assert found.exit_code == 1
    said = found.output.splitlines()
    assert said[:2] == [
        f"{tmp_path}/both.ndjson:1: valid",
        f"{tmp_path}/both.ndjson:2: NOT valid",
    ]
    assert said[4].endswith("both.ndjson:3: NOT valid")
    with served("sqlite", tmp_path / "server") as server:
        for one in (SET, NAMED):
            server.create(one)
        told = server.post("Patient/$validate", bad).json()["issue"]
    assert said[2:4] == [
        f"  error {one['expression'][0]}: {one['diagnostics']} [{one['code']}]" for one in told
    ]


def test_a_profile_may_be_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.json").write_text('{"resourceType":"Patient"}')
    assert vehr(data, "validate", tmp_path).exit_code == 0
    found = vehr(data, "validate", tmp_path, "--profile", PROFILE, "--quiet")
    assert found.exit_code == 1 and "Patient.name" in found.output


def test_a_server_sees_what_a_command_has_installed(data: Path) -> None:
    """The rows and the blob are in the data directory."""
    with served("sqlite", data) as server:
        found = server.post("Patient/$validate", claiming()).json()["issue"]
        assert [one["expression"] for one in found] == [["Patient.name"]]


def test_a_backup_holds_packages(data: Path, tmp_path: Path) -> None:
    saved, again = tmp_path / "saved", tmp_path / "again"
    assert vehr(data, "backup", saved).exit_code == 0
    restored = vehr(again, "restore", saved)
    assert restored.exit_code == 0, restored.output
    (tmp_path / "plain.json").write_text(json.dumps(claiming()))
    found = vehr(again, "validate", tmp_path / "plain.json")
    assert found.exit_code == 1 and "Patient.name" in found.output
    assert "blobs: 2 are sound" in vehr(again, "doctor", "--scrub").output
