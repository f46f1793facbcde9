"""What is seen of a server with a value of a setting."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from fhir_server.app import job_queue
from fhir_server.cli.user import otp
from fhir_server.config import Settings, SettingsError, read
from fhir_server.http.middleware import edge_rules
from fhir_server.workers.process import configuration
from operations.models.registry import SHIPPED
from tests.serving import Json, Server, served

PATIENT: Json = {"resourceType": "Patient"}
ROOT = Path(__file__).parents[2]
Act = Callable[[Path, Any], None]
"""(folder, value): what is seen with a value of the setting."""


def seen(check: Callable[[Server], None], name: str, *, open_: bool = True) -> Act:
    """On a server with this setting."""

    def act(folder: Path, value: Any) -> None:
        with served("sqlite", folder, open_=open_, **{name: value}) as server:
            check(server)

    return act


def elsewhere(*places: str) -> Act:
    """Tests of other files ("path::name") that show it."""

    def act(_: Path, __: Any) -> None:
        for place in places:
            path, _, name = place.partition("::")
            text = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), place

    return act


def only_its_default(folder: Path, value: Any) -> None:
    with pytest.raises(SettingsError):
        read({f"VEHR_{value}": "something"})


def status(method: str, url: str, code: int, **options: Any) -> Callable[[Server], None]:
    def check(server: Server) -> None:
        answer = server.send(method, url, **options)
        assert answer.status_code == code, answer.text

    return check


def pages(size: int, query: str) -> Callable[[Server], None]:
    def check(server: Server) -> None:
        for _ in range(5):
            server.create(PATIENT)
        assert len(server.get(f"Patient?{query}").json()["entry"]) == size

    return check


def uncompressed(server: Server) -> None:
    assert "content-encoding" not in server.get("metadata").headers


def urls(server: Server) -> None:
    answer = server.post("Patient", PATIENT)
    assert answer.headers["location"].startswith("https://ehr.example/fhir/Patient/")


def host(server: Server) -> None:
    assert server.get("metadata", headers={"host": "other.example"}).status_code == 200
    assert server.get("metadata", headers={"host": "third.example"}).status_code == 400


def origin(server: Server) -> None:
    allowed = "access-control-allow-origin"
    for name, known in (("https://app.example", True), ("https://evil.example", False)):
        answer = server.get("Patient", headers={"origin": name})
        assert (answer.headers.get(allowed) == name) is known


def rated(server: Server) -> None:
    server.user("doc", "family-doctor", "Practitioner/d")
    headers = server.bearer("user/*.rs", user="doc")
    found = [server.get("Practitioner", headers=headers).status_code for _ in range(3)]
    assert found == [200, 200, 429]


def zone(server: Server) -> None:
    made = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    server.create(made | {"effectiveDateTime": "2020-01-01T23:30:00Z"})
    for date, total in (("2020-01-01T23:30", 0), ("2020-01-02T01:30", 1)):
        assert server.get(f"Observation?date={date}").json()["total"] == total


def several(server: Server) -> None:
    for _ in range(2):
        server.create(PATIENT | {"gender": "male"})
    assert server.delete("Patient?gender=male").status_code in (200, 204)
    assert server.get("Patient").json()["total"] == 0


def models(folder: Path, value: Any) -> None:
    further = folder / "models"
    shutil.copytree(SHIPPED / "score2", further / "mine")
    card = further / "mine" / "card.toml"
    text = card.read_text(encoding="utf-8")
    card.write_text(re.sub(r"(?m)^version = .*$", 'version = "999.0.0"', text), encoding="utf-8")
    for given, known in ((None, False), (further, True)):
        with served("sqlite", folder / str(known), models=given) as server:
            server.put("Patient/p", PATIENT | {"id": "p"})
            answer = server.get("Patient/p/$predict", params={"model": "score2|999.0.0"})
            assert (answer.status_code == 404) is not known, answer.text


def data(folder: Path, value: Any) -> None:
    with served("sqlite", folder / "here") as server:
        server.create(PATIENT)
    assert (folder / "here" / "vehr.sqlite").is_file()


def nothing_kept(folder: Path, value: Any) -> None:
    with served("memory", folder) as server:
        server.create(PATIENT)
    assert not (folder / "vehr.sqlite").exists()


def domain(folder: Path, value: Any) -> None:
    """It stands in what an authenticator app shows."""
    said = io.StringIO()
    with (
        mock.patch("fhir_server.cli.user.administering", return_value="KEY"),
        mock.patch.dict(os.environ, VEHR_DOMAIN=value),
        contextlib.redirect_stdout(said),
    ):
        otp("ann", remove=False, data=folder)
    assert "vEHR%20north" in said.getvalue(), said.getvalue()


def entries(count: int) -> Json:
    entry = {"resource": PATIENT, "request": {"method": "POST", "url": "Patient"}}
    return {"resourceType": "Bundle", "type": "transaction", "entry": [entry] * count}


def retention(folder: Path, value: Any) -> None:
    with served("sqlite", folder, job_hours=value) as server:
        queue = job_queue(server.domain, folder / "jobs")
        assert queue.rules.retention == value * 3600


def of_uvicorn(name: str, read_: Callable[[Any], Any]) -> Act:
    """Handed to the connections, whose tests are in ``test_admission.py``."""

    def act(folder: Path, value: Any) -> None:
        async def nothing(*_: Any) -> None:
            return None

        settings = replace(Settings(), **{name: value})
        assert read_(configuration(nothing, settings)) == value

    return act


def of_edge(name: str) -> Act:
    def act(folder: Path, value: Any) -> None:
        rules = edge_rules(replace(Settings(), **{name: value}), "/fhir", open_=True)
        assert getattr(rules, name) == value

    return act


def both(*acts: Act) -> Act:
    def act(folder: Path, value: Any) -> None:
        for one in acts:
            one(folder, value)

    return act
