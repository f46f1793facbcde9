"""T12, T13, T14: expressions, searches and Bundles that would cost too much."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.serving import BASE, Server, issue


def timed(server: Server, method: str, url: str, **options: Any) -> Any:
    """An answer that came within two seconds."""
    started = time.monotonic()
    answer = server.send(method, url, **options)
    assert time.monotonic() - started < 2, url
    return answer


EVIL = {
    "backtracking": "Patient.name.family.matches('(a+)+$')",
    "replacement": "Patient.name.family.replaceMatches('(a*)*b', 'x') = 'y'",
    "nested": "(" * 5000 + "1" + ")" * 5000 + " = 1",
    "repeat": "Patient.repeat(descendants()).repeat(descendants()).exists()",
}


@pytest.mark.parametrize("name", EVIL)
def test_t12_expressions_of_a_patch(server: Server, name: str) -> None:
    family = "a" * 40 + "!"
    made = server.create({"resourceType": "Patient", "name": [{"family": family}]})
    parts = [
        {"name": "type", "valueCode": "delete"},
        {"name": "path", "valueString": f"Patient.name.where({EVIL[name]})"},
    ]
    patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
    answer = timed(server, "PATCH", f"Patient/{made['id']}", json=patch)
    assert answer.status_code < 500, answer.text[:200]
    if answer.status_code >= 400:
        issue(answer)


def test_t12_parameters_are_for_those_who_may_write_them(secured: Server) -> None:
    body = {
        "resourceType": "SearchParameter",
        "url": "http://example.org/p",
        "name": "p",
        "status": "active",
        "description": "p",
        "code": "p",
        "base": ["Patient"],
        "type": "string",
        "expression": EVIL["backtracking"],
    }
    for scope in ("patient/*.cruds", "system/Patient.cruds"):
        headers = secured.bearer(scope, patient="a")
        assert secured.post("SearchParameter", body, headers=headers).status_code in (401, 403)


COSTLY = [
    "Observation?" + "&".join(["subject:Patient.name=a"] * 50),
    "Patient?" + "&".join(["_has:Observation:patient:code=a"] * 50),
    "Patient?_id=" + ",".join(map(str, range(3000))),
    "Patient?identifier=" + ",".join(f"a|{n}" for n in range(2500)),
    "Patient?_count=1000000000",
    "Patient?_include:iterate=Patient:link&_revinclude:iterate=Patient:link",
    "Patient?name:contains=a&address:contains=a&_sort=name,birthdate,family,given",
    "Observation?" + ":".join(["subject"] * 200) + "=a",
    "Observation?" + ".".join(["subject:Patient.link:Patient"] * 40) + ".name=a",
    "Patient?" + "_has:Patient:link:" * 40 + "name=a",
]


@pytest.mark.parametrize("url", COSTLY, ids=range(len(COSTLY)))
def test_t13_searches_are_capped(server: Server, url: str) -> None:
    one = server.create({"resourceType": "Patient", "name": [{"family": "a"}]})
    other = {"reference": f"Patient/{one['id']}"}
    link = {"link": [{"other": other, "type": "seealso"}], "id": one["id"]}
    assert server.put(f"Patient/{one['id']}", {"resourceType": "Patient"} | link).status_code == 200
    answer = timed(server, "GET", url)
    assert answer.status_code in (200, 400, 413), answer.text[:200]
    if answer.status_code == 200:
        assert len(answer.json().get("entry", ())) <= 1000
    else:
        issue(answer)


def entries(count: int, request: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "batch", "entry": [{"request": request}] * count}


def test_t14_bundles(server: Server) -> None:
    get = {"method": "GET", "url": "Patient/none"}
    assert len(server.post(BASE, entries(1000, get)).json()["entry"]) == 1000
    for kind in ("batch", "transaction"):
        answer = server.post(BASE, entries(1001, get) | {"type": kind})
        assert answer.status_code in (400, 413), kind
        issue(answer)


def test_t14_bundles_in_bundles(server: Server) -> None:
    inner = entries(1, {"method": "GET", "url": "Patient/none"})
    body = entries(1, {"method": "POST", "url": ""})
    body["entry"][0]["resource"] = inner
    answer = server.post(BASE, body)
    assert answer.status_code == 200
    assert answer.json()["entry"][0]["response"]["status"].startswith("400")
    deep: dict[str, Any] = {"resourceType": "Bundle", "type": "collection"}
    for _ in range(60):
        deep = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": deep}]}
    assert timed(server, "POST", "Bundle", json=deep).status_code == 400


def test_t14_there_is_no_graphql(server: Server) -> None:
    query = "{" + "a:" * 1000 + "}"
    for url in ("$graphql", "Patient/a/$graphql"):
        answer = server.post(f"{url}?query={query}", {"resourceType": "Parameters"})
        assert answer.status_code in (400, 404, 501), answer.text
