"""Keys that are lost, or whose file is damaged: nothing is made anew, and nothing leaves."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fhir_server.cli.doctor import keys as looked_at
from fhir_server.model.problem import Conflict, Unavailable
from operations.deid import keys as module
from operations.deid.assembly import Deidentification
from operations.deid.keys import KeyRing
from operations.deid.vault import Vault
from operations.deidentification import deidentification
from tests.serving import Json, Server, issue, served

PSEUDONYMS = "Patient/p/$anonymize?profile=research&project=study"
REASON = "an incidental finding has to be told to the patient"


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    """With a project, the key of a vault, and a vault."""
    made = KeyRing(tmp_path / "keys.json", lambda: 0.0, tmp_path / "vault.sqlite")
    made.add("study")
    Vault(tmp_path / "vault.sqlite", made.vault)._keep(made.project("study"), {"Patient/1": "x"}, 0)
    return made


def again(ring: KeyRing) -> KeyRing:
    """As another process, or a server that starts, has it."""
    return KeyRing(ring.path, lambda: 0.0, ring._sealed)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_file_that_is_lost_is_not_made_anew(ring: KeyRing, fresh: bool) -> None:
    whole = ring.path.read_bytes()
    ring.path.unlink()
    asked = again(ring) if fresh else ring
    for act in (
        asked.vault,
        asked.known,
        asked.check,
        lambda: asked.project("study"),
        lambda: asked.add("other"),
        lambda: asked.rotate("study"),
    ):
        with pytest.raises(Unavailable, match="brought back"):
            act()
    assert not ring.path.exists()
    ring.path.write_bytes(whole)
    assert asked.project("study").version == 1 and asked.vault()


def test_a_file_that_is_lost_before_there_is_a_vault(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys.json", lambda: 0.0, tmp_path / "vault.sqlite")
    ring.add("study")
    ring.path.unlink()
    with pytest.raises(Unavailable, match="brought back"):
        ring.vault()
    assert not ring.path.exists()
    assert KeyRing(ring.path, lambda: 0.0, ring._sealed).add("study") == 1


def test_another_file_in_its_place_gets_no_key_of_the_vault(ring: KeyRing) -> None:
    other = json.loads(ring.path.read_text())
    del other["vault"]
    ring.path.write_text(json.dumps(other))
    with pytest.raises(Unavailable, match="vault"):
        ring.vault()
    assert "vault" not in json.loads(ring.path.read_text())


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"projects": []}', '{"projects": {"study": [{}]}}', '{"vault": {"vault": 1}}'],
)
def test_a_damaged_file(ring: KeyRing, text: str) -> None:
    ring.path.write_text(text)
    with pytest.raises(Unavailable, match="damaged"):
        ring.project("study")
    with pytest.raises(Unavailable, match="damaged"):
        ring.add("other")
    assert ring.path.read_text() == text


def test_a_key_that_could_not_be_written_is_not_used(
    ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, ring: Json) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(module, "_replace", full)
    with pytest.raises(Unavailable, match="cannot be written"):
        ring.rotate("study")
    assert ring.project("study").version == 1
    with pytest.raises(Conflict):
        ring.add("study")


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("keys") / "data"
    with served("sqlite", folder, open_=False, research="on", research_project="study") as server:
        system = server.bearer("system/*.cruds")
        for resource in ({"resourceType": "Patient"}, {"resourceType": "Practitioner"}):
            url = f"{resource['resourceType']}/p"
            assert server.put(url, resource | {"id": "p"}, headers=system).status_code == 201
        deidentification(server.domain.settings).keys.add("study")
        server.user("keeper", "custodian", "Practitioner/p")
        yield server


def asked(server: Server, pseudonym: str) -> tuple[int, str]:
    named = {"project": "study", "reason": REASON, "pseudonym": pseudonym}
    parameter = [{"name": name, "valueString": value} for name, value in named.items()]
    body = {"resourceType": "Parameters", "parameter": parameter}
    answer = server.post("$reidentify", body, headers=server.bearer("user/*.rs", user="keeper"))
    return answer.status_code, answer.text


def test_a_server_whose_keys_are_lost(ward: Server) -> None:
    """Nothing that needs them leaves; what needs none does; the file is not made anew."""
    system = ward.bearer("system/*.rs")
    first = ward.get(PSEUDONYMS, headers=system)
    assert first.status_code == 200, first.text
    pseudonym = first.json()["entry"][0]["resource"]["id"]
    assert asked(ward, pseudonym)[0] == 200
    deid: Deidentification = deidentification(ward.domain.settings)
    assert looked_at(ward.domain.settings).well
    whole = deid.keys.path.read_bytes()
    deid.keys.path.unlink()
    refused = ward.get(PSEUDONYMS, headers=system)
    assert refused.status_code == 503 and issue(refused) and "entry" not in refused.text
    status, text = asked(ward, pseudonym)
    assert status == 503 and "Patient/p" not in text
    assert ward.get("Patient/p/$anonymize", headers=system).status_code == 200
    assert not looked_at(ward.domain.settings).well
    assert not deid.keys.path.exists()
    deid.keys.path.write_bytes(whole)
    assert ward.get(PSEUDONYMS, headers=system).json()["entry"][0]["resource"]["id"] == pseudonym
    assert asked(ward, pseudonym)[0] == 200
