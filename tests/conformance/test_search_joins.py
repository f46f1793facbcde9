"""Canonical references, and includes beyond one answer: cases 48, 51 to 53 and 26 to 28.

https://hl7.org/fhir/R4/references.html#canonical, https://hl7.org/fhir/R4/search.html#include
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fhir_server.search import plan
from tests.serving import BASE, Server

from .searching import Both, Json, both, ids, link, walk

FORM = "http://example.org/Questionnaire/form"
OTHER = "http://example.org/Questionnaire/other"


def form(id: str, url: str, version: str = "", **more: Json | str) -> Json:
    found = {"resourceType": "Questionnaire", "id": id, "url": url, "status": "active", **more}
    return found | ({"version": version} if version else {})


def answered(id: str, questionnaire: str, **more: Json | str) -> Json:
    return {"resourceType": "QuestionnaireResponse", "id": id, "status": "completed",
            "questionnaire": questionnaire, **more}  # fmt: skip


def plan_definition(id: str, canonical: str) -> Json:
    return {"resourceType": "PlanDefinition", "id": id, "status": "active",
            "action": [{"definitionCanonical": canonical}]}  # fmt: skip


RECORD: list[Json] = [
    form("one", FORM, "1", name="Sleep"),
    form("two", FORM, "2", name="Waking"),
    form("bare", OTHER, name="Sleeping"),
    answered("any", FORM),
    answered("first", f"{FORM}|1"),
    answered("second", f"{FORM}|2"),
    answered("third", f"{FORM}|3"),
    answered("part", f"{FORM}|2#page"),
    answered("versioned", f"{OTHER}|1"),
    answered("unknown", "http://example.org/none"),
    plan_definition("care", FORM),
    {"resourceType": "CodeSystem", "id": "base", "url": "http://example.org/base",
     "status": "active", "content": "complete", "name": "Base"},
    {"resourceType": "CodeSystem", "id": "more", "url": "http://example.org/more",
     "status": "active", "content": "supplement", "supplements": "http://example.org/base"},
    {"resourceType": "Library", "id": "loop", "url": "http://example.org/loop", "status": "active",
     "type": {"text": "x"}, "relatedArtifact": [
         {"type": "depends-on", "resource": "http://example.org/loop"},
         {"type": "depends-on", "resource": FORM}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both(tmp_path_factory.mktemp("canonical")) as servers:
        servers.put(*RECORD)
        yield servers


RESPONSES = "QuestionnaireResponse"
ROWS: list[tuple[str, set[str]]] = [
    # 48: the url finds every version, url|version that one; a fragment is of the same resource
    (f"{RESPONSES}?questionnaire={FORM}", {"any", "first", "second", "third", "part"}),
    (f"{RESPONSES}?questionnaire={FORM}|2", {"second", "part"}),
    (f"{RESPONSES}?questionnaire={FORM}|2%23page", {"part"}),
    (f"{RESPONSES}?questionnaire={FORM}/", set()),
    (f"PlanDefinition?definition={FORM}", {"care"}),
    # 51: chains; a reference without a version leads to each that is stored
    (f"{RESPONSES}?questionnaire.name=sleep", {"any", "first"}),
    (f"{RESPONSES}?questionnaire.name=wak", {"any", "second", "part"}),
    (f"{RESPONSES}?questionnaire:Questionnaire.version=1", {"any", "first"}),
    (f"{RESPONSES}?questionnaire._id=bare", set()),
    ("Library?depends-on:Library.depends-on:Questionnaire.name=sleep", {"loop"}),
    ("PlanDefinition?definition.name=sleep", {"care"}),
    ("CodeSystem?supplements.name=base", {"more"}),
    ("Library?depends-on:Library._id=loop", {"loop"}),
    (f'{RESPONSES}?_filter=questionnaire.name eq "Waking"', {"any", "second", "part"}),
    # 52: _has
    (f"Questionnaire?_has:{RESPONSES}:questionnaire:_id=any", {"one", "two"}),
    (f"Questionnaire?_has:{RESPONSES}:questionnaire:_id=second", {"two"}),
    (f"Questionnaire?_has:{RESPONSES}:questionnaire:_id=third,versioned,unknown", set()),
    (f"Questionnaire?_has:{RESPONSES}:questionnaire:status=completed", {"one", "two"}),
    ("CodeSystem?_has:CodeSystem:supplements:_id=more", {"base"}),
    ("Questionnaire?_has:Library:depends-on:_has:Library:depends-on:_id=loop", {"one", "two"}),
]


@pytest.mark.parametrize(("query", "expected"), ROWS)
def test_c48_c51_c52_canonical(record: Both, query: str, expected: set[str]) -> None:
    bundle = record.bundle(f"{query}&_count=100")
    assert set(ids(bundle)) == expected and bundle["total"] == len(expected)


INCLUDES: list[tuple[str, set[str]]] = [
    (f"{RESPONSES}?_id=first&_include={RESPONSES}:questionnaire", {"one"}),
    (f"{RESPONSES}?_id=any&_include={RESPONSES}:questionnaire", {"one", "two"}),
    (f"{RESPONSES}?_id=third,versioned&_include={RESPONSES}:questionnaire", set()),
    (f"{RESPONSES}?_id=part&_include=*", {"two"}),
    (f"Questionnaire?_id=one&_revinclude={RESPONSES}:questionnaire", {"any", "first"}),
    ("Questionnaire?_id=one&_revinclude=*", {"any", "first", "care", "loop"}),
    ("Library?_include:iterate=Library:depends-on", {"one", "two"}),
    ("Library?_include:iterate=*", {"one", "two"}),
]  # fmt: skip


@pytest.mark.parametrize(("query", "expected"), INCLUDES)
def test_c53_canonical_includes(record: Both, query: str, expected: set[str]) -> None:
    assert set(ids(record.bundle(query), "include")) == expected


def test_c51_a_canonical_leads_only_to_what_is_there(record: Both) -> None:
    record.put(form("brief", "http://example.org/brief", name="Brief"))
    record.put(answered("of-brief", "http://example.org/brief"))
    query = f"{RESPONSES}?questionnaire.name=brief"
    assert record.ids(query) == ["of-brief"]
    record.delete("Questionnaire/brief")
    assert record.ids(query) == []
    assert record.ids(f"{RESPONSES}?questionnaire=http://example.org/brief") == ["of-brief"]


def test_c79_a_hidden_target_of_a_canonical_is_no_target(secured: Server) -> None:
    """Who may not read a Questionnaire neither finds by it nor gets it."""
    every = secured.bearer("system/*.cruds")
    for resource in (form("one", FORM, name="Sleep"), answered("first", FORM)):
        place = f"{resource['resourceType']}/{resource['id']}"
        assert secured.put(place, resource, headers=every).status_code == 201
    queries = {
        f"{RESPONSES}?questionnaire.name=sleep": ["first"],
        f"{RESPONSES}?questionnaire:missing=false": ["first"],
        f"{RESPONSES}?_include={RESPONSES}:questionnaire": ["first", "one"],
        f"{RESPONSES}?_include=*": ["first", "one"],
    }
    narrow = secured.bearer("system/QuestionnaireResponse.rs")
    for query, whole in queries.items():
        shown = [e["resource"]["id"] for e in secured.get(query, headers=every).json()["entry"]]
        assert shown == whole, query
        left = secured.get(query, headers=narrow).json()
        kept = [] if "name" in query else ["first"]
        assert [e["resource"]["id"] for e in left.get("entry", ())] == kept, query


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Three patients, of whom one is referred to by more than one answer may include."""
    with both(tmp_path_factory.mktemp("many")) as servers:
        people = [{"resourceType": "Patient", "id": name} for name in ("none", "few", "lots")]
        servers.put(*people)
        made = [
            {"resourceType": "Basic", "id": f"b{n}", "code": {"text": "x"},
             "subject": {"reference": "Patient/few" if n < 5 else "Patient/lots"}}
            for n in range(plan.INCLUDE_LIMIT * 2 + 55)
        ]  # fmt: skip
        for server in servers.servers:
            for start in range(0, len(made), 500):
                entries = [
                    {"request": {"method": "PUT", "url": f"Basic/{one['id']}"}, "resource": one}
                    for one in made[start : start + 500]
                ]
                bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
                assert server.post(BASE, bundle).status_code == 200
        yield servers


