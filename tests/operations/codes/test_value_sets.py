"""$expand and $validate-code of value sets: https://hl7.org/fhir/R4/valueset-operations.html"""

from __future__ import annotations

from typing import Any

import pytest

from terminology.published import published
from tests.serving import Server

from .asking import (
    CODE_SYSTEM,
    KINDS,
    SCT,
    SETS,
    codes,
    get,
    of,
    post,
    put,
    refusal,
    value_set,
    values,
)

Json = dict[str, Any]
ALL = ["disease", "heart", "infarct", "dropsy", "lung", "pneumonia"]
WHOLE: Json = {"system": KINDS}


def listed(*some: str) -> Json:
    return {"system": KINDS, "concept": [{"code": code} for code in some]}


def given(resource: Json, **parameters: Any) -> list[Json]:
    rows: list[Json] = [{"name": "valueSet", "resource": resource}]
    kinds = {bool: "valueBoolean", int: "valueInteger", str: "valueString"}
    rows += [{"name": name, kinds[type(v)]: v} for name, v in parameters.items()]
    return rows


def expand(server: Server, resource: Json, **parameters: Any) -> Json:
    return post(server, "ValueSet/$expand", *given(resource, **parameters))


# https://hl7.org/fhir/R4/valueset-filter-operator.html
COMPOSED: list[tuple[Json, list[str]]] = [
    (value_set(WHOLE), ALL),
    (value_set(of(("concept", "is-a", "heart"))), ["heart", "infarct", "dropsy"]),
    (value_set(of(("concept", "descendent-of", "heart"))), ["infarct", "dropsy"]),
    (value_set(of(("concept", "is-not-a", "heart"))), ["disease", "lung", "pneumonia"]),
    (value_set(of(("concept", "generalizes", "infarct"))), ["disease", "heart", "infarct"]),
    (value_set(of(("concept", "in", "lung, heart,no"))), ["heart", "lung"]),
    (value_set(of(("code", "not-in", "lung,heart"))), ["disease", "infarct", "dropsy",
                                                       "pneumonia"]),
    (value_set(of(("organ", "in", "lung,heart"))), ["heart", "lung"]),
    (value_set(of(("code", "regex", "(heart|l.*)"))), ["heart", "lung"]),
    (value_set(of(("code", "regex", "ear"))), []),
    (value_set(of(("display", "regex", ".*disease"))), ["heart", "lung"]),
    (value_set(of(("mild", "=", "true"))), ["lung"]),
    (value_set(of(("organ", "exists", "true"))), ["heart", "lung"]),
    (value_set(of(("mild", "exists", "false"))), ["disease", "heart", "infarct", "dropsy",
                                                  "pneumonia"]),
    (value_set(of(("parent", "=", "lung"))), ["pneumonia"]),
    (value_set(of(("child", "exists", "true"))), ["disease", "heart", "lung"]),
    (value_set(of(("concept", "is-a", "disease"), ("organ", "=", "lung"))), ["lung"]),
    (value_set(of(("concept", "is-a", "lung")), of(("concept", "is-a", "heart"))),
     ["lung", "pneumonia", "heart", "infarct", "dropsy"]),
    (value_set(WHOLE, exclude=(listed("heart", "lung"),)),
     ["disease", "infarct", "dropsy", "pneumonia"]),
    (value_set(WHOLE, exclude=(of(("concept", "is-a", "heart")),)),
     ["disease", "lung", "pneumonia"]),
    (value_set(listed("heart"), exclude=(WHOLE,)), []),
    (value_set({"valueSet": [f"{SETS}hearts"]}, listed("lung")),
     ["heart", "infarct", "dropsy", "lung"]),
    (value_set({"valueSet": [f"{SETS}hearts", f"{SETS}some|1"]}), ["infarct"]),
    (value_set({"valueSet": [f"{SETS}some"], "system": KINDS}), ["infarct", "lung"]),
    (value_set(WHOLE, exclude=({"valueSet": [f"{SETS}hearts"]},)),
     ["disease", "lung", "pneumonia"]),
]  # fmt: skip

