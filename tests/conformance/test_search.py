"""Conformance of searches, cases 25 to 57: https://hl7.org/fhir/R4/search.html

Each test asks the same of a server on every store; the answers must be equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.conformance.records import INCLUDES, RECORD, ROWS, observation, patient
from tests.serving import BASE

from .searching import Both, Json, both, encoded, ids, link, self_query


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both(tmp_path_factory.mktemp("record")) as servers:
        servers.put(*RECORD)
        yield servers


OBSERVATIONS = {"open", "jan", "feb", "year", "pressure"}


def test_c25_self_states_what_was_applied(record: Both) -> None:
    bundle = record.bundle("Patient?gender=female&nothing=1&_count=5000")
    assert bundle["type"] == "searchset"
    assert self_query(bundle) == {"gender": ["female"], "_count": ["1000"]}
    assert self_query(record.bundle("Patient?gender=female")) == {
        "gender": ["female"],
        "_count": ["20"],
    }
    awkward = "Patient?identifier=urn:mrn|a\\,b\\|c\\$d"
    bundle = record.bundle(awkward)
    assert ids(bundle) == ["anna"]
    again = record.servers[0].get(link(bundle, "self") or "")
    assert ids(again.json()) == ["anna"]


def test_c25_self_after_post_is_a_get(record: Both) -> None:
    for server in record.servers:
        form = {"content-type": "application/x-www-form-urlencoded"}
        answer = server.send(
            "POST", "Patient/_search?gender=male", content=b"birthdate=1980", headers=form
        )
        assert ids(answer.json()) == ["bert"]
        assert ids(server.get(link(answer.json(), "self") or "").json()) == ["bert"]


@pytest.mark.parametrize(
    "query",
    [
        "Patient?_count=1",
        "Patient?_count=1&_sort=birthdate",
        "Patient?_count=1&_sort=-birthdate,name",
        "Observation?_count=2&code:not=2-6",
        "Patient/anna/Observation?_count=1",
        "Patient/anna/*?_count=1",
        "?_type=Patient,Observation&_count=3",
    ],
)
def test_c26_c27_c54_pages_repeat_and_skip_nothing(record: Both, query: str) -> None:
    pages = record.pages(query)
    assert len(pages) > 1 and link(pages[-1], "next") is None
    found = [id for page in pages for id in ids(page)]
    assert len(found) == len(set(found)) == pages[0]["total"]
    assert {page["total"] for page in pages} == {len(found)}
    place = query.partition("?")[0]
    for page in pages[:-1]:
        following = link(page, "next") or ""
        assert following.startswith(f"{BASE}/{place}?" if place else f"{BASE}?")
        assert "code" not in urlsplit(following).query.replace("_cursor", "")
    whole = record.ids(query.replace("_count=1", "_count=50").replace("_count=2", "_count=50"))
    assert found == whole or "_count=3" in query


def test_c27_a_page_link_stays_in_its_place(record: Both) -> None:
    following = link(record.pages("Patient/anna/Observation?_count=1")[0], "next") or ""
    cursor = urlsplit(following).query
    for server in record.servers[:1]:
        assert server.get(f"Observation?{cursor}").status_code == 400
        assert server.get(f"Patient/bert/Observation?{cursor}").status_code == 400


def test_c28_c29_total_counts_matches_and_each_resource_comes_once(record: Both) -> None:
    bundle = record.bundle(
        "Patient?_include=Patient:link&_include=Patient:organization"
        "&_revinclude=Observation:subject&unknown=1"
    )
    assert bundle["total"] == 3
    urls = [e["fullUrl"] for e in bundle["entry"] if "fullUrl" in e]
    assert len(urls) == len(set(urls)) and all(url.startswith(BASE) for url in urls)
    modes = {e["resource"].get("id"): e["search"]["mode"] for e in bundle["entry"]}
    assert modes["anna"] == "match" and modes["ward"] == modes["jan"] == "include"
    assert bundle["entry"][-1]["search"]["mode"] == "outcome"


@pytest.mark.parametrize("query", ["Patient?_count=0", "Patient?_summary=count"])
def test_c30_only_the_count(record: Both, query: str) -> None:
    bundle = record.bundle(query)
    assert bundle["total"] == 3 and "entry" not in bundle
    assert [one["relation"] for one in bundle["link"]] == ["self"]


@pytest.mark.parametrize("value", ["-1", "NaN", "1.5", "a"])
def test_c30_count_is_a_number(record: Both, value: str) -> None:
    record.refused(f"Patient?_count={value}", "_count")


def parts(bundle: Json) -> dict[str, Json]:
    return {e["resource"]["id"]: e["resource"] for e in bundle["entry"]}


def subsetted(resource: Json) -> bool:
    return any(tag["code"] == "SUBSETTED" for tag in resource["meta"].get("tag", ()))


def test_c31_summaries(record: Both) -> None:
    query = "Patient?_id=anna&_include=Patient:organization"
    whole = parts(record.bundle(f"{query}&_summary=false"))
    assert "text" in whole["anna"] and not subsetted(whole["anna"])
    short = parts(record.bundle(f"{query}&_summary=true"))
    assert "text" not in short["anna"] and "name" in short["anna"]
    assert subsetted(short["anna"]) and subsetted(short["ward"])
    text = parts(record.bundle("Patient?_id=anna&_summary=text"))["anna"]
    assert set(text) == {"resourceType", "id", "meta", "text"} and subsetted(text)
    data = parts(record.bundle(f"{query}&_summary=data"))["anna"]
    assert set(whole["anna"]) - set(data) == {"text"} and subsetted(data)
    record.refused("Patient?_summary=some", "_summary")


@pytest.mark.parametrize("how", ["_summary=true", "_elements=status"])
def test_c31_a_subset_does_not_overwrite_the_whole(record: Both, how: str) -> None:
    """ "to ensure that the incomplete resource is not accidentally used to overwrite a complete
    resource": neither by itself nor in a transaction."""
    [subset] = parts(record.bundle(f"Observation?_id=jan&{how}")).values()
    entry = {"resource": subset, "request": {"method": "PUT", "url": "Observation/jan"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    for server in record.servers:
        whole = server.get("Observation/jan").content
        for answer in server.put("Observation/jan", subset), server.post("", bundle):
            assert answer.status_code == 422 and "SUBSETTED" in answer.text
        assert server.get("Observation/jan").content == whole


def test_c31_elements(record: Both) -> None:
    found = parts(record.bundle("Observation?_id=jan&_elements=value,Observation.encounter"))
    assert set(found["jan"]) == {"resourceType", "id", "meta", "status", "code", "valueQuantity"}
    assert subsetted(found["jan"])
    record.refused("Observation?_elements=nothing", "nothing")
    record.refused("Observation?_elements=value&_summary=text", "_elements")
    for server in record.servers:
        answer = server.get("Patient/anna?_elements=gender")
        assert set(answer.json()) == {"resourceType", "id", "meta", "gender"}
        assert answer.headers["etag"] == 'W/"1"'
        assert subsetted(server.get("Patient/anna?_summary=true").json())


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("Patient?name:nothing=x", ":nothing"),
        ("Patient?birthdate=zz2020", "birthdate"),
        ("Patient?birthdate=2024-13", "birthdate"),
        ("Patient?_include=Patient:name", "name"),
        ("Patient?_include=Foo:name", "Foo"),
        ("Observation?_sort=subject.name", "chain"),
        ("Patient?_type=Foo", "_type"),
        ("?_type=Foo", "Foo"),
        ("Patient/anna/*?_type=Medication", "compartment"),
        ("Patient?_sort=general-practitioner", "_sort"),
        ("Patient?_text=(x", "_text"),
        ("Patient?_content=x)", "_content"),
        ("Patient?_query=x", "_query"),
        ("Patient?_contained=yes", "_contained"),
        ("Patient?_list=$current-problems", "$current"),
    ],
)
def test_c32_c33_c55_refused(record: Both, query: str, named: str) -> None:
    if query == "Patient?_type=Foo":
        query, named = "Patient?_type=Foo&_count=1", "_type"
        record.refused(query, named, headers={"prefer": "handling=strict"})
        return
    record.refused(query, named)


