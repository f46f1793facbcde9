"""T24: keys and secrets are rotated while the server runs, and lie in files of their owner."""

from __future__ import annotations

import json
import re
import stat
import time
from pathlib import Path

from fhir_server.auth.keys import FILE, Keys
from tests.serving import Server, served
from tests.smart.conftest import people
from tests.smart.flow import App, Browser, approve, parameters


def test_t24_a_replaced_sealing_secret_is_still_understood_once(tmp_path: Path) -> None:
    running, command = Keys(tmp_path, time.time), Keys(tmp_path, time.time)
    sealed, derived = running.seals.seal("p", b"x"), running.seals.derive("csrf", "a")
    command.reseal()
    assert running.seals.open("p", sealed) == b"x"
    assert running.seals.matches(derived, "csrf", "a")
    assert running.seals.derive("csrf", "a") != derived
    fresh = running.seals.seal("p", b"y")
    assert command.seals.open("p", fresh) == b"y"
    command.reseal()
    assert running.seals.open("p", sealed) is None
    assert not running.seals.matches(derived, "csrf", "a")
    assert running.seals.open("p", fresh) == b"y"
    assert running.seals.open("other", fresh) is None


def test_t24_the_file_is_its_owners_and_rotation_keeps_it_so(tmp_path: Path) -> None:
    keys = Keys(tmp_path, time.time)
    for act in (keys.rotate, keys.reseal):
        act()
        assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert not {"d", "p", "q", "secret", "former"} & set(keys.published()["keys"][0])


def test_t24_a_person_between_two_pages_does_not_notice(tmp_path: Path) -> None:
    with served("sqlite", tmp_path, open_=False) as server:
        people(server)
        app, browser = App(server), Browser(server)
        page = browser.sign_in(browser.get(app.authorize("launch/patient patient/*.rs")), "doc")
        Keys(tmp_path, time.time).reseal()
        tokens = app.redeem(parameters(approve(browser, page))["code"])
        assert tokens.status_code == 200


def test_t24_no_secret_lies_in_the_database(tmp_path: Path) -> None:
    """Passwords, client secrets, tokens, codes and cookies are stored as hashes."""
    with served("sqlite", tmp_path, open_=False) as server:
        people(server)
        app, browser = App(server, "keeper", secret="a secret of the keeper 123"), Browser(server)
        scope = "launch/patient patient/*.rs offline_access"
        answer = approve(browser, browser.get(app.authorize(scope)))
        code = parameters(answer)["code"]
        tokens = app.redeem(code).json()
        secrets = [code, tokens["access_token"], tokens["refresh_token"], app.secret]
        secrets += ["correct horse battery", *browser.cookies.values()]
    found = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert not [one for one in secrets if one.encode() in found]
    assert json.loads((tmp_path / FILE).read_text())["keys"]


def test_t24_commands_take_no_secret_as_an_argument() -> None:
    for path in (Path(__file__).parents[2] / "fhir_server" / "cli").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r'"--(password|secret|token|key)"', text), path.name


def test_keys_in_memory_can_be_replaced_too(smart: Server) -> None:
    keys = Keys(None, time.time)
    first = keys.signing().kid
    assert keys.rotate() != first and keys.signing().kid != first
    sealed = keys.seals.seal("p", b"x")
    keys.reseal()
    assert keys.seals.open("p", sealed) == b"x"
