"""What may stand in an entry of a batch or transaction: its URL, searches, operations."""

from __future__ import annotations

import pytest

from tests.interactions.test_transaction import PATIENT, entry, observation
from tests.serving import BASE, Json, Server

KINDS = ["batch", "transaction"]


def run(server: Server, kind: str, *entries: Json) -> list[Json]:
    bundle = {"resourceType": "Bundle", "type": kind, "entry": list(entries)}
    answer = server.post("", bundle)
    assert answer.status_code == 200, answer.text
    shown: list[Json] = answer.json()["entry"]
    return shown


@pytest.mark.parametrize("kind", KINDS)
def test_c66_a_url_may_begin_with_the_base_or_its_slash(server: Server, kind: str) -> None:
    server.put("Patient/a", PATIENT | {"id": "a"})
    shown = run(
        server,
        kind,
        entry("POST", "/Observation", observation("Patient/a")),
        entry("PUT", f"{BASE}/Patient/b", PATIENT | {"id": "b"}),
        entry("GET", f"{BASE}/Patient?_id=a"),
        entry("GET", "/Patient/a"),
    )
    assert [one["response"]["status"][:3] for one in shown] == ["201", "201", "200", "200"]
    assert shown[2]["resource"]["total"] == 1 and shown[3]["resource"]["id"] == "a"
    assert shown[0]["response"]["location"].startswith("Observation/")


def test_c66_the_url_of_another_server_is_refused(server: Server) -> None:
    for url in ("https://elsewhere.example/fhir/Patient/a", f"{BASE}er/Patient/a", "//x/Patient"):
        [shown] = run(server, "batch", entry("GET", url))
        assert shown["response"]["status"].startswith("400"), url


@pytest.mark.parametrize("kind", KINDS)
def test_search_by_post(server: Server, kind: str) -> None:
    """An entry has no form: the parameters are those of its URL."""
    server.put("Patient/a", PATIENT | {"id": "a"})
    made = entry("POST", "Patient", PATIENT)
    found, of_all, _ = run(
        server,
        kind,
        entry("POST", "Patient/_search?_id=a"),
        entry("POST", "_search?_type=Patient&_id=a"),
        made,
    )
    for shown in (found, of_all):
        assert shown["response"]["status"] == "200 OK"
        assert shown["resource"]["type"] == "searchset" and shown["resource"]["total"] == 1
    assert found["resource"]["link"][0]["url"] == f"{BASE}/Patient?_id=a&_count=20"


@pytest.mark.parametrize("kind", KINDS)
def test_operations_that_change_nothing(server: Server, kind: str) -> None:
    server.put("Patient/a", PATIENT | {"id": "a"})
    bad = PATIENT | {"gender": "no"}
    body = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": bad}]}
    judged, meta, created = run(
        server,
        kind,
        entry("POST", "Patient/$validate", body),
        entry("GET", "Patient/a/$meta"),
        entry("POST", "Patient", PATIENT),
    )
    assert judged["response"]["status"] == "200 OK"
    assert judged["response"]["outcome"]["issue"][0]["severity"] == "error"
    assert meta["resource"]["parameter"][0]["name"] == "return"
    assert created["response"]["status"] == "201 Created"


def test_operations_that_change_something(server: Server) -> None:
    """They go in a batch; one commit they cannot be part of."""
    server.put("Patient/a", PATIENT | {"id": "a"})
    tag = {"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}
    adding = entry(
        "POST", "Patient/a/$meta-add", {"resourceType": "Parameters", "parameter": [tag]}
    )
    [shown] = run(server, "batch", adding)
    assert shown["response"]["status"] == "200 OK"
    assert server.get("Patient/a").json()["meta"]["tag"] == [{"code": "x"}]
    bundle = {"resourceType": "Bundle", "type": "transaction"}
    for url in ("Patient/a/$meta-add", "Patient/a/$predict", "Patient/a/$nothing"):
        changing = adding | {"request": {"method": "POST", "url": url}}
        assert server.post("", bundle | {"entry": [changing]}).status_code == 501, url
