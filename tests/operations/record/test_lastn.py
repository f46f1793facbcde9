"""Observation/$lastn: https://hl7.org/fhir/R4/observation-operation-lastn.html"""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving import BASE, Server, issue

Json = dict[str, Any]
LAB = [{"coding": [{"system": "urn:category", "code": "lab"}]}]


def observation(id_: str, when: str | None, *codes: str, **others: Any) -> Json:
    made: Json = {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "category": LAB,
        "code": {"coding": [{"system": "urn:s", "code": code} for code in codes]},
        "subject": {"reference": "Patient/p"},
    }
    return made | ({"effectiveDateTime": when} if when else {}) | others


def load(server: Server, *observations: Json) -> None:
    for id_ in ("p", "q"):
        server.put(f"Patient/{id_}", {"resourceType": "Patient", "id": id_})
    for row in observations:
        assert server.put(f"Observation/{row['id']}", row).status_code == 201


def ask(server: Server, query: str, **options: Any) -> list[str]:
    answer = server.get(f"Observation/$lastn?{query}", **options)
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    assert bundle["type"] == "searchset" and bundle["link"][0]["relation"] == "self"
    entries = bundle.get("entry", [])
    assert server.get(bundle["link"][0]["url"], **options).json() == bundle
    assert bundle["total"] == len(entries)
    assert all(e["fullUrl"] == f"{BASE}/Observation/{e['resource']['id']}" for e in entries)
    return [e["resource"]["id"] for e in entries]


def test_the_newest_of_each_code(server: Server) -> None:
    load(
        server,
        observation("a1", "2020-01-01", "a"),
        observation("a2", "2021-01-01", "a"),
        observation("a3", "2022-01-01", "a"),
        observation("b1", "2019-01-01", "b"),
        observation("b2", None, "b"),
        observation("other", "2023-01-01", "a", subject={"reference": "Patient/q"}),
        observation("vital", "2023-01-01", "a", category=[{"text": "vital"}]),
    )
    where = "patient=Patient/p&category=urn:category|lab"
    assert ask(server, where) == ["a3", "b1"]
    assert ask(server, f"{where}&max=2") == ["a3", "a2", "b1", "b2"]
    assert ask(server, "subject=Patient/p&code=a&max=3") == ["vital", "a3", "a2"]
    assert ask(server, f"{where}&date=lt2022-01-01") == ["a2", "b1"]
    assert ask(server, f"{where}&code=none") == []
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "max", "valuePositiveInt": 2},
            {"name": "patient", "valueString": "Patient/p"},
            {"name": "code", "valueString": "b"},
        ],
    }
    found = server.post("Observation/$lastn", body).json()["entry"]
    assert [e["resource"]["id"] for e in found] == ["b1", "b2"]


# The table of the specification: which codings of a, b and c make how many groups.
@pytest.mark.parametrize(
    ("third", "groups"),
    [(("c",), [{"x"}, {"y"}, {"z"}]), (("a", "c"), [{"x", "z"}, {"y"}]), (("a", "b"), None)],
)
def test_codes_are_equal_through_their_translations(
    server: Server, third: tuple[str, ...], groups: list[set[str]] | None
) -> None:
    load(
        server,
        observation("x", "2020-01-01", "a"),
        observation("y", "2020-01-02", "b"),
        observation("z", "2020-01-03", *third),
    )
    found = ask(server, "patient=p&category=lab")
    newest = {max(group) for group in groups} if groups else {"z"}
    assert set(found) == newest and len(found) == len(newest)


def test_texts_are_grouped_as_they_are_written(server: Server) -> None:
    texts = ("text", "Text", "t e x t", "text")
    rows = [
        observation(f"t{n}", f"2020-01-0{n + 1}", code={"text": text})
        for n, text in enumerate(texts)
    ]
    load(server, *rows)
    assert ask(server, "patient=p&category=lab") == ["t3", "t2", "t1"]


def test_ties_and_kinds_of_effective_time(server: Server) -> None:
    load(
        server,
        observation("t1", "2020-01-05T10:00:00Z", "a"),
        observation("t2", "2020-01-05T12:00:00+02:00", "a"),
        observation("t3", None, "a", effectivePeriod={"start": "2020-01-05T10:00:00Z"}),
        observation("t4", None, "a", effectiveInstant="2020-01-05T09:59:59Z"),
        observation("wrong", "2020-01-04", "a", status="entered-in-error"),
    )
    assert set(ask(server, "patient=p&code=a")) == {"t1", "t2", "t3"}
    assert set(ask(server, "patient=p&code=a&max=2")) == {"t1", "t2", "t3"}
    assert ask(server, "patient=p&code=a&max=4")[-1] == "t4"
    assert ask(server, "patient=p&code=a&max=5")[-1] == "wrong"
    assert "wrong" not in ask(server, "patient=p&code=a&max=9&status=final")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("category=lab", "patient or subject"),
        ("patient:missing=false&code=a", "patient or subject"),
        ("patient=p", "category"),
        ("patient=p&status=final", "category"),
        ("patient=p&code=a&max=0", "max"),
        ("patient=p&code=a&max=x", "max"),
        ("patient=p&code=a&_sort=date", "_sort"),
        ("patient=p&code=a&_count=2", "_count"),
        ("patient=p&code=a&nonsense=1", "nonsense"),
        ("patient=p&code:nonsense=a", "nonsense"),
    ],
)
def test_what_is_refused(server: Server, query: str, names: str) -> None:
    answer = server.get(f"Observation/$lastn?{query}")
    assert answer.status_code == 400, answer.text
    assert names in issue(answer)["diagnostics"]


def test_only_what_the_caller_may_see(secured: Server) -> None:
    secured.headers = secured.bearer("system/*.cruds")
    load(
        secured,
        observation("a1", "2020-01-01", "a"),
        observation("b1", "2021-01-01", "b"),
        observation("both", "2022-01-01", "a", "b", subject={"reference": "Patient/q"}),
        observation("bridge", "2019-01-01", "a", "b", status="preliminary"),
    )
    assert ask(secured, "patient=p&category=lab") == ["b1"]
    own = secured.bearer("patient/Observation.rs?status=final", patient="p")
    assert ask(secured, "patient=p&category=lab", headers=own) == ["b1", "a1"]
    assert ask(secured, "patient=q&category=lab", headers=own) == []
    none = secured.bearer("patient/Patient.rs", patient="p")
    url = "Observation/$lastn?patient=p&category=lab"
    assert secured.get(url, headers=none).status_code == 403