def test_c32_unknown_parameters(record: Both) -> None:
    bundle = record.bundle("Patient?nothing=1")
    assert "nothing" in str(bundle["entry"][-1]["resource"]) and bundle["total"] == 3
    record.refused("Patient?nothing=1", "nothing", headers={"prefer": "handling=strict"})


@pytest.mark.parametrize(("query", "expected"), ROWS)
def test_c35_to_c55_semantics(record: Both, query: str, expected: set[str]) -> None:
    joint = "&" if "?" in query else "?"
    bundle = record.bundle(f"{query}{joint}_count=100")
    assert set(ids(bundle)) == expected
    assert bundle["total"] == len(expected) == len(ids(bundle))


def test_c51_deleted_targets_do_not_match(record: Both) -> None:
    record.put(patient("gone", "Gone"), observation("left", "9-9", "Patient/gone"))
    assert record.ids("Observation?subject.name=gone") == ["left"]
    for server in record.servers:
        server.send("DELETE", "Observation/left")
        server.send("DELETE", "Patient/gone")
    assert record.ids("Observation?subject.name=gone") == []
    assert record.ids("Patient?_id=gone") == []


@pytest.mark.parametrize(("query", "expected"), INCLUDES)
def test_c53_includes(record: Both, query: str, expected: set[str]) -> None:
    bundle = record.bundle(query)
    assert set(ids(bundle, "include")) == expected and bundle["total"] == 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Patient?_sort=birthdate", ["anna", "bert", "carl"]),
        ("Patient?_sort=-birthdate", ["carl", "bert", "anna"]),
        ("Patient?_sort=gender", ["anna", "bert", "carl"]),
        ("Patient?_sort=-gender", ["bert", "anna", "carl"]),
        ("Patient?_sort=family", ["bert", "carl", "anna"]),
        ("Patient?_sort=_id", ["anna", "bert", "carl"]),
        ("Patient?_sort=-_id", ["carl", "bert", "anna"]),
        ("Observation?_id=jan,feb,pressure&_sort=value-quantity", ["jan", "feb", "pressure"]),
        ("Observation?_id=jan,feb,pressure&_sort=-value-quantity", ["feb", "jan", "pressure"]),
        ("Observation?_id=jan,feb,year&_sort=code,-date", ["jan", "year", "feb"]),
        ("Location?_sort=name", ["kyiv"]),
        ("Observation?_sort=combo-code,_id", ["jan", "open", "year", "feb", "pressure"]),
        ("Observation?_sort=-combo-code,_id", ["pressure", "feb", "jan", "open", "year"]),
        (
            "Observation?_id=jan,feb,pressure&_sort=-combo-value-quantity",
            ["pressure", "feb", "jan"],
        ),
    ],
)
def test_c54_sort_with_missing_values_last(record: Both, query: str, expected: list[str]) -> None:
    assert record.ids(query) == expected


