"""Patient/$match through HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving import BASE, Server, issue

GRADE = "http://hl7.org/fhir/StructureDefinition/match-grade"
Json = dict[str, Any]


def patient(family: str, *given: str, **others: Any) -> Json:
    return {"resourceType": "Patient", "name": [{"family": family, "given": list(given)}]} | others


BORN: Json = {"birthDate": "1980-03-07", "gender": "male"}


def load(server: Server) -> dict[str, str]:
    """name -> id"""
    rows = {
        "ivan": patient("Коваленко", "Іван", "Петрович", **BORN)
        | {"identifier": [{"system": "urn:passport", "value": "КМ 123456"}]},
        "twin": patient("Коваленко", "Степан", "Петрович", **BORN),
        "namesake": patient("Коваленко", "Іван", birthDate="1951-12-24", gender="male"),
        "julia": patient("Щеглова", "Юлия", birthDate="1990-05-01", gender="female"),
        "smith": patient("Smith", "Alexander", birthDate="1970-01-02", gender="male"),
    }
    return {name: server.create(row)["id"] for name, row in rows.items()}


def ask(server: Server, resource: Json, **options: Any) -> list[Json]:
    parameters = [{"name": "resource", "resource": resource}]
    for name, value in options.items():
        member = "valueBoolean" if isinstance(value, bool) else "valueInteger"
        parameters.append({"name": name, member: value})
    body = {"resourceType": "Parameters", "parameter": parameters}
    answer = server.post("Patient/$match", body)
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "searchset")
    entries: list[Json] = bundle.get("entry", [])
    matches = [e for e in entries if e["search"]["mode"] == "match"]
    assert bundle["total"] == len(matches)
    scores = [e["search"]["score"] for e in matches]
    assert scores == sorted(scores, reverse=True) and all(0 <= s <= 1 for s in scores)
    return entries


def grades(entries: list[Json]) -> dict[str, str]:
    return {
        e["resource"]["id"]: e["search"]["extension"][0]["valueCode"]
        for e in entries
        if e["search"]["mode"] == "match"
    }


def test_latin_finds_cyrillic_and_back(server: Server) -> None:
    ids = load(server)
    found = ask(server, patient("Kovalenko", "Ivan", **BORN))
    assert grades(found) == {ids["ivan"]: "certain", ids["twin"]: "possible"}
    first = found[0]
    assert first["fullUrl"] == f"{BASE}/Patient/{ids['ivan']}"
    assert first["resource"] == server.get(f"Patient/{ids['ivan']}").json()
    assert first["search"]["extension"][0]["url"] == GRADE
    for family, given in (
        ("Shcheglova", "Iuliia"),
        ("Shcheglova", "Yuliya"),
        ("Sheglova", "Julija"),
        ("Ščeglova", "Julija"),
        ("Щeглoвa", "Юлия"),
        ("Щелгова", "Юлия"),
        ("Щеголва", "Юлия"),
    ):
        one = patient(family, given, birthDate="1990-05-01")
        assert grades(ask(server, one))[ids["julia"]] in ("certain", "probable"), family
    for family in ("Смит", "Сміт"):
        one = patient(family, "Александер", birthDate="1970-01-02")
        assert grades(ask(server, one))[ids["smith"]] in ("certain", "probable")


def test_identifiers_and_missing_parts(server: Server) -> None:
    ids = load(server)
    passport = {"resourceType": "Patient", "identifier": [{"value": "км-123456"}]}
    assert list(grades(ask(server, passport))) == [ids["ivan"]]
    exact = {"system": "urn:passport", "value": "КМ 123456"}
    one = patient("Kovalenko", "Ivan") | {"identifier": [exact]}
    assert grades(ask(server, one))[ids["ivan"]] == "certain"
    assert ask(server, patient("Nobody", "Known", **BORN)) == []


def test_only_certain_matches_and_count(server: Server) -> None:
    ids = load(server)
    one = patient("Коваленко", "Іван", **BORN)
    assert grades(ask(server, one, onlyCertainMatches=True)) == {ids["ivan"]: "certain"}
    assert len(ask(server, one, count=1)) == 1
    server.create(patient("Kovalenko", "Ivan", **BORN))
    (outcome,) = ask(server, one, onlyCertainMatches=True)
    assert outcome["search"]["mode"] == "outcome"
    assert ask(server, patient("Kovalenko", "Ivan"), onlyCertainMatches=True) == []
    answer = server.post("Patient/$match", one)
    assert answer.status_code == 200 and answer.json()["total"] == 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"resourceType": "Patient"}, 400),
        ({"resourceType": "Patient", "birthDate": "1980-01-01", "gender": "male"}, 400),
        ({"resourceType": "Practitioner", "name": [{"family": "X"}]}, 400),
        ({"resourceType": "Parameters"}, 400),
    ],
)
def test_what_is_refused(server: Server, body: Json, status: int) -> None:
    answer = server.post("Patient/$match", body)
    assert answer.status_code == status, answer.text
    issue(answer)
    assert server.get("Patient/$match").status_code == 400


def test_hidden_patients_neither_match_nor_count(secured: Server) -> None:
    secured.headers = secured.bearer("system/*.cruds")
    ids = load(secured)
    one = patient("Kovalenko", "Ivan", **BORN)
    whole = ask(secured, one)
    secured.headers = secured.bearer("patient/Patient.rs", patient=ids["twin"])
    own = ask(secured, one)
    assert grades(own) == {ids["twin"]: "possible"}
    assert own == [e for e in whole if e["resource"]["id"] == ids["twin"]]
    secured.headers = secured.bearer("patient/Observation.rs", patient=ids["twin"])
    body = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": one}]}
    assert secured.post("Patient/$match", body).status_code == 403


def test_the_keys_are_no_search_parameter(server: Server) -> None:
    load(server)
    answer = server.get("Patient?_match=i:123456", headers={"prefer": "handling=strict"})
    assert answer.status_code == 400
    assert "_match" not in server.get("metadata").text


def test_a_changed_name_is_found_by_the_new_one_only(server: Server) -> None:
    ids = load(server)
    server.put(
        f"Patient/{ids['julia']}",
        patient("Петренко", "Олена", birthDate="1990-05-01") | {"id": ids["julia"]},
    )
    assert ask(server, patient("Shcheglova", "Iuliia", birthDate="1990-05-01")) == []
    assert ids["julia"] in grades(ask(server, patient("Petrenko", "Olena")))


def test_more_than_is_compared_is_refused(server: Server) -> None:
    one = {"resourceType": "Patient", "identifier": [{"value": str(n)} for n in range(501)]}
    body = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": one}]}
    answer = server.post("Patient/$match", body)
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["code"] == "too-costly"
