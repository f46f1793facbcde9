"""``vehr user``, ``client``, ``relation``, ``keys`` and the demo people."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fhir_server.app import opened
from fhir_server.auth.keys import FILE
from fhir_server.cli import app
from fhir_server.cli.demo import populate
from fhir_server.cli.demo_people import FILE as LOGINS
from fhir_server.cli.demo_people import PEOPLE, add_people, logins
from fhir_server.config import Settings, SettingsError
from fhir_server.model.problem import Problem
from fhir_server.model.resource import Key
from tests.smart.flow import WORD
from tests.smart.signing import RSA, public


class Vehr:
    """Runs commands on one data directory."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def __call__(self, *arguments: str, text: str = "") -> str:
        whole = [*arguments, "--data", str(self.data)]
        done = CliRunner().invoke(app, whole, input=text, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    def refused(self, *arguments: str, text: str = "") -> str:
        with pytest.raises((SettingsError, Problem)) as refusal:
            self(*arguments, text=text)
        assert "\n" not in str(refusal.value)
        return str(refusal.value)


@pytest.fixture
def vehr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vehr:
    for name in ("VEHR_DATA", "VEHR_STORE"):
        monkeypatch.delenv(name, raising=False)
    return Vehr(tmp_path / "data")


def test_users(vehr: Vehr) -> None:
    add = ("user", "add", "anna", "--role", "nurse", "--fhir-user", "Practitioner/1")
    assert "password" not in vehr(*add, "--password-stdin", text=WORD + "\n")
    assert "password: " in vehr("user", "add", "Ivan", "--role", "patient")
    assert "anna" in vehr.refused(*add)
    assert "role" in vehr.refused("user", "add", "olha", "--role", "king")
    assert vehr.refused("user", "add", "olha", "--role", "nurse", "--password-stdin")
    assert vehr.refused("user", "disable", "nobody")
    assert vehr("user", "otp", "anna").startswith("otpauth://totp/")
    vehr("user", "disable", "anna")
    listed = vehr("user", "list")
    assert "anna" in listed and "disabled otp" in listed and "$argon2" not in listed
    vehr("user", "enable", "anna")
    vehr("user", "otp", "anna", "--remove")
    vehr("user", "password", "anna", text="another password\n")
    assert "disabled" not in vehr("user", "list")


def test_clients(vehr: Vehr, tmp_path: Path) -> None:
    back = ("--redirect", "https://a.example/cb")
    vehr("client", "add", "page", "--public", *back, "--redirect", "http://127.0.0.1/cb")
    vehr("client", "add", "kept", "--secret-stdin", *back, text="0123456789abcdef\n")
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(public(RSA)))
    vehr("client", "add", "signs", "--jwks", str(keys), "--scope", "system/*.rs")
    vehr("client", "add", "far", "--jwks", "https://a.example/k", "--scope", "system/*.rs")
    vehr("client", "disable", "far")
    listed = vehr("client", "list")
    assert "http://127.0.0.1/cb" in listed and "0123456789abcdef" not in listed
    assert listed.count("active") == 3 and listed.count("disabled") == 1
    for arguments in (
        ("x", "--public"),
        ("x", *back),
        ("x", "--public", "--redirect", "http://a.example/"),
        ("x", "--jwks", "nowhere.json", "--scope", "system/*.rs"),
        ("x", "--jwks", str(keys)),
        ("page", "--public", *back),
    ):
        assert vehr.refused("client", "add", *arguments)
    assert vehr.refused("client", "add", "x", "--secret-stdin", *back, text="short\n")


def test_relations(vehr: Vehr) -> None:
    vehr("user", "add", "anna", "--role", "nurse")
    who = ("--user", "anna", "--patient", "p1")
    vehr("relation", "add", *who, "--kind", "episode", "--until", "2099-12-31")
    assert "2100-01-01T00:00Z" in vehr("relation", "list", "--patient", "p1")
    vehr("relation", "end", *who)
    assert "2100" not in vehr("relation", "list", "--user", "anna")
    assert vehr.refused("relation", "end", *who)
    assert vehr.refused("relation", "add", "--user", "x", "--patient", "p", "--kind", "team")
    assert vehr.refused("relation", "add", *who, "--kind", "team", "--until", "tomorrow")


def test_tokens_of_users(vehr: Vehr) -> None:
    vehr("user", "add", "pat", "--role", "patient", "--fhir-user", "Patient/p1")
    assert len(vehr("token", "--user", "pat").strip()) > 40
    assert "ghost" in vehr.refused("token", "--user", "ghost")


def test_keys(vehr: Vehr) -> None:
    (first,) = vehr("keys", "list").split("\n")[:1]
    second = vehr("keys", "rotate").strip()
    assert [line.split()[0] for line in vehr("keys", "list").splitlines()] == [
        second,
        first.split()[0],
    ]
    assert (vehr.data / FILE).stat().st_mode & 0o777 == 0o600


def test_t24_what_is_kept_is_its_owners_alone(tmp_path: Path) -> None:
    """Also in a directory that others may look into."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)

    async def modes() -> dict[str, int]:
        async with opened(Settings(data=folder)) as domain:
            await domain.identities.users.add("anna", "nurse")
            files = [path for path in folder.rglob("*") if path.is_file()]
            return {path.name: path.stat().st_mode & 0o077 for path in files}

    found = asyncio.run(modes())
    assert {"vehr.sqlite", "vehr.sqlite-wal", "vehr.sqlite-shm"} <= found.keys()
    assert not any(found.values()), found


def test_demo_people_sign_in_with_what_was_printed(tmp_path: Path) -> None:
    async def added() -> list[bool]:
        async with opened(Settings(data=tmp_path)) as domain:
            await add_people(domain.identities, tmp_path)
            users = domain.identities.users
            return [await users.authenticate(*login) is not None for login in logins(tmp_path)]

    assert asyncio.run(added()) == [True] * len(PEOPLE)
    assert (tmp_path / LOGINS).stat().st_mode & 0o777 == 0o600
    assert logins(tmp_path / "elsewhere") == []


def test_the_demo_holds_the_devices_of_the_models(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    asyncio.run(populate(settings))

    async def held() -> list[str]:
        async with opened(settings) as domain:
            session = domain.system_session("test")
            keys = (Key("Device", "score2-1.0.0"), Key("DocumentReference", "score2-1.0.0.card"))
            return [str((await session.read(key)).key) for key in keys]

    assert asyncio.run(held()) == ["Device/score2-1.0.0", "DocumentReference/score2-1.0.0.card"]
