"""SearchParameters of installed packages: in force like posted ones, gone with their package."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.operations.test_validate import install, package, profile
from tests.search.test_custom import BY_EYES, found, listed, parameter, patient
from tests.serving import BACKENDS, Server, served

Json = dict[str, Any]
NAME = "org.example.searching"
OWN = parameter("eyes", BY_EYES)


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path) as server:
        yield server


def told(answer: Any) -> dict[str, tuple[str, str]]:
    """code -> state and reason, of an answer about packages."""
    assert answer.status_code == 200, answer.text
    states = {}
    for one in answer.json()["parameter"]:
        for part in one.get("part", ()):
            if part["name"] == "search":
                row = {p["name"]: p.get("valueCode", p.get("valueString")) for p in part["part"]}
                states[row["code"]] = row["state"], row.get("reason", "")
    return states


def job(server: Server, answer: Any) -> str:
    """The status URL of the reindex, "" if there is none; it has ended."""
    named = [one["valueUri"] for one in answer.json()["parameter"] if one["name"] == "reindex"]
    for url in named:
        for _ in range(3000):
            if server.get(url).status_code not in (202, 429):
                break
            server.run(asyncio.sleep(0.02))
    return named[0] if named else ""


def removed(server: Server, id_: str) -> Any:
    part = {"name": "package", "valueString": id_}
    return server.post(
        "ImplementationGuide/$remove", {"resourceType": "Parameters", "parameter": [part]}
    )


def test_a_package_brings_its_search_parameters(server: Server) -> None:
    one = server.create(patient("blue"))["id"]
    answer = install(server, package(OWN, name=NAME))
    assert told(answer) == {"eyes": ("waiting", "")}
    assert job(server, answer)
    assert told(server.get("ImplementationGuide/$installed")) == {"eyes": ("usable", "")}
    assert "eyes" in listed(server)
    two = server.create(patient("blue"))["id"]
    assert found(server, "eyes=blue") == sorted((one, two))
    again = install(server, package(OWN, name=NAME))
    assert again.status_code == 200 and not job(server, again)
    assert told(removed(server, f"{NAME}#1.0.0")) == {}
    assert "eyes" not in listed(server)
    strict = {"prefer": "handling=strict"}
    assert server.get("Patient?eyes=blue", headers=strict).status_code == 400


def test_nothing_of_before_is_found_after_it_was_away(server: Server) -> None:
    job(server, install(server, package(OWN, name=NAME)))
    removed(server, f"{NAME}#1.0.0")
    missed = server.create(patient("blue"))["id"]
    job(server, install(server, package(OWN, name=NAME)))
    assert found(server, "eyes=blue") == [missed]


def test_what_gives_way_is_told(server: Server) -> None:
    base = "http://hl7.org/fhir/SearchParameter/individual-birthdate"
    again = parameter("birthdate", "Patient.birthDate", "date") | {"derivedFrom": base}
    other = parameter("gender", BY_EYES, "string")
    broken = {"resourceType": "SearchParameter", "url": "urn:x:broken", "status": "active"}
    draft = parameter("later", BY_EYES) | {"status": "draft"}
    for number, row in enumerate((again, other, draft)):
        row["url"] = f"urn:x:{number}"
    answer = install(server, package(again, other, broken, draft, name=NAME))
    rows = answer.json()["parameter"][0]["part"]
    states = [
        [p.get("valueUri", p.get("valueCode", p.get("valueString"))) for p in one["part"]]
        for one in rows
        if one["name"] == "search"
    ]
    assert sorted(states) == [
        ["urn:x:0", "birthdate", "published"],
        ["urn:x:1", "gender", "refused", "Patient has a search parameter 'gender' already"],
        ["urn:x:2", "later", "refused", "it is not active"],
        ["urn:x:broken", "refused", "it lacks what a SearchParameter has to have"],
    ]
    assert not job(server, answer)


def test_who_comes_first_is_in_force(server: Server) -> None:
    server.create(OWN)
    answer = install(server, package(OWN, name=NAME))
    taken = "Patient has a search parameter 'eyes' already"
    assert told(answer) == {"eyes": ("refused", taken)}
    second = parameter("hair", BY_EYES)
    job(server, install(server, package(second, name="org.example.second")))
    refused = server.post("SearchParameter", second | {"url": "urn:x:other"})
    assert refused.status_code == 422 and "already" in refused.text


def test_they_may_be_left_out(server: Server) -> None:
    answer = install(server, package(OWN, name=NAME), searching=False)
    assert told(answer) == {} and not job(server, answer)
    assert "eyes" not in listed(server)
    assert install(server, package(OWN, name=NAME)).status_code == 409
    assert install(server, package(OWN, name=NAME), searching=False).status_code == 200


def test_the_statement_names_the_profiles_of_packages(server: Server) -> None:
    """Those on resources; a posted one is no claim of the server."""

    def supported() -> dict[str, list[str]]:
        rows = server.get("metadata").json()["rest"][0]["resource"]
        return {row["type"]: row["supportedProfile"] for row in rows if "supportedProfile" in row}

    before = supported()
    base = "http://example.org/StructureDefinition/"
    part = profile(url=base + "part", type_="HumanName") | {"kind": "complex-type"}
    pattern = profile(url=base + "pattern") | {"abstract": True}
    vital = profile(url=base + "vital", type_="Observation")
    kept = (profile(url=base + "one"), profile(url=base + "two"), vital, part, pattern)
    server.create(profile(url=base + "posted"))
    assert supported() == before == {}
    install(server, package(*kept, name=NAME), searching=False)
    named = {"Observation": [base + "vital"], "Patient": [base + "one", base + "two"]}
    assert supported() == named
    removed(server, f"{NAME}#1.0.0")
    assert supported() == {}