STORED = (
    CODE_SYSTEM,
    value_set(of(("concept", "is-a", "heart")), id="hearts", url=f"{SETS}hearts"),
    value_set(listed("infarct", "lung"), id="some", url=f"{SETS}some", version="1"),
    value_set({"valueSet": [f"{SETS}circle2"]}, id="circle", url=f"{SETS}circle"),
    value_set({"valueSet": [f"{SETS}circle"]}, id="circle2", url=f"{SETS}circle2"),
)


@pytest.fixture
def loaded(server: Server) -> Server:
    put(server, *STORED)
    return server


def test_compositions(loaded: Server) -> None:
    for resource, expected in COMPOSED:
        found = expand(loaded, resource)
        assert codes(found) == expected, resource["compose"]
        assert found["expansion"]["total"] == len(expected)


REFUSED: list[tuple[Json, int, str, str]] = [
    (value_set({"valueSet": [f"{SETS}circle"]}), 422, "not-supported", "itself"),
    (value_set({"valueSet": [f"{SETS}nowhere"]}), 404, "not-found", "nowhere"),
    (value_set({"valueSet": [f"{SETS}some|2"]}), 404, "not-found", "some|2"),
    (value_set({"system": SCT}), 422, "not-supported", SCT),
    (value_set({"system": SCT, "filter": [{"property": "concept", "op": "is-a", "value": "1"}]}),
     422, "not-supported", SCT),
    (value_set(of(("organ", "is-a", "heart"))), 422, "not-supported", "is-a"),
    (value_set(of(("orgn", "=", "heart"))), 422, "not-supported", "orgn"),
    (value_set(of(("code", "regex", "(a"))), 422, "not-supported", "regular expression"),
    (value_set(of(("mild", "exists", "maybe"))), 422, "not-supported", "exists"),
    (value_set(WHOLE | {"version": "1"}), 422, "not-supported", KINDS),
    (value_set(listed("heart") | {"version": "1"}, listed("lung") | {"version": "2"}), 422,
     "not-supported", "two versions"),
    (value_set(WHOLE, extension=[{
        "url": "http://hl7.org/fhir/StructureDefinition/valueset-supplement",
        "valueCanonical": "urn:supplement"}]), 404, "not-found", "urn:supplement"),
]  # fmt: skip


def test_what_cannot_be_expanded_is_refused(loaded: Server) -> None:
    for resource, status, code, named in REFUSED:
        answer = post(loaded, "ValueSet/$expand", *given(resource), status=status)
        found, text = refusal(answer)
        assert found == code and named in text, (resource["compose"], text)


def test_a_regular_expression_has_a_budget(server: Server) -> None:
    long = CODE_SYSTEM | {"concept": [{"code": f"{'a' * 400}{i}"} for i in range(2000)]}
    put(server, long)
    costly = value_set(of(("code", "regex", "(a*)*(a*)*b")))
    answer = post(server, "ValueSet/$expand", *given(costly), status=422)
    assert refusal(answer)[0] == "too-costly"


PAGES: list[tuple[Json, list[str], int]] = [
    ({"count": 2}, ["disease", "heart"], 6),
    ({"count": 2, "offset": 2}, ["infarct", "dropsy"], 6),
    ({"offset": 4}, ["lung", "pneumonia"], 6),
    ({"count": 9, "offset": 9}, [], 6),
    ({"count": 0}, [], 6),
    ({"filter": "dis"}, ["disease", "heart", "lung"], 3),
    ({"filter": "HEART dis"}, ["heart"], 1),
    ({"filter": "infarct"}, ["infarct"], 1),
    ({"filter": "herz"}, ["heart"], 1),
    ({"filter": "sease"}, [], 0),
    ({"filter": "dis", "count": 1, "offset": 1}, ["heart"], 3),
    ({"activeOnly": True}, ["disease", "heart", "infarct", "lung", "pneumonia"], 5),
    ({"excludeNotForUI": True}, ALL[1:], 5),
    ({"exclude-system": KINDS}, [], 0),
]


