"""The OpenAPI document: every route, true schemas, judged by the official examples."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fhir_server.http import inference, models
from fhir_server.http.routes import ROUTES
from tests.serving import Server, issue

Validator = jsonschema.Draft202012Validator


def document(server: Server, type_: str = "") -> dict[str, Any]:
    answer = server.get("/docs/openapi.json" + (f"?type={type_}" if type_ else ""))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


def test_every_route_is_described(server: Server) -> None:
    found = document(server)
    assert found["openapi"] == "3.1.0"
    described = {
        (method.upper(), path.removeprefix("/fhir/"))
        for path, row in found["paths"].items()
        for method in row
        if path.startswith("/fhir/")
    }
    every = {(route.method, route.pattern) for route in ROUTES}
    assert described <= every and len(described) > 30
    for method, pattern in every - described:  # without a handler on an open server
        assert server.send(method, pattern).status_code in (404, 501), pattern
    for path, row in found["paths"].items():
        for operation in row.values():
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))
    names = [o["operationId"] for row in found["paths"].values() for o in row.values()]
    assert len(names) == len(set(names))
    public = [p for p, row in found["paths"].items() if row.get("get", {}).get("security") == []]
    assert public == ["/fhir/metadata", "/v2/health/live", "/v2/health/ready"]


def test_the_faces_of_the_models_are_described(server: Server) -> None:
    """Each row of theirs, and each described one is answered by more than "not known"."""
    found = document(server)["paths"]
    faces = ("models", models.URLS), ("deid", models.DEID), ("v2", inference.URLS)
    for root, urls in faces:
        rows = {(url.method.lower(), f"/{root}/{url.pattern}".rstrip("/")) for url in urls}
        assert rows == {(m, p) for p in found if p.startswith(f"/{root}") for m in found[p]}
        for method, path in rows:
            asked = path.replace("{model}", "qsofa").replace("{version}", "1.0.0")
            text = server.send(method.upper(), asked).text
            assert "not known" not in text, (method, path, text)
    push = found["/models"]["post"]["requestBody"]["content"]
    assert {"application/zip", "application/fhir+json"} <= push.keys()
    assert "$model-activate" in found["/models/{model}/activate"]["post"]["description"]


@pytest.mark.parametrize("type_", ["", "Patient", "Binary"])
def test_every_reference_leads_somewhere(server: Server, type_: str) -> None:
    found = document(server, type_)
    schemas = found["components"]["schemas"]
    assert references(found) <= {f"#/components/schemas/{name}" for name in schemas}
    for schema in list(schemas.values())[::25]:
        Validator.check_schema(schema)


def test_of_one_type(server: Server) -> None:
    found = document(server, "Patient")
    assert all(path.startswith("/fhir/Patient") for path in found["paths"])
    names = [p["name"] for p in found["paths"]["/fhir/Patient"]["get"]["parameters"]]
    assert {"family", "birthdate", "_id", "_count"} <= set(names)
    assert "Observation" not in found["components"]["schemas"]
    answer = server.get("/docs/openapi.json?type=Nothing")
    assert answer.status_code == 404 and issue(answer)


def test_examples_fit_the_schemas(server: Server, shared: Path) -> None:
    schemas = document(server)["components"]["schemas"]
    judged = 0
    for path in sorted((shared / "conformance" / "examples").rglob("*.json"))[::9]:
        resource = json.loads(path.read_bytes())
        place = {"$ref": f"#/components/schemas/{resource['resourceType']}"}
        validator = Validator(place | {"components": {"schemas": schemas}})
        errors = [f"{e.json_path}: {e.message[:100]}" for e in validator.iter_errors(resource)]
        assert not errors, (path.name, errors[:3])
        assert not validator.is_valid(resource | {"unheardOf": 1})
        assert not validator.is_valid(resource | {"resourceType": "Nothing"})
        judged += 1
    assert judged > 30