@pytest.mark.parametrize("total", ["none", "estimate", "accurate"])
def test_c56_totals(record: Both, total: str) -> None:
    bundle = record.bundle(f"Patient?_total={total}&_count=1")
    assert bundle.get("total") == (None if total == "none" else 3)


def test_c34_system_and_compartment_by_form(record: Both) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    for server in record.servers:
        answer = server.send("POST", "_search?_type=Patient", content=b"_id=anna,jan", headers=form)
        assert ids(answer.json()) == ["anna"]
        answer = server.send(
            "POST", "Patient/anna/Observation/_search", content=b"date=lt2024-01-25", headers=form
        )
        assert ids(answer.json()) == ["open"]
        assert link(answer.json(), "self") == (
            f"{BASE}/Patient/anna/Observation?date=lt2024-01-25&_count=20"
        )


def test_encoding_of_test_queries() -> None:
    assert encoded("Patient?name=a b%25") == "Patient?name=a%20b%25"


@pytest.mark.parametrize(
    "empty", ["name=", "_count=", "_sort=", "name:exact=", "_include=", "_type="]
)
def test_c32_an_empty_parameter_is_dropped_and_says_so(record: Both, empty: str) -> None:
    """ "Empty parameters are not an error - they are just ignored by the server."

    https://hl7.org/fhir/R4/search.html#errors
    """
    query = f"Patient?{empty}&gender=female"
    assert record.found(query) == record.found("Patient?gender=female")
    bundle = record.bundle(query)
    assert empty.partition("=")[0].partition(":")[0] not in self_query(bundle) or "_count" in empty
    (said,) = [e for e in bundle["entry"] if e["search"]["mode"] == "outcome"]
    assert "is empty" in said["resource"]["issue"][0]["diagnostics"]
    record.refused(query, "is empty", headers={"prefer": "handling=strict"})
