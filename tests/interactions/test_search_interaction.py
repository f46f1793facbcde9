"""Searches over HTTP: the searchset, page links, conditions, history pages, the statement."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from tests.serving import BASE, Json, Server, issue


def patient(family: str, **more: object) -> Json:
    return {"resourceType": "Patient", "name": [{"family": family}], **more}


def link(answer: httpx.Response, relation: str) -> str | None:
    found = [x["url"] for x in answer.json().get("link", []) if x["relation"] == relation]
    return found[0] if found else None


def families(answer: httpx.Response) -> list[str]:
    return [
        e["resource"]["name"][0]["family"]
        for e in answer.json().get("entry", [])
        if e["search"]["mode"] == "match"
    ]


def test_searchset(server: Server) -> None:
    made = server.create(patient("Doe"))
    server.create(patient("Roe"))
    answer = server.get("Patient?name=doe")
    body = answer.json()
    assert (body["type"], body["total"]) == ("searchset", 1)
    assert body["entry"] == [
        {"fullUrl": f"{BASE}/Patient/{made['id']}", "resource": made, "search": {"mode": "match"}}
    ]
    assert link(answer, "self") == f"{BASE}/Patient?name=doe&_count=20"
    assert link(answer, "next") is None


def test_search_by_post(server: Server) -> None:
    server.create(patient("Doe Ray"))
    server.create(patient("Roe"))
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = server.send("POST", "Patient/_search", content=b"family=doe+ray", headers=form)
    assert families(answer) == ["Doe Ray"]
    both = server.send("POST", "Patient/_search?family=ro", content=b"family=doe", headers=form)
    assert families(both) == []
    assert server.send("POST", "Patient/_search", content=b"", headers=form).json()["total"] == 2
    wrong = server.post("Patient/_search", {"family": "x"})
    assert wrong.status_code == 415


def test_unknown_parameters_by_handling(server: Server) -> None:
    server.create(patient("Doe"))
    lenient = server.get("Patient?name=doe&nothing=1")
    assert families(lenient) == ["Doe"]
    outcome = lenient.json()["entry"][-1]
    assert outcome["search"]["mode"] == "outcome"
    assert "nothing" in outcome["resource"]["issue"][0]["diagnostics"]
    assert link(lenient, "self") == f"{BASE}/Patient?name=doe&_count=20"
    strict = server.get("Patient?name=doe&nothing=1", headers={"prefer": "handling=strict"})
    assert strict.status_code == 400 and "nothing" in issue(strict)["diagnostics"]


@pytest.mark.parametrize(
    "query",
    [
        "name:nothing=x",
        "birthdate=yesterday",
        "_count=-1",
        "_include=x",
        "%zz",
        "name=%ff",
        "a=%00",
    ],
)
def test_what_is_not_understood_is_refused(server: Server, query: str) -> None:
    assert server.get(f"Patient?{query}").status_code == 400


def test_pages(server: Server) -> None:
    for number in range(7):
        server.create(patient(f"Wojciechowski{number}"))
    answer = server.get("Patient?name=wojciechowski&_count=3&_sort=family")
    seen = families(answer)
    while (url := link(answer, "next")) is not None:
        assert "wojciechowski" not in url.lower()
        assert [name for name, _ in parse_qsl(urlsplit(url).query)] == ["_cursor"]
        answer = server.get(url)
        seen += families(answer)
    assert seen == [f"Wojciechowski{n}" for n in range(7)]


def test_page_links_are_sealed(server: Server) -> None:
    for number in range(3):
        server.create(patient(f"Doe{number}"))
    url = link(server.get("Patient?_count=1"), "next")
    assert url is not None and server.get(url).status_code == 200
    start = url.index("_cursor=") + len("_cursor=")
    for place in range(start, len(url)):
        other = "A" if url[place] != "A" else "B"
        assert server.get(url[:place] + other + url[place + 1 :]).status_code == 400
    assert server.get(url + "&name=doe").status_code == 400
    assert server.get(url[:-4]).status_code == 400
    assert server.get(url.replace("/Patient?", "/Observation?")).status_code == 400
    assert server.get("Patient?_cursor=").status_code == 400


def test_page_links_belong_to_one_principal(secured: Server) -> None:
    mine = secured.bearer("system/*.cruds", client="one")
    for _ in range(2):
        secured.create(patient("Doe"), headers=mine)
    url = link(secured.get("Patient?_count=1", headers=mine), "next")
    assert url is not None
    assert secured.get(url, headers=mine).status_code == 200
    assert secured.get(url, headers=secured.bearer("system/*.rs", client="one")).status_code == 200
    assert secured.get(url, headers=secured.bearer("system/*.rs", client="two")).status_code == 404


def test_history_pages(server: Server) -> None:
    made = server.create(patient("Doe"))
    url = f"Patient/{made['id']}"
    for turn in range(4):
        server.put(url, made | {"birthDate": f"200{turn}-01-01"})
    answer = server.get(f"{url}/_history?_count=2")
    assert answer.json()["total"] == 5
    seen = [e["response"]["etag"] for e in answer.json()["entry"]]
    while (following := link(answer, "next")) is not None:
        answer = server.get(following)
        seen += [e["response"]["etag"] for e in answer.json()["entry"]]
    assert seen == [f'W/"{n}"' for n in (5, 4, 3, 2, 1)]
    for query in ("_count=-1", "_count=x", "_since=yesterday", "_at=soon", "nothing=1"):
        assert server.get(f"{url}/_history?{query}").status_code == 400
    assert server.get(f"{url}/_history?_since=2999-01-01T00:00:00Z").json()["total"] >= 0
    assert server.get("Patient/none/_history").status_code == 404


def test_capability_statement(server: Server) -> None:
    body = server.get("metadata").json()
    rest = body["rest"][0]
    assert (body["fhirVersion"], body["kind"]) == ("4.0.1", "instance")
    assert [i["code"] for i in rest["interaction"]] == [
        "transaction",
        "batch",
        "search-system",
        "history-system",
    ]
    rows = {row["type"]: row for row in rest["resource"]}
    assert rows.keys() == server.domain.definitions.resource_types
    row = rows["Patient"]
    assert [i["code"] for i in row["interaction"]] == [
        "read",
        "vread",
        "update",
        "patch",
        "delete",
        "history-instance",
        "history-type",
        "create",
        "search-type",
    ]
    assert "birthdate" in [p["name"] for p in row["searchParam"]]
    assert "Observation:subject" in row["searchRevInclude"]
    assert {"predict", "anonymize"} <= {o["name"] for o in row["operation"]}


def test_every_declared_parameter_is_understood(server: Server) -> None:
    """A parameter of the statement is not refused as unknown or unsupported."""
    samples = {
        "token": "x",
        "string": "x",
        "date": "2020",
        "number": "1",
        "quantity": "1",
        "reference": "Patient/1",
        "uri": "urn:x",
        "special": "1|2",
    }
    schema = server.domain.searching.schema
    rows = server.get("metadata").json()["rest"][0]["resource"]
    for row in rows[:: max(1, len(rows) // 12)]:
        for parameter in row["searchParam"]:
            found = schema.of(row["type"]).parameters.get(parameter["name"])
            parts = [c.inner or c.outer for c in (found.components if found else ())]
            kinds = [part.kind for part in parts if part is not None] or [parameter["type"]]
            value = "$".join(samples[kind] for kind in kinds)
            query = f"{row['type']}?{parameter['name']}={value}&_summary=count"
            answer = server.get(query, headers={"prefer": "handling=strict"})
            assert answer.status_code == 200, (query, answer.text)


def test_operations_find_their_place(server: Server) -> None:
    assert server.get("$nothing").status_code == 404
    assert server.get("Patient/a/$nothing").status_code == 404
    assert server.get("Observation/a/$predict").status_code == 400
    assert server.get("$predict").status_code == 400
    made = server.create(patient("Doe"))
    answer = server.get(f"Patient/{made['id']}/$anonymize")
    assert answer.status_code == 200 and "Doe" not in answer.text
    assert server.get(f"Patient/{made['id']}/$predict?nothing=1").status_code == 400


def test_a_search_by_post_needs_no_form(server: Server) -> None:
    """Its parameters may all be in the URL; a body says what it is."""
    server.create(patient("Doe"))
    answer = server.send("POST", "Patient/_search?_summary=count")
    assert answer.status_code == 200 and answer.json()["total"] == 1
    assert server.send("POST", "Patient/_search", content=b"_count=1").status_code == 415
