"""$run and $export of ViewDefinitions over HTTP: through the gate, in every format."""

from __future__ import annotations

import base64
import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from operations import view_run
from operations.views import source
from tests.consent import plain
from tests.operations.views.suite import cases, fault
from tests.serving import BACKENDS, Json, Server, issue, served
from tests.smart.bulk import RESEARCH, consent, put

ALL = "system/*.cruds"
VIEW: Json = {
    "resourceType": "ViewDefinition",
    "url": "http://example.org/views/patients",
    "name": "patients",
    "status": "active",
    "resource": "Patient",
    "select": [
        {
            "column": [
                {"name": "id", "path": "getResourceKey()", "type": "id"},
                {"name": "active", "path": "active", "type": "boolean"},
                {"name": "born", "path": "birthDate", "type": "date"},
                {"name": "given", "path": "name.given", "type": "string", "collection": True},
            ]
        }
    ],
}
OBSERVATIONS: Json = {
    "resourceType": "ViewDefinition",
    "name": "values",
    "resource": "Observation",
    "select": [
        {
            "column": [
                {"name": "patient", "path": "subject.getReferenceKey(Patient)"},
                {"name": "value", "path": "value.ofType(Quantity).value", "type": "decimal"},
            ]
        }
    ],
}


def parameters(*parts: Json) -> Json:
    return {"resourceType": "Parameters", "parameter": list(parts)}


def resource(name: str, one: Json) -> Json:
    return {"name": name, "resource": one}


def library(id_: str, view: Json) -> Json:
    data = base64.b64encode(json.dumps(view).encode()).decode()
    coding = [{"code": "logic-library"}]
    return {
        "resourceType": "Library",
        "id": id_,
        "url": view.get("url", "http://example.org/none"),
        "status": "active",
        "type": {"coding": coding},
        "content": [{"contentType": "application/json", "data": data}],
    }


def observation(id_: str, patient: str, value: str) -> Json:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"text": "t"},
        "subject": {"reference": f"Patient/{patient}"},
        "valueQuantity": {"value": float(value), "unit": "mg"},
    }