def test_c53_includes_beyond_one_answer_come_next(many: Both) -> None:
    """Every one once, behind the matches that they belong to; the total stays the same."""
    for server in many.servers:
        pages = list(walk(server, "Patient?_revinclude=Basic:subject&_count=2"))
        shapes = [(ids(page), len(ids(page, "include"))) for page in pages]
        most = plan.INCLUDE_LIMIT
        assert shapes == [(["lots", "few"], most), ([], most), ([], 55), (["none"], 0)]
        included = [id for page in pages for id in ids(page, "include")]
        assert len(set(included)) == len(included) == most * 2 + 55
        assert {page["total"] for page in pages} == {3}
        told = [page["entry"][-1]["search"]["mode"] == "outcome" for page in pages[:3]]
        assert told == [True, True, False]
        assert len({link(page, "self") for page in pages}) == 4


def test_c53_a_further_part_shows_what_is_there_when_it_is_asked_for(many: Both) -> None:
    for server in many.servers:
        first = server.get("Patient?_revinclude=Basic:subject&_count=2").json()
        further = link(first, "next")
        assert further is not None
        for n in range(3):
            server.put(f"Patient/late{n}", {"resourceType": "Patient", "id": f"late{n}"})
        server.delete(f"Basic/b{plan.INCLUDE_LIMIT + 1}")
        pages = list(walk(server, further))
        shown = {id for page in pages for id in ids(page, "include")}
        expected = {f"b{n}" for n in range(plan.INCLUDE_LIMIT, plan.INCLUDE_LIMIT * 2 + 55)}
        assert shown == expected - {f"b{plan.INCLUDE_LIMIT + 1}"}
        assert [id for page in pages for id in ids(page)] == ["none"]