def test_pages_and_filters(loaded: Server) -> None:
    for parameters, expected, total in PAGES:
        found = expand(loaded, value_set(WHOLE), **parameters)
        assert codes(found) == expected, parameters
        assert found["expansion"]["total"] == total
        named = {row["name"] for row in found["expansion"]["parameter"]}
        assert parameters.keys() <= named and "version" in named


def test_pages_refuse(loaded: Server) -> None:
    put(loaded, value_set(WHOLE, id="whole", url=f"{SETS}whole"))
    for parameters in (
        {"count": -1}, {"offset": -1}, {"count": "many"}, {"count": 1, "excludeNested": False},
    ):  # fmt: skip
        get(loaded, "ValueSet/whole/$expand", 400, **parameters)
    get(loaded, "ValueSet/whole/$expand", 422, context="urn:x")
    get(loaded, "ValueSet/whole/$expand", 422, filter="?!")
    get(loaded, "ValueSet/whole/$expand", 422, date="2020-01-01")
    get(loaded, "ValueSet/whole/$expand", 400, url=f"{SETS}whole")
    get(loaded, "ValueSet/nobody/$expand", 404)
    get(loaded, "ValueSet/$expand", 400)
    get(loaded, "ValueSet/$expand", 404, url=f"{SETS}nowhere")


def test_nested(loaded: Server) -> None:
    found = expand(loaded, value_set(WHOLE, exclude=(listed("heart"),)), excludeNested=False)
    (disease, *others) = found["expansion"]["contains"]
    assert disease["code"] == "disease" and disease["abstract"] is True
    assert [one["code"] for one in disease["contains"]] == ["lung"]
    assert [one["code"] for one in disease["contains"][0]["contains"]] == ["pneumonia"]
    assert [one["code"] for one in others] == ["infarct", "dropsy"]
    assert others[1]["inactive"] is True and found["expansion"]["total"] == 5


def test_nested_circles(server: Server) -> None:
    parents = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "d")]
    concepts = [{"code": c, "property": [{"code": "parent", "valueCode": p}]} for c, p in parents]
    put(server, CODE_SYSTEM | {"concept": concepts})
    found = expand(server, value_set(WHOLE), excludeNested=False)["expansion"]

    def shown(rows: list[Json]) -> int:
        return sum(1 + shown(row.get("contains", [])) for row in rows)

    assert shown(found["contains"]) == found["total"] == 4


def test_languages_and_designations(loaded: Server) -> None:
    own = {"code": "lung", "display": "Lungs!",
           "designation": [{"language": "de", "value": "Lunge"}]}  # fmt: skip
    resource = value_set({"system": KINDS, "concept": [{"code": "heart"}, own]})

    def shown(**parameters: Any) -> list[tuple[str, list[str]]]:
        rows = expand(loaded, resource, **parameters)["expansion"]["contains"]
        return [(r["display"], [d["value"] for d in r.get("designation", [])]) for r in rows]

    assert shown() == [("Heart disease", []), ("Lungs!", [])]
    assert shown(displayLanguage="de") == [("Herzkrankheit", []), ("Lunge", [])]
    assert shown(displayLanguage="fr") == [("Heart disease", []), ("Lungs!", [])]
    assert shown(includeDesignations=True) == [
        ("Heart disease", ["Herzkrankheit", "HD"]), ("Lungs!", ["Lunge"]),
    ]  # fmt: skip
    assert shown(designation="urn:use|short")[0][1] == ["HD"]
    assert shown(designation="urn:ietf:bcp:47|de")[0][1] == ["Herzkrankheit"]
    assert shown(designation="urn:other|short")[0][1] == []