@pytest.fixture(scope="module", params=BACKENDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Patients p, q, r with a value each; r refuses research. Tests change nothing of it."""
    with served(request.param, tmp_path_factory.mktemp("views"), open_=False) as server:
        for number, id_ in enumerate("pqr"):
            name = {"given": [f"G{number}", "Ж"], "family": "F"}
            patient = {"resourceType": "Patient", "id": id_, "name": [name], "active": number > 0}
            put(server, patient | {"birthDate": f"19{50 + number}-01-02"})
            put(server, observation(f"o{id_}", id_, f"{number}.5"))
        put(server, library("patients", VIEW), library("none", {"resourceType": "Basic"}))
        members = [{"entity": {"reference": "Patient/q"}}]
        group = {"resourceType": "Group", "id": "g", "type": "person", "actual": True}
        put(server, group | {"member": members})
        put(server, consent("p", "permit"), consent("q", "permit"), consent("r", "deny"))
        yield server


def run(server: Server, *parts: Json, **headers: str) -> httpx.Response:
    body = parameters(*(parts or (resource("viewResource", VIEW),)))
    return server.post("ViewDefinition/$run", body, headers=server.bearer(ALL) | headers)


def rows(answer: httpx.Response) -> list[Json]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_rows_as_lines(server: Server) -> None:
    answer = run(server)
    assert answer.headers["content-type"] == "application/x-ndjson"
    found = {row["id"]: row for row in rows(answer)}
    assert set(found) == set("pqr")
    wanted = {"id": "q", "active": True, "born": "1951-01-02", "given": ["G1", "Ж"]}
    assert found["q"] == wanted and list(found["q"]) == list(wanted)


def test_formats(server: Server) -> None:
    view = resource("viewResource", VIEW)
    table = run(server, view, {"name": "_format", "valueCode": "csv"})
    assert table.headers["content-type"] == "text/csv"
    lines = list(csv.DictReader(io.StringIO(table.text)))
    assert sorted(line["id"] for line in lines) == list("pqr")
    assert {line["active"] for line in lines} == {"true", "false"}
    bare = {"name": "header", "valueBoolean": False}
    assert "born" not in run(server, view, bare, accept="text/csv").text
    assert len(run(server, view, accept="application/json").json()) == 3
    one = {"name": "_limit", "valuePositiveInt": 1}
    assert len(rows(run(server, view, one))) == 1
    parquet = run(server, view, accept="application/vnd.apache.parquet").content
    assert parquet[:4] == parquet[-4:] == b"PAR1" and len(parquet) > 200
    assert issue(run(server, view, {"name": "_format", "valueCode": "xlsx"}))["code"]
    assert run(server, view, accept="application/pdf").status_code == 406


def test_places(server: Server) -> None:
    """The type, the system, a stored view by id, by reference and by its canonical URL."""
    headers = server.bearer(ALL)
    asked = [
        server.post("$viewdefinition-run", parameters(resource("viewResource", VIEW)),
                    headers=headers),
        server.post("ViewDefinition/$run", VIEW, headers=headers),
        server.get("ViewDefinition/patients/$run", headers=headers),
        server.get("ViewDefinition/patients/$run?_format=ndjson", headers=headers),
        server.get("ViewDefinition/$run?viewReference=ViewDefinition/patients", headers=headers),
        server.get(f"ViewDefinition/$run?viewReference={VIEW['url']}", headers=headers),
    ]  # fmt: skip
    assert [len(rows(answer)) for answer in asked] == [3] * len(asked)
    assert server.get("ViewDefinition/nobody/$run", headers=headers).status_code == 404
    assert server.get("ViewDefinition/none/$run", headers=headers).status_code == 422
    assert server.get("ViewDefinition/patients", headers=headers).status_code == 404


def test_narrowed(server: Server) -> None:
    view = resource("viewResource", OBSERVATIONS)

    def reference(name: str, value: str) -> Json:
        return {"name": name, "valueReference": {"reference": value}}

    assert [row["patient"] for row in rows(run(server, view, reference("patient", "Patient/p")))] \
        == ["p"]  # fmt: skip
    assert [row["patient"] for row in rows(run(server, view, reference("group", "Group/g")))] == [
        "q"
    ]
    since = {"name": "_since", "valueInstant": "2100-01-01T00:00:00Z"}
    assert rows(run(server, view, since)) == []
    assert run(server, view, reference("patient", "Patient/x")).status_code == 404
    assert run(server, view, reference("group", "Group/x")).status_code == 404
    assert run(server, view, {"name": "source", "valueString": "s3:"}).status_code == 400
    located = {**OBSERVATIONS, "resource": "Location"}
    answer = run(server, resource("viewResource", located), reference("patient", "Patient/p"))
    assert answer.status_code == 400


def test_only_what_may_be_seen(server: Server) -> None:
    assert {row["id"] for row in rows(run(server, **RESEARCH))} == set("pq")
    few = server.bearer("system/Observation.rs")
    body = parameters(resource("viewResource", VIEW))
    assert server.post("ViewDefinition/$run", body, headers=few).status_code == 403
    assert server.post("ViewDefinition/$run", body).status_code == 401
    own = server.bearer("patient/*.rs", patient="p")
    found = rows(server.post("ViewDefinition/$run", body, headers=own))
    assert [row["id"] for row in found] == ["p"]


def test_refused(server: Server) -> None:
    wrong: list[Json] = [
        {**VIEW, "resource": "Nothing"},
        {**VIEW, "selct": []},
        {**VIEW, "select": [{"column": [{"name": "a b", "path": "id"}]}]},
        {**VIEW, "select": [{"column": [{"name": "a", "path": "name.family +"}]}]},
        {**VIEW, "select": [{"column": [{"name": "a", "path": "%nothing"}]}]},
        {**VIEW, "select": [{"column": [{"name": "a", "path": "birthDate", "type": "integer"}]}]},
        {**VIEW, "select": [{"forEach": "name", "repeat": ["name"],
                             "column": [{"name": "a", "path": "family"}]}]},
        {**VIEW, "select": [{"column": [{"name": "a", "path": "id"}] * 2}]},
        {**VIEW, "constant": [{"name": "n", "valueInteger": "x"}]},
        {**VIEW, "where": [{"path": "name.family"}]},
    ]  # fmt: skip
    for view in wrong:
        answer = run(server, resource("viewResource", view))
        assert answer.status_code == 422 and issue(answer), view
    twice = run(server, resource("viewResource", VIEW),
                {"name": "viewReference", "valueUri": "ViewDefinition/patients"})  # fmt: skip
    assert twice.status_code == 400 and run(server, {"name": "header"}).status_code == 422


def test_within_a_bundle_it_is_a_binary(server: Server) -> None:
    request = {"method": "GET", "url": "ViewDefinition/patients/$run"}
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [{"request": request}]}
    made = server.post("", bundle, headers=server.bearer(ALL)).json()["entry"][0]["resource"]
    assert made["resourceType"] == "Binary" and made["contentType"] == "application/x-ndjson"
    assert len(base64.b64decode(made["data"]).splitlines()) == 3


def ended(server: Server, answer: httpx.Response, headers: dict[str, str]) -> Any:
    assert answer.status_code == 202, answer.text
    url = answer.headers["content-location"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status = server.get(url, headers=headers)
        if status.status_code not in (202, 429):
            assert status.status_code == 200, status.text
            return status.json()
        time.sleep(0.05)
    raise AssertionError("the job did not end")


def locations(manifest: Json) -> dict[str, str]:
    found = [one["part"] for one in manifest["parameter"] if one["name"] == "output"]
    return {part[0]["valueString"]: part[1]["valueUri"] for part in found}


def export(server: Server, headers: dict[str, str], *parts: Json) -> httpx.Response:
    views = [
        {"name": "view", "part": [resource("viewResource", OBSERVATIONS)]},
        {"name": "view", "part": [{"name": "viewReference", "valueUri": VIEW["url"]}]},
    ]
    body = parameters(*views, *parts)
    return server.post("ViewDefinition/$export", body, headers=headers)


def test_export(server: Server) -> None:
    headers = server.bearer(ALL) | {"prefer": "respond-async"}
    csv_ = {"name": "_format", "valueCode": "csv"}
    tracking = {"name": "clientTrackingId", "valueString": "mine"}
    made = ended(server, export(server, headers, csv_, tracking), headers)
    said = {one["name"]: one for one in made["parameter"]}
    assert said["status"]["valueCode"] == "completed"
    assert said["clientTrackingId"]["valueString"] == "mine"
    urls = locations(made)
    assert list(urls) == ["values", "patients"]
    table = server.get(urls["values"], headers=headers)
    assert table.headers["content-type"] == "text/csv"
    assert sorted(table.text.split()) == sorted(["patient,value", "p,0.5", "q,1.5", "r,2.5"])
    assert server.get(urls["values"], headers=server.bearer(ALL, client="other")).status_code == 404
    assert server.get(urls["values"]).status_code == 401
    assert export(server, server.bearer(ALL)).status_code == 400


def test_exported_tables_are_judged_again(tmp_path: Path) -> None:
    with served("memory", tmp_path, open_=False) as server:
        for id_ in "pq":
            put(server, {"resourceType": "Patient", "id": id_}, observation(f"o{id_}", id_, "1.0"))
            put(server, consent(id_, "permit"))
        put(server, library("patients", VIEW))
        headers = server.bearer(ALL) | {"prefer": "respond-async"} | RESEARCH
        urls = locations(ended(server, export(server, headers), headers))
        assert len(server.get(urls["values"], headers=headers).text.splitlines()) == 2
        put(server, consent("q", "deny"))
        assert [r["patient"] for r in rows(server.get(urls["values"], headers=headers))] == ["p"]


def test_l30_a_table_under_way_obeys_the_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PAGE", 1)
    monkeypatch.setattr(view_run, "GROUP", 1)
    with served("memory", tmp_path, open_=False) as server:
        for id_ in "pq":
            put(server, {"resourceType": "Patient", "id": id_})
            put(server, *(observation(f"o{id_}{n}", id_, "1.0") for n in range(2)))
            put(server, consent(id_, "permit"))
        put(server, library("patients", VIEW))
        headers = server.bearer(ALL) | {"prefer": "respond-async"} | RESEARCH
        urls = locations(ended(server, export(server, headers), headers))
        seen: list[str] = []

        async def reading(part: bytes) -> None:
            seen.extend(json.loads(line)["patient"] for line in part.splitlines())
            if len(seen) == 1:
                refusal = json.dumps(consent(seen[0], "deny")).encode()
                url = f"Consent/of-{seen[0]}"
                answer = await plain.answered(server, "PUT", url, server_headers, refusal)
                assert answer.status_code == 200

        server_headers = server.bearer(ALL) | {"content-type": "application/fhir+json"}
        server.run(plain.answered(server, "GET", urls["values"], headers, reading=reading))
    first, other = seen[0], {"p": "q", "q": "p"}[seen[0]]
    assert seen == [first, other, other]


def test_the_cases_over_http(server: Server, shared: Path) -> None:
    """A part of the suite by ``resource``: the engine is the same."""

    def over(view: Any, resources: Any) -> tuple[list[str], list[Json]]:
        from fhir_server.model.problem import Unprocessable

        parts = [resource("resource", one) for one in resources]
        typed = {"resourceType": "ViewDefinition", **view}
        answer = run(server, resource("viewResource", typed), *parts)
        if answer.status_code == 422:
            raise Unprocessable(answer.text)
        found = rows(answer)
        return list(found[0]) if found else [], found

    asked = [c for c in cases(shared / "conformance" / "sql-on-fhir") if c.id[:3] in ("bas", "rep")]
    told = {case.id: fault(case, over) for case in asked}
    assert len(told) >= 8 and not any(told.values()), told
