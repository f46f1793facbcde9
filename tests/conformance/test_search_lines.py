"""More of searches, numbered as the conformance cases are: 26, 30 to 54 and 57.

Expected answers are read off https://hl7.org/fhir/R4/search.html, section by section.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fhir_server.search import plan
from tests.conformance.numbered_cases import CASES, RECORD, coded, observation
from tests.serving import BASE, Server

from .searching import Both, both, encoded, ids, link


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both(tmp_path_factory.mktemp("lines")) as servers:
        servers.put(*RECORD)
        yield servers


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param(query, expected, id=f"c{number}-{query}")
        for number, rows in CASES.items()
        for query, expected in rows
    ],
)
def test_each_numbered_case(record: Both, query: str, expected: set[str]) -> None:
    bundle = record.bundle(f"{query}&_count=100")
    assert set(ids(bundle)) == expected and bundle["total"] == len(expected)


def test_c26_links_are_absolute_and_the_last_page_has_no_next(record: Both) -> None:
    pages = record.pages("Procedure?_count=3&date:missing=false")
    assert [len(ids(page)) for page in pages] == [3, 3]
    for page in pages:
        assert all(one["url"].startswith(f"{BASE}/Procedure?") for one in page["link"])
    assert link(pages[-1], "next") is None


def test_c30_a_count_over_the_most_is_clamped_and_says_so(record: Both) -> None:
    assert "_count=1000" in (link(record.bundle("Patient?_count=1000000"), "self") or "")


@pytest.mark.parametrize(
    ("wanted", "cut"),
    [
        ("_elements=status", {"q3"}),  # "does not apply to included resources"
        ("_elements=status,Patient.gender", {"q3", "b"}),
        ("_elements=Patient.gender", {"q3", "b"}),
        ("_summary=true", {"q3", "b"}),
        ("_summary=data", {"q3", "b"}),
    ],
)
def test_c31_what_is_left_of_includes(record: Both, wanted: str, cut: set[str]) -> None:
    bundle = record.bundle(f"Observation?_id=q3&_include=Observation:subject&{wanted}")
    shown = {e["resource"]["id"]: e["resource"] for e in bundle["entry"]}
    tagged = {
        id
        for id, found in shown.items()
        if any(tag["code"] == "SUBSETTED" for tag in found["meta"].get("tag", ()))
    }
    assert tagged == cut and set(shown) == {"q3", "b"}
    assert ("name" in shown["b"]) == ("_elements" not in wanted or "b" not in cut)
    assert "code" in shown["q3"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("Patient?birthdate:below=1970", ":below"),
        ("Patient?gender:contains=f", ":contains"),
        ("Patient?birthdate=xx1970", "birthdate"),
        ("RiskAssessment?probability=zz0.5", "probability"),
        ("Observation?value-quantity=~5", "value-quantity"),
    ],
)
def test_c32_modifiers_and_prefixes_are_never_passed_over(
    record: Both, query: str, named: str
) -> None:
    for prefer in ({}, {"prefer": "handling=lenient"}, {"prefer": "handling=strict"}):
        record.refused(query, named, headers=prefer)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("Patient?birthdate=2024-13", "birthdate"),
        ("Patient?birthdate=2024-02-30", "birthdate"),
        ("Patient?_lastUpdated=yesterday", "_lastUpdated"),
        ("RiskAssessment?probability=half", "probability"),
        ("Observation?_include=Observation:code", "code"),
        ("Observation?_revinclude=Observation:code", "code"),
        ("Patient?_id=a b", "_id"),
    ],
)
def test_c33_values_that_are_none_are_refused(record: Both, query: str, named: str) -> None:
    record.refused(query, named)


def test_c34_post_merges_the_parameters_of_url_and_body(record: Both) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    place = encoded("Procedure/_search?date=2024-03-10")
    for server in record.servers:
        answer = server.send("POST", place, content=b"_id=day,from", headers=form)
        assert ids(answer.json()) == ids(
            server.get("Procedure?date=2024-03-10&_id=day,from").json()
        )
        assert ids(answer.json()) == ["day"]


def test_c53_a_reference_to_a_version_includes_the_resource(record: Both) -> None:
    bundle = record.bundle("Observation?_id=q1&_include=Observation:subject&_count=1")
    assert ids(bundle, "include") == ["a"] and bundle["total"] == 1


SORTED = [
    ("Observation?_sort=value-quantity,_id", ["q1", "q2", "q3", "t1"]),
    ("Observation?_sort=date", ["q3", "q2", "q1", "t1"]),
    ("RiskAssessment?_sort=probability", ["r05", "r0504", "r055", "r100"]),
    ("RiskAssessment?_sort=-probability", ["r100", "r055", "r0504", "r05"]),
    ("Patient?_sort=family,_id", ["c", "b", "a"]),
    ("Patient?_sort=-birthdate", ["a", "b", "c"]),
    ("Patient?_sort=birthdate,-_id", ["b", "a", "c"]),
    ("Patient?_sort=-active,_id", ["a", "b", "c"]),
    ("Patient?_sort=_profile,_id", ["a", "b", "c"]),
]


@pytest.mark.parametrize(("query", "expected"), SORTED)
def test_c54_order(record: Both, query: str, expected: list[str]) -> None:
    assert record.ids(query) == expected
    pages = record.pages(f"{query}&_count=1")
    assert [id for page in pages for id in ids(page)] == expected


def test_c56_an_estimate_is_about_right(record: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit of exact totals, which is made small here."""
    monkeypatch.setattr(plan, "TOTAL_LIMIT", 2)
    for query, true in (("Procedure?", 7), ("Procedure?status=completed", 7),
                        ("Procedure?status=completed&date=ge2024&_sort=_id", 5)):  # fmt: skip
        for server in record.servers:
            answer = server.get(f"{query}&_total=estimate&_count=1").json()
            assert abs(answer["total"] - true) <= 1, (query, answer["total"])
            assert "total" not in server.get(f"{query}&_count=1").json()
            assert server.get(f"{query}&_total=accurate&_count=1").json()["total"] == true


def test_c56_an_estimate_says_nothing_of_what_is_hidden(
    secured: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "TOTAL_LIMIT", 2)
    every = secured.bearer("system/*.cruds")
    for name in ("a", "b"):
        secured.put(f"Patient/{name}", {"resourceType": "Patient", "id": name}, headers=every)
    for number in range(8):
        subject = {"reference": f"Patient/{'ab'[number % 2]}"}
        secured.create(observation(str(number), subject=subject), headers=every)
    own = secured.bearer("patient/*.rs", patient="a")
    query = "Observation?status=final&_total=estimate&_count=1"
    assert "total" not in secured.get(query, headers=own).json()
    assert secured.get(query, headers=every).json().get("total", 8) == 8


def test_c57_a_write_is_found_at_once(record: Both) -> None:
    for number in range(3):
        made = observation("fresh", code=coded(f"fresh-{number}"))
        record.put(made)
        assert record.ids(f"Observation?code=fresh-{number}") == ["fresh"]
        assert record.ids(f"Observation?code=fresh-{number - 1}") == []
    record.delete("Observation/fresh")
    assert record.ids("Observation?code=fresh-2") == []
