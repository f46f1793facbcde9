"""history of a resource, a type and everything (lines 23 and 24 of the tester's list)."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.store import memory
from fhir_server.store.mongo import history as mongo
from fhir_server.store.sqlite import store as sqlite
from tests.serving import BASE, Json, Server

PATIENT: Json = {"resourceType": "Patient", "name": [{"family": "Doe"}]}
LEVELS = ["Patient/{id}/_history", "Patient/_history", "_history"]


def lived(server: Server) -> str:
    """A patient with four versions: created, updated, deleted, revived."""
    made = server.create(PATIENT)
    url = f"Patient/{made['id']}"
    server.put(url, made | {"active": True})
    server.delete(url)
    server.put(url, made | {"active": False})
    return str(made["id"])


def tags(bundle: Json) -> list[Any]:
    return [
        (e["fullUrl"].removeprefix(f"{BASE}/"), e["response"]["etag"])
        for e in bundle.get("entry", ())
    ]


@pytest.mark.parametrize("level", LEVELS)
def test_c23_entries(server: Server, level: str) -> None:
    id_ = lived(server)
    body = server.get(level.format(id=id_)).json()
    assert (body["type"], body["total"]) == ("history", 4)
    entries = body["entry"]
    assert [e["request"]["method"] for e in entries] == ["PUT", "DELETE", "PUT", "POST"]
    assert {e["fullUrl"] for e in entries} == {f"{BASE}/Patient/{id_}"}
    assert [e["request"]["url"] for e in entries] == [f"Patient/{id_}"] * 3 + ["Patient"]
    assert [e["response"]["etag"] for e in entries] == [f'W/"{n}"' for n in (4, 3, 2, 1)]
    assert [e["response"]["status"][:3] for e in entries] == ["200", "204", "200", "201"]
    assert ["resource" in e for e in entries] == [True, False, True, True]
    instants = [e["response"]["lastModified"] for e in entries]
    assert instants == sorted(instants, reverse=True)


@pytest.mark.parametrize("level", ["Patient/_history", "_history"])
def test_c24_pages_lose_nothing(server: Server, level: str) -> None:
    """Many versions of the same instant, from one transaction."""
    entry = {"resource": PATIENT, "request": {"method": "POST", "url": "Patient"}}
    body = {"resourceType": "Bundle", "type": "transaction", "entry": [entry] * 11}
    assert server.post("", body).status_code == 200
    if level == "_history":
        server.create(
            {"resourceType": "Slot", "schedule": {"display": "x"}, "status": "free"}
            | {"start": "2020-01-01T00:00:00Z", "end": "2020-01-01T00:00:00Z"}
        )
    whole = tags(server.get(f"{level}?_count=100").json())
    assert len(whole) == (12 if level == "_history" else 11)
    found, url = [], f"{level}?_count=3"
    while url:
        page = server.get(url).json()
        found += tags(page)
        assert page["total"] == len(whole)
        url = next((x["url"] for x in page["link"] if x["relation"] == "next"), "")
        assert "=01" not in url and url.count("_cursor") <= 1
    assert found == whole


@pytest.mark.parametrize("level", LEVELS)
def test_c24_since_and_at(server: Server, level: str) -> None:
    id_ = lived(server)
    url = level.format(id=id_)
    entries = server.get(url).json()["entry"]
    first, second, third, fourth = [e["response"]["lastModified"] for e in reversed(entries)]
    assert len(tags(server.get(f"{url}?_since={third}").json())) == 2
    assert tags(server.get(f"{url}?_since=2999-01-01T00:00:00Z").json()) == []
    assert tags(server.get(f"{url}?_since=2999").json()) == []
    assert len(tags(server.get(f"{url}?_since=2001-01-01").json())) == 4
    counted = server.get(f"{url}?_count=0").json()
    assert (counted["total"], counted.get("entry")) == (4, None)
    assert [link["relation"] for link in counted["link"]] == ["self"]
    versions = {first: 1, second: 2, third: 3, fourth: 4}
    for instant, version in versions.items():
        body = server.get(f"{url}?_at={instant}").json()
        assert (f"Patient/{id_}", f'W/"{version}"') in tags(body)
    assert body["total"] == len(body["entry"]) == 1
    assert len(tags(server.get(f"{url}?_at={first[:4]}").json())) == 4
    assert tags(server.get(f"{url}?_at=2001").json()) == []
    # Long after the last change, only what is current then.
    assert len(tags(server.get(f"{url}?_at=2999").json())) == 1


@pytest.mark.parametrize("query", ["_count=0", "_summary=count", "_count=5&_summary=count"])
@pytest.mark.parametrize("level", LEVELS)
def test_c24_the_total_alone(server: Server, level: str, query: str) -> None:
    id_ = server.create(PATIENT)["id"]
    server.put(f"Patient/{id_}", PATIENT | {"id": id_, "active": True})
    url = level.format(id=id_)
    total = server.get(url).json()["total"]
    shown = server.get(f"{url}?{query}").json()
    assert shown["total"] == total and "entry" not in shown
    assert [link["relation"] for link in shown["link"]] == ["self"]
    assert server.get(shown["link"][0]["url"].removeprefix(f"{BASE}/")).json() == shown


def test_c23_the_total_alone_is_always_exact(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for store in (memory.plan, sqlite, mongo):
        monkeypatch.setattr(store, "TOTAL_LIMIT", 1)
    for _ in range(3):
        server.create(PATIENT)
    for level in ("_history", "Patient/_history"):
        assert "total" not in server.get(level).json()
        assert server.get(f"{level}?_count=0").json()["total"] == 3


@pytest.mark.parametrize(
    "query",
    [
        "_since=yesterday",
        "_at=x",
        "_count=-1",
        "_since=2024-13",
        "_sort=date",
        "_at=2020&_at=2021",
        "_count=1&_count=2",
    ],
)
@pytest.mark.parametrize("level", LEVELS)
def test_c24_refused(server: Server, level: str, query: str) -> None:
    id_ = server.create(PATIENT)["id"]
    assert server.get(f"{level.format(id=id_)}?{query}").status_code == 400


def test_hidden_versions_leave_no_trace(secured: Server) -> None:
    """A restricted reader gets what it would get if the others had never been."""
    system = secured.bearer("system/*.cruds")
    own = secured.bearer("patient/*.rs", patient="mine")

    def put(id_: str, **members: Any) -> None:
        body = PATIENT | {"id": id_} | members
        assert secured.put(f"Patient/{id_}", body, headers=system).status_code < 300

    for id_ in ("theirs", "mine", "other"):
        put(id_)
    for turn in range(6):
        put("theirs", birthDate=f"200{turn}-01-01")
        put("mine", birthDate=f"200{turn}-01-01")
    secured.delete("Patient/theirs", headers=system)
    for level in ("Patient/_history", "_history"):
        found, url = [], f"{level}?_count=3"
        while url:
            page = secured.get(url, headers=own).json()
            assert "total" not in page and len(page["entry"]) <= 3
            found += tags(page)
            url = next((x["url"] for x in page["link"] if x["relation"] == "next"), "")
        assert found == [("Patient/mine", f'W/"{n}"') for n in range(7, 0, -1)]
    # Each page but the last is full.
    assert len(secured.get("_history?_count=7", headers=own).json()["link"]) == 1
    assert secured.get("Observation/_history", headers=own).json().get("entry") is None
    nothing = secured.bearer("patient/Observation.rs", patient="mine")
    assert secured.get("Patient/_history", headers=nothing).status_code == 403
    assert secured.get("_history", headers=nothing).json().get("entry") is None


@pytest.mark.parametrize("level", [*LEVELS, "Patient/{id}/_history/2"])
def test_c23_parts_of_versions(server: Server, level: str) -> None:
    """https://hl7.org/fhir/R4/http.html#summary"""
    id_ = lived(server)
    url = level.format(id=id_)

    def shown(query: str) -> list[Json]:
        body = server.get(f"{url}?{query}").json()
        found = [e["resource"] for e in body.get("entry", ()) if "resource" in e]
        return found if body["resourceType"] == "Bundle" else [body]

    always = {"resourceType", "id", "meta"}
    for query, kept in (
        ("_summary=true", {"name", "active"}),
        ("_summary=text", set()),
        ("_summary=data", {"name", "active"}),
        ("_elements=active", {"active"}),
        ("_elements=Patient.active,gender", {"active"}),
    ):
        for resource in shown(query):
            created = resource["meta"]["versionId"] == "1"
            assert set(resource) - always == kept - ({"active"} if created else set()), query
            assert [tag["code"] for tag in resource["meta"]["tag"]] == ["SUBSETTED"]
    for query in ("_summary=false", "_pretty=true"):
        assert all("tag" not in resource["meta"] for resource in shown(query))
    for bad in (
        "_summary=some",
        "_elements=nothing",
        "_elements=",
        "_summary=true&_elements=name",
        "_elements=name&_elements=active",
    ):
        assert server.get(f"{url}?{bad}").status_code == 400, bad


@pytest.mark.parametrize("level", LEVELS)
def test_c24_pages_keep_their_parts(server: Server, level: str) -> None:
    url: str | None = level.format(id=lived(server)) + "?_count=1&_elements=active"
    methods, tagged = [], 0
    while url is not None:
        body = server.get(url).json()
        for entry in body["entry"]:
            methods.append(entry["request"]["method"])
            tagged += "SUBSETTED" in str(entry.get("resource"))
        url = next((link["url"] for link in body["link"] if link["relation"] == "next"), None)
    assert methods == ["PUT", "DELETE", "PUT", "POST"] and tagged == 3
