"""Profiles put in force and taken away over HTTP, by administrators, at once for every process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from operations.deid.profile import FOLDER
from operations.deid.shelf import Shelf
from operations.deidentification import deidentification
from tests.serving import Json, Server, issue, served

BASE = "http://127.0.0.1:8080/deid/profiles"
MINE: Json = {
    "url": "https://h.example/profiles/mine",
    "version": "1.0.0",
    "title": "Mine",
    "fhirPathRules": [{"path": "Patient.gender", "method": "keep"}],
}


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("profiles") / "data"
    with served("sqlite", folder, open_=False) as server:
        system = server.bearer("system/*.cruds")
        patient = {"resourceType": "Patient", "gender": "female", "birthDate": "1961-05-17"}
        for resource in (patient, {"resourceType": "Practitioner"}):
            url = f"{resource['resourceType']}/p"
            assert server.put(url, resource | {"id": "p"}, headers=system).status_code == 201
        server.user("boss", "admin", "Practitioner/p")
        yield server


@pytest.fixture
def server(everybody: Server) -> Server:
    """Without a profile of another test."""
    folder = deidentification(everybody.domain.settings).shelf.folder
    shutil.rmtree(folder, ignore_errors=True)
    return everybody


def ask(server: Server, method: str, url: str = "", **options: Any) -> httpx.Response:
    headers = options.pop("headers", None)
    if headers is None:
        headers = server.bearer("user/*.cruds", user="boss")
    if "json" in options:
        options["content"] = json.dumps(options.pop("json"))
    if "content" in options:
        headers = {**headers, "content-type": "application/json"}
    return server.send(method, BASE + url, headers=headers, **options)


def put(server: Server, name: str, document: Any, **query: str) -> httpx.Response:
    params = {"reason": "approved by the board", **query}
    return ask(server, "PUT", f"/{name}", json=document, params=params)


def anonymized(server: Server, profile: str) -> httpx.Response:
    headers = server.bearer("system/*.rs")
    return server.get("Patient/p/$anonymize", params={"profile": profile}, headers=headers)


def patient_of(answer: httpx.Response) -> Json:
    assert answer.status_code == 200, answer.text
    found = answer.json()["entry"][0]["resource"]
    return {name: found[name] for name in ("gender", "birthDate") if name in found}


def names(server: Server) -> list[str]:
    told = ask(server, "GET").json()["parameter"]
    return [profile["part"][0]["valueCode"] for profile in told]


def test_the_life_of_a_profile(server: Server) -> None:
    assert names(server) == ["limited", "research", "safe-harbor"]
    assert anonymized(server, "mine").status_code == 404
    made = put(server, "mine", MINE)
    assert made.status_code == 200, made.text
    told = {part["name"]: part for part in made.json()["parameter"]}
    assert told["canonical"]["valueCanonical"] == f"{MINE['url']}|1.0.0"
    for name in ("mine", MINE["url"], f"{MINE['url']}|1.0.0", "mine|1.0.0"):
        assert patient_of(anonymized(server, name)) == {"gender": "female"}
    born = {"path": "Patient.birthDate", "method": "keep"}
    newer = {**MINE, "version": "1.1.0", "fhirPathRules": [born]}
    assert put(server, "mine", newer).status_code == 200
    assert patient_of(anonymized(server, "mine")) == {"birthDate": "1961-05-17"}
    assert patient_of(anonymized(server, "mine|1.0.0")) == {"gender": "female"}
    assert patient_of(anonymized(server, f"{MINE['url']}|1.0.0")) == {"gender": "female"}
    [whole] = ask(server, "GET", "/mine").json()["parameter"]
    versions = [
        {part["name"]: part for part in one["part"]}
        for one in whole["part"]
        if one["name"] == "version"
    ]
    assert [one["version"]["valueString"] for one in versions] == ["1.0.0", "1.1.0"]
    assert [one["current"]["valueBoolean"] for one in versions] == [False, True]
    [content] = [one["valueString"] for one in whole["part"] if one["name"] == "content"]
    assert json.loads(content) == newer
    assert ask(server, "DELETE", "/mine", params={"reason": "ended"}).status_code == 200
    for name in ("mine", MINE["url"], "mine|1.0.0"):
        assert anonymized(server, name).status_code == 404
    assert names(server) == ["limited", "research", "safe-harbor"]
    assert put(server, "mine", MINE).status_code == 200
    assert patient_of(anonymized(server, "mine")) == {"gender": "female"}


def test_another_process_has_it_at_once(server: Server) -> None:
    other = Shelf(deidentification(server.domain.settings).shelf.folder)
    assert put(server, "mine", MINE).status_code == 200
    assert other.find("mine").profile.version == "1.0.0"
    ask(server, "DELETE", "/mine", params={"reason": "ended"})
    assert other.codes() == ["limited", "research", "safe-harbor"]


def test_the_record_tells_who_did_it_and_why(server: Server) -> None:
    put(server, "told", MINE)
    ask(server, "DELETE", "/told", params={"reason": "the study has ended"})
    admin = server.bearer("user/*.rs", user="boss")
    library = server.get("Library/deid-told-1.0.0", headers=admin).json()
    assert (library["status"], library["version"]) == ("retired", "1.0.0")
    assert "fhirPathRules" not in json.dumps(library)
    system = server.bearer("system/*.rs")
    found = server.get("Provenance?target=Library/deid-told-1.0.0", headers=system).json()
    told = {
        one["resource"]["activity"]["text"]: one["resource"]["reason"][0]["text"]
        for one in found["entry"]
    }
    assert told == {
        "de-identification profile add": "approved by the board",
        "de-identification profile remove": "the study has ended",
    }
    assert "Practitioner/p" in json.dumps(found)
    audit = server.get("AuditEvent", headers=admin).text
    assert "deid-profile-add" in audit and "deid-profile-remove" in audit


def rules(*given: Json) -> Json:
    return {**MINE, "fhirPathRules": list(given)}


@pytest.mark.parametrize(
    ("document", "place", "text"),
    [
        ([], None, "fhirPathRules is missing"),
        (rules({"path": "Patient.name"}), "fhirPathRules[0]", "method"),
        (
            rules(*MINE["fhirPathRules"], {"path": "Patient.nmae", "method": "redact"}),
            "fhirPathRules[1]",
            "name?",
        ),
        (rules({"path": "Patient.name", "method": "redcat"}), "fhirPathRules[0]", "redcat"),
        (
            rules(*MINE["fhirPathRules"], {"path": "Patient.gender", "method": "redact"}),
            "fhirPathRules[1]",
            "earlier rules",
        ),
        ({**MINE, "version": "a version of mine"}, "version", "letters"),
    ],
)
def test_what_is_not_sound_is_refused_with_its_place(
    server: Server, document: Any, place: str | None, text: str
) -> None:
    refused = put(server, "mine", document)
    found = issue(refused)
    assert refused.status_code == 422 and text in found["diagnostics"], refused.text
    assert found.get("expression") == ([place] if place else None)
    assert "mine" not in names(server) and anonymized(server, "mine").status_code == 404


def test_a_file_of_the_other_tool(server: Server) -> None:
    """It loads; what never acts in it, as in its own sample, has to be accepted by a person."""
    redact = {"path": "HealthcareService.notAvaliable", "method": "redact"}
    document = {"fhirVersion": "R4", "fhirPathRules": [redact, *MINE["fhirPathRules"]]}
    refused = put(server, "theirs", document)
    assert refused.status_code == 422 and issue(refused)["expression"] == ["fhirPathRules[0]"]
    assert put(server, "theirs", document, accept="all").status_code == 400
    taken = put(server, "theirs", document, accept="dead")
    assert taken.status_code == 200, taken.text
    found = [one["part"] for one in taken.json()["parameter"] if one["name"] == "finding"]
    assert [one[0]["valueCode"] for one in found] == ["dead", "warning"]
    assert patient_of(anonymized(server, "theirs"))["gender"] == "female"


def test_validate_tells_and_keeps_nothing(server: Server) -> None:
    document = rules({"path": "Patient.nmae", "method": "redact"})
    answer = ask(server, "POST", "/validate", json=document)
    [found] = answer.json()["parameter"]
    assert answer.status_code == 200
    assert [part["name"] for part in found["part"]] == ["severity", "text", "rule"]
    assert ask(server, "POST", "/validate", json=MINE).json() == {"resourceType": "Parameters"}
    for text in ("nothing", "[" * 100_000):
        answer = ask(server, "POST", "/validate", content=text)
        assert (answer.status_code, "not JSON" in answer.text) == (200, True)
    assert len(names(server)) == 3


def test_what_may_not_be(server: Server) -> None:
    put(server, "mine", MINE)
    shipped = json.loads((FOLDER / "limited.json").read_text())
    reason = {"reason": "x"}
    for status, answer in (
        (409, put(server, "safe-harbor", MINE)),
        (409, put(server, "other", shipped)),
        (409, put(server, "other", MINE)),
        (409, put(server, "mine", {**MINE, "title": "Another of this version"})),
        (409, ask(server, "DELETE", "/safe-harbor", params=reason)),
        (404, ask(server, "DELETE", "/none", params=reason)),
        (404, ask(server, "DELETE", "/..%2Fx", params=reason)),
        (404, ask(server, "GET", "/none")),
        (400, put(server, "Mine", MINE)),
        (400, put(server, "a%2Fb", MINE)),
        (400, put(server, "mine", MINE, reason=" ")),
        (400, ask(server, "DELETE", "/mine")),
        (405, ask(server, "POST", "/mine", json=MINE)),
    ):
        assert answer.status_code == status and issue(answer), answer.text
    assert names(server) == ["limited", "research", "safe-harbor", "mine"]


def test_for_administrators_alone(server: Server) -> None:
    server.user("dora", "family-doctor", "Practitioner/p")
    for headers in (
        {},
        server.bearer("user/*.cruds", user="dora"),
        server.bearer("user/*.rs", user="boss"),
        server.bearer("system/*.cruds"),
    ):
        for method, url, options in (
            ("GET", "", {}),
            ("PUT", "/mine", {"json": MINE, "params": {"reason": "x"}}),
            ("POST", "/validate", {"json": MINE}),
            ("DELETE", "/mine", {"params": {"reason": "x"}}),
        ):
            answer = ask(server, method, url, headers=headers, **options)
            assert answer.status_code == (403 if headers else 401), (method, answer.text)
    assert names(server) == ["limited", "research", "safe-harbor"]