def test_versions(loaded: Server) -> None:
    resource = value_set(WHOLE)
    for name in ("system-version", "check-system-version", "force-system-version"):
        assert codes(expand(loaded, resource, **{name: f"{KINDS}|2"})) == ALL
        post(loaded, "ValueSet/$expand", *given(resource, **{name: f"{KINDS}|9"}), status=422)
        post(loaded, "ValueSet/$expand", *given(resource, **{name: KINDS}), status=400)
    stated = value_set(WHOLE | {"version": "2"})
    assert codes(expand(loaded, stated, **{"system-version": f"{KINDS}|9"})) == ALL
    rows = given(stated, **{"check-system-version": f"{KINDS}|9"})
    assert refusal(post(loaded, "ValueSet/$expand", *rows, status=422))[0] == "business-rule"
    put(loaded, CODE_SYSTEM | {"id": "old", "version": "1", "concept": [{"code": "x"}]})
    assert codes(expand(loaded, value_set(WHOLE | {"version": "1"}))) == ["x"]
    assert codes(expand(loaded, stated, **{"force-system-version": f"{KINDS}|1"})) == ["x"]


def test_inactive_codes_may_be_left_out_by_the_value_set(loaded: Server) -> None:
    resource = value_set(WHOLE)
    resource["compose"]["inactive"] = False
    assert "dropsy" not in codes(expand(loaded, resource))


def test_too_many_codes(server: Server) -> None:
    many = [{"code": f"c{i}", "display": f"Number {i}"} for i in range(10_001)]
    for start in (0, 5_001):
        part = many[start : start + 5_001]
        put(server, CODE_SYSTEM | {"id": f"k{start}", "url": f"urn:k{start}", "concept": part})
    resource = value_set({"system": "urn:k0"}, {"system": "urn:k5001"})
    answer = post(server, "ValueSet/$expand", *given(resource), status=422)
    assert refusal(answer)[0] == "too-costly"
    page = expand(server, resource, count=2, offset=5_000)
    assert codes(page) == ["c5000", "c5001"] and page["expansion"]["total"] == 10_001
    assert codes(expand(server, resource, filter="number 7777")) == ["c7777"]


def test_an_expansion_stands_in_for_what_cannot_be_composed(server: Server) -> None:
    """ValueSet/example-expansion: https://hl7.org/fhir/R4/valueset-example-expansion.html"""
    url = "http://hl7.org/fhir/ValueSet/example-expansion"
    official = published("ValueSet", url)
    assert official is not None
    top = official["expansion"]["contains"]
    expected = [c for one in top for c in [one, *one.get("contains", [])] if "code" in c]
    found = get(server, "ValueSet/$expand", url=url)
    shown = [(c["code"], c["display"]) for c in found["expansion"]["contains"]]
    assert shown == [(c["code"], c["display"]) for c in expected] and len(shown) > 3


def test_the_official_examples(server: Server) -> None:
    base = "http://hl7.org/fhir/ValueSet/"
    found = get(server, "ValueSet/$expand", url=f"{base}example-extensional")
    assert codes(found) == ["14647-2", "2093-3", "35200-5", "9342-7"]
    gender = get(server, "ValueSet/$expand", url=f"{base}administrative-gender|4.0.1")
    assert codes(gender) == ["male", "female", "other", "unknown"]
    assert gender["expansion"]["contains"][0]["display"] == "Male"
    get(server, "ValueSet/$expand", 404, url=f"{base}administrative-gender|3.0.1")
    for id_, named in (("example-intensional", "loinc"), ("example-filter", "acme-plasma")):
        code, text = refusal(get(server, "ValueSet/$expand", 422, url=f"{base}{id_}"))
        assert code == "not-supported" and named in text


