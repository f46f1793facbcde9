"""SearchParameters posted at run time: https://hl7.org/fhir/R4/searchparameter.html"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving import BACKENDS, Json, Server, issue, served

EYES = "http://example.org/eyes"


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with served(request.param, tmp_path) as server:
        yield server


def parameter(code: str, expression: str, type_: str = "token", **more: object) -> Json:
    return {
        "resourceType": "SearchParameter",
        "url": f"http://example.org/SearchParameter/{code}",
        "name": code.replace("-", "_"),
        "status": "active",
        "description": code,
        "code": code,
        "base": ["Patient"],
        "type": type_,
        "expression": expression,
        **more,
    }


def patient(eyes: str, **more: object) -> Json:
    return {
        "resourceType": "Patient",
        "extension": [{"url": EYES, "valueCode": eyes}],
        **more,
    }


BY_EYES = f"Patient.extension('{EYES}').value"


def reindex(server: Server, where: str = "Patient/$reindex", **options: object) -> httpx.Response:
    """Kicks off, waits until it has ended; the last answer of the status URL."""
    started = server.send("POST", where, **options)  # type: ignore[arg-type]
    assert started.status_code == 202, started.text
    url = started.headers["content-location"]
    for _ in range(400):
        answer = server.get(url, headers=options.get("headers", {}))
        if answer.status_code not in (202, 429):
            return answer
        server.run(asyncio.sleep(0.02))
    raise AssertionError("the reindex does not end")


def found(server: Server, query: str) -> list[str]:
    answer = server.get(f"Patient?{query}&_count=1000")
    assert answer.status_code == 200, answer.text
    entries = answer.json().get("entry", ())
    return sorted(e["resource"]["id"] for e in entries if e["search"]["mode"] == "match")


def listed(server: Server, type_: str = "Patient") -> set[str]:
    rest = server.get("metadata").json()["rest"][0]
    (row,) = [r for r in rest["resource"] if r["type"] == type_]
    return {p["name"] for p in row["searchParam"]}


def test_usable_once_a_reindex_has_covered_what_was_there(server: Server) -> None:
    blue = server.create(patient("blue"))["id"]
    server.create(patient("brown"))
    unknown = server.get("Patient?eyes=blue", headers={"prefer": "handling=strict"})
    assert unknown.status_code == 400 and "unknown" in issue(unknown)["diagnostics"]
    server.create(parameter("eyes", BY_EYES))
    later = server.create(patient("blue"))["id"]
    for query in (
        "Patient?eyes=blue",
        "Patient?eyes:missing=true",
        "Patient?_sort=eyes",
        "Observation?patient.eyes=blue",
        "Observation?subject:Patient.eyes=blue",
    ):
        refused = server.get(query)
        assert refused.status_code == 400, query
        assert "eyes" in issue(refused)["diagnostics"]
        assert "not completely indexed" in issue(refused)["diagnostics"]
    assert "eyes" not in listed(server)
    done = reindex(server)
    assert done.status_code == 200, done.text
    assert {"name": "renewed", "valueInteger": 2} in done.json()["parameter"]
    assert found(server, "eyes=blue") == sorted([blue, later])
    assert "eyes" in listed(server)
    newest = server.create(patient("blue"))["id"]
    assert found(server, "eyes=blue") == sorted([blue, later, newest])
    assert found(server, "eyes:not=blue") != []
    assert found(server, "eyes:missing=true") == []


@pytest.mark.parametrize(
    ("type_", "expression", "body", "query"),
    [
        ("string", "Patient.contact.name.family", {"contact": [{"name": {"family": "Ångström"}}]},
         "angs"),
        ("date", "Patient.identifier.period", {"identifier": [{"period": {"start": "2020"}}]},
         "ge2021"),
        ("number", "Patient.multipleBirth as integer", {"multipleBirthInteger": 3}, "gt2"),
        ("reference", "Patient.contact.organization",
         {"contact": [{"organization": {"reference": "Organization/1"}}]}, "Organization/1"),
        ("uri", "Patient.identifier.system", {"identifier": [{"system": "urn:a"}]}, "urn:a"),
        ("quantity", f"Patient.extension.where(url='{EYES}').value",
         {"extension": [{"url": EYES, "valueQuantity": {"value": 5}}]}, "5"),
        # As JSON names a choice, and no FHIRPath: US Core 6.1 has such a one.
        ("date", f"Patient.extension.where(url = '{EYES}').valueDateTime",
         {"extension": [{"url": EYES, "valueDateTime": "2020-05-05"}]}, "ge2020"),
        ("number", "Patient.multipleBirthInteger", {"multipleBirthInteger": 3}, "gt2"),
        # Beyond the compiled subset:
        ("token", "iif(Patient.name.count() > 1, 'many', 'one')", {"name": [{}, {}]}, "many"),
        ("string", "Patient.name.given.first()", {"name": [{"given": ["Ada", "Eve"]}]}, "ada"),
        ("number", "Patient.name.count()", {"name": [{"text": "a"}, {"text": "b"}]}, "2"),
        ("token", "Patient.telecom.where(rank < 2)",
         {"telecom": [{"rank": 1, "system": "phone", "value": "5"}]}, "5"),
        ("token", "Patient.deceased.exists()", {"deceasedBoolean": False}, "true"),
    ],
)  # fmt: skip
def test_every_type_and_both_ways_of_reading(
    server: Server, type_: str, expression: str, body: Json, query: str
) -> None:
    body = {"name": [{"text": "a"}, {"text": "b"}]} if body.get("name") == [{}, {}] else body
    before = server.create({"resourceType": "Patient", **body})["id"]
    server.create({"resourceType": "Patient", "gender": "male"})
    server.create(parameter("mine", expression, type_))
    assert reindex(server).status_code == 200
    after = server.create({"resourceType": "Patient", **body})["id"]
    assert found(server, f"mine={query}") == sorted([before, after])


@pytest.mark.parametrize(
    ("change", "element", "said"),
    [
        ({"code": "gender"}, "code", "gender"),
        ({"code": "_id"}, "code", "letter first"),
        ({"code": "a.b"}, "code", "letter first"),
        ({"code": "name", "base": ["DomainResource"]}, "code", "already"),
        ({"type": "composite"}, "type", "composite"),
        ({"type": "special"}, "type", "special"),
        ({"xpathUsage": "phonetic"}, "xpathUsage", "phonetic"),
        ({"url": "http://hl7.org/fhir/SearchParameter/Patient-link"}, "url", "FHIR itself"),
        ({"expression": "Patient.nothing"}, "expression", "token"),
        ({"expression": "Patient.birthDate"}, "expression", "token"),
        ({"expression": "Patient.gender | Patient.nothing"}, "expression", "nothing"),
        ({"expression": "Observation.status"}, "expression", "Patient"),
        ({"expression": "Patient.name.where("}, "expression", "FHIRPath"),
        ({"expression": "Patient.name.foo()"}, "expression", "foo"),
        ({"expression": "Patient.nothing.first()"}, "expression", "nothing"),
        ({"expression": "iif(today() > @2020, 'a', 'b')"}, "expression", "today"),
        ({"expression": "Patient.link.other.resolve().gender"}, "expression", "resolve"),
        ({"expression": None}, "expression", "needed"),
    ],
)  # fmt: skip
def test_what_cannot_be_in_force_is_refused(
    server: Server, change: Json, element: str, said: str
) -> None:
    body = parameter("eyes", BY_EYES) | change
    body = {name: value for name, value in body.items() if value is not None}
    answer = server.post("SearchParameter", body)
    assert answer.status_code == 422, answer.text
    first = issue(answer)
    assert first["expression"] == [f"SearchParameter.{element}"], first
    assert said in first["diagnostics"]
    draft = server.post("SearchParameter", body | {"status": "draft"})
    assert draft.status_code == 201, draft.text


def test_a_code_is_free_only_once(server: Server) -> None:
    made = server.create(parameter("eyes", BY_EYES))
    again = server.post("SearchParameter", parameter("eyes", "Patient.gender"))
    assert again.status_code == 422 and "already" in issue(again)["diagnostics"]
    elsewhere = parameter("eyes", "Person.gender", base=["Person"])
    assert server.post("SearchParameter", elsewhere).status_code == 201
    assert server.put(f"SearchParameter/{made['id']}", made).status_code == 200


def test_changes_take_effect_on_the_next_request(server: Server) -> None:
    server.create(patient("blue", gender="male"))
    made = server.create(parameter("eyes", BY_EYES))
    url = f"SearchParameter/{made['id']}"
    assert reindex(server).status_code == 200
    assert len(found(server, "eyes=blue")) == 1
    # The same meaning in another version: nothing to do.
    assert server.put(url, made | {"description": "colour"}).status_code == 200
    assert len(found(server, "eyes=blue")) == 1
    # Another meaning.
    assert server.put(url, made | {"expression": "Patient.gender"}).status_code == 200
    assert server.get("Patient?eyes=male").status_code == 400
    assert reindex(server).status_code == 200
    assert len(found(server, "eyes=male")) == 1 and found(server, "eyes=blue") == []
    # Retired: unknown; in force again: what was written meanwhile is not indexed.
    assert server.put(url, made | {"status": "retired"}).status_code == 200
    strict = {"prefer": "handling=strict"}
    assert "unknown" in issue(server.get("Patient?eyes=blue", headers=strict))["diagnostics"]
    assert "eyes" not in listed(server)
    server.create(patient("blue"))
    assert server.put(url, made).status_code == 200
    assert "not completely indexed" in issue(server.get("Patient?eyes=blue"))["diagnostics"]
    assert reindex(server).status_code == 200
    assert len(found(server, "eyes=blue")) == 2
    assert server.delete(url).status_code == 204
    assert "unknown" in issue(server.get("Patient?eyes=blue", headers=strict))["diagnostics"]


def test_includes_and_chains_by_a_posted_reference(server: Server) -> None:
    server.put("Organization/1", {"resourceType": "Organization", "id": "1", "name": "Acme"})
    body = {"contact": [{"organization": {"reference": "Organization/1"}}]}
    one = server.create({"resourceType": "Patient", **body})["id"]
    server.create(
        parameter("works", "Patient.contact.organization", "reference", target=["Organization"])
    )
    assert server.get("Patient?_include=Patient:works").status_code == 400
    assert reindex(server).status_code == 200
    assert found(server, "works.name=acme") == [one]
    answer = server.get("Patient?_include=Patient:works").json()
    assert [e["resource"]["resourceType"] for e in answer["entry"]] == ["Patient", "Organization"]
    back = server.get("Organization?_has:Patient:works:_id=" + one).json()
    assert back["total"] == 1


def test_only_who_sees_everything_may_write_them(tmp_path: Path) -> None:
    with served("sqlite", tmp_path, open_=False) as server:
        limited = server.bearer("patient/*.cruds", patient="1")
        refused = server.post("SearchParameter", parameter("eyes", BY_EYES), headers=limited)
        assert refused.status_code == 403
        unscoped = server.bearer("system/Patient.cruds")
        refused = server.post("SearchParameter", parameter("eyes", BY_EYES), headers=unscoped)
        assert refused.status_code == 403
        whole = server.bearer("system/*.cruds")
        assert (
            server.post("SearchParameter", parameter("eyes", BY_EYES), headers=whole).status_code
            == 201
        )
        for headers in (limited, unscoped):
            assert server.send("POST", "Patient/$reindex", headers=headers).status_code == 403
        assert reindex(server, headers=whole).status_code == 200
        assert server.get("Patient?eyes=blue", headers=whole).status_code == 200


def test_a_scope_is_not_filtered_by_a_posted_parameter(tmp_path: Path) -> None:
    with served("memory", tmp_path, open_=False) as server:
        whole = server.bearer("system/*.cruds")
        server.create(parameter("eyes", BY_EYES), headers=whole)
        assert reindex(server, headers=whole).status_code == 200
        filtered = server.bearer("system/Patient.rs?eyes=blue")
        assert server.get("Patient", headers=filtered).status_code in (400, 401, 403)


def test_a_write_that_cannot_be_indexed_is_refused(server: Server) -> None:
    """Nothing is left out of an index silently."""
    server.create(parameter("half", "Patient.name.single().given.first()", "string"))
    two = {"resourceType": "Patient", "name": [{"given": ["a"]}, {"given": ["b"]}]}
    refused = server.post("Patient", two)
    assert refused.status_code == 422 and "half" in issue(refused)["diagnostics"]


def test_they_survive_a_restart(tmp_path: Path) -> None:
    with served("sqlite", tmp_path, store="sqlite:", data=tmp_path) as server:
        server.create(patient("blue"))
        server.create(parameter("eyes", BY_EYES))
        assert reindex(server).status_code == 200
        server.create(parameter("more-eyes", BY_EYES))
    with served("sqlite", tmp_path, store="sqlite:", data=tmp_path) as server:
        assert len(found(server, "eyes=blue")) == 1
        assert server.get("Patient?more-eyes=blue").status_code == 400
        server.create(patient("blue"))
        assert len(found(server, "eyes=blue")) == 2


def test_a_copy_of_a_parameter_of_fhir_changes_nothing(server: Server, shared: Path) -> None:
    own = server.domain.definitions.search_parameters("Patient")["birthdate"]
    copy = parameter("birthdate", own.expression or "", "date", url=own.url, base=list(own.bases))
    assert server.post("SearchParameter", copy).status_code == 201
    assert server.get("Patient?birthdate=2020").status_code == 200
