"""The settings of consent and labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhir_server.model.problem import Unavailable
from tests.consent.test_labels import observation, put, seen
from tests.serving import Server, served

RULES = '[label.GDIS]\nwords = ["brca1"]\n'


def begin(server: Server) -> Server:
    put(server, {"resourceType": "Patient", "id": "p"})
    put(server, {"resourceType": "Practitioner", "id": "d"})
    server.user("d", "family-doctor", "Practitioner/d")
    server.relation("d", "p")
    return server


def test_own_rules_label(tmp_path: Path) -> None:
    """Also what was there before them."""
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES, encoding="utf-8")
    data = tmp_path / "data"
    with served("sqlite", data, open_=False) as server:
        put(begin(server), observation("o", code={"text": "BRCA1 mutation"}))
        assert seen(server, "Observation/o")
    with served("sqlite", data, open_=False, sensitivity=rules) as server:
        assert not seen(server, "Observation/o")
        put(server, observation("o2", code={"text": "BRCA1 again"}))
        assert not seen(server, "Observation/o2")


def test_bad_rules_are_one_line(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("[label.NONE]\n", encoding="utf-8")
    with (
        pytest.raises(Unavailable, match="NONE"),
        served("memory", tmp_path / "data", sensitivity=rules),
    ):
        raise AssertionError("it must not start")


@pytest.mark.parametrize(("policy", "expected"), [("basic-normal", True), ("deny", False)])
def test_what_holds_without_a_consent(tmp_path: Path, policy: str, expected: bool) -> None:
    with served("memory", tmp_path, open_=False, unrecorded_consent=policy) as server:
        put(begin(server), observation("o"))
        assert seen(server, "Observation/o") is expected