JUDGED: list[tuple[Json, Json, bool, str]] = [
    (value_set(of(("concept", "is-a", "heart"))), {"code": "infarct"}, True, ""),
    (value_set(of(("concept", "is-a", "heart"))), {"code": "lung"}, False, "not in the value set"),
    (value_set(WHOLE), {"code": "no"}, False, "not a code"),
    (value_set(WHOLE), {"code": "heart", "display": "Wrong"}, False, "'Wrong' is incorrect"),
    (value_set(WHOLE), {"code": "heart", "systemVersion": "9"}, False, "not known"),
    (value_set(WHOLE | {"version": "2"}), {"code": "heart", "systemVersion": "9"}, False,
     "version 2"),
    (value_set(WHOLE), {"code": "disease", "abstract": False}, False, "abstract"),
    (value_set({"system": SCT, "concept": [{"code": "1", "display": "One"}]}),
     {"code": "1", "system": SCT, "display": "one"}, True, ""),
    (value_set({"system": SCT, "concept": [{"code": "1", "display": "One"}]}),
     {"code": "1", "system": SCT, "display": "two"}, False, "incorrect"),
    (value_set({"system": SCT}), {"code": "1", "system": SCT}, False, "not known"),
]  # fmt: skip


def test_validate_code(loaded: Server) -> None:
    for resource, parameters, result, message in JUDGED:
        rows = given(resource, **({"system": KINDS} | parameters))
        found = values(post(loaded, "ValueSet/$validate-code", *rows))
        assert found["result"] is result, (parameters, found)
        assert message in found.get("message", "") and bool(message) is ("message" in found)


def test_validate_code_by_url_instance_and_concept(loaded: Server) -> None:
    where = {"system": KINDS, "code": "infarct"}
    found = get(loaded, "ValueSet/$validate-code", url=f"{SETS}hearts", **where)
    assert values(found) == {"result": True, "display": "Infárct of the heart"}
    assert get(loaded, "ValueSet/hearts/$validate-code", **where) == found
    codings = [{"system": KINDS, "code": "lung"}, where]
    rows = [
        {"name": "url", "valueUri": f"{SETS}hearts"},
        {"name": "codeableConcept", "valueCodeableConcept": {"coding": codings}},
    ]
    assert values(post(loaded, "ValueSet/$validate-code", *rows))["result"] is True
    get(loaded, "ValueSet/$validate-code", 404, url=f"{SETS}nowhere", **where)
    get(loaded, "ValueSet/$validate-code", 400, url=f"{SETS}hearts", code="infarct")
    get(loaded, "ValueSet/$validate-code", 400, url=f"{SETS}hearts", system=KINDS)


def test_only_what_the_caller_may_see(secured: Server) -> None:
    secured.headers = secured.bearer("system/*.cruds")
    put(secured, *STORED)
    assert codes(get(secured, "ValueSet/hearts/$expand")) == ["heart", "infarct", "dropsy"]
    secured.headers = secured.bearer("system/ValueSet.rs")
    unseen = refusal(get(secured, "ValueSet/hearts/$expand", 422))
    assert KINDS in unseen[1]
    secured.headers = secured.bearer("system/ValueSet.rs?url=urn:none system/CodeSystem.rs")
    get(secured, "ValueSet/hearts/$expand", 404)
    get(secured, "ValueSet/$expand", 404, url=f"{SETS}hearts")


def test_a_changed_definition_changes_the_answer(loaded: Server) -> None:
    url = f"{SETS}hearts"
    assert len(codes(get(loaded, "ValueSet/$expand", url=url))) == 3
    put(loaded, CODE_SYSTEM | {"concept": CODE_SYSTEM["concept"][1:]})
    assert codes(get(loaded, "ValueSet/$expand", url=url)) == []
    put(loaded, value_set(listed("pneumonia"), id="hearts", url=url))
    assert codes(get(loaded, "ValueSet/$expand", url=url)) == ["pneumonia"]
