"""ConceptMap/$translate: https://hl7.org/fhir/R4/conceptmap-operation-translate.html"""

from __future__ import annotations

from typing import Any

from tests.serving import Server

from .asking import MAPS, get, post, put, refusal, values

Json = dict[str, Any]
ADDRESS = "http://hl7.org/fhir/address-use"
V3 = "http://terminology.hl7.org/CodeSystem/v3-AddressUse"
EXAMPLE = "http://hl7.org/fhir/ConceptMap/101"
SYRINGES = "http://hl7.org/fhir/ConceptMap/example2"


def matches(parameters: Json) -> list[tuple[str, str]]:
    found = []
    for part in parameters["parameter"]:
        if part["name"] == "match":
            parts = {p["name"]: p for p in part["part"]}
            code = parts.get("concept", {"valueCoding": {}})["valueCoding"].get("code", "")
            found.append((parts.get("equivalence", {"valueCode": ""})["valueCode"], code))
    return found


def concept_map(id_: str, group: Json, **more: Any) -> Json:
    return {
        "resourceType": "ConceptMap",
        "id": id_,
        "url": f"{MAPS}{id_}",
        "status": "active",
        "group": [{"source": "urn:s", "target": "urn:t"} | group],
    } | more


def element(code: str, *targets: tuple[str, str], **more: Any) -> Json:
    rows = [{"code": c, "equivalence": e} | more for e, c in targets]
    return {"code": code, "target": rows}


def test_the_official_example(server: Server) -> None:
    """https://hl7.org/fhir/R4/conceptmap-example.html"""
    where = {"url": EXAMPLE, "system": ADDRESS}
    home = get(server, "ConceptMap/$translate", code="home", **where)
    assert values(home) == {"result": True} and matches(home) == [("equivalent", "H")]
    (match,) = [p["part"] for p in home["parameter"] if p["name"] == "match"]
    assert match[-1] == {"name": "source", "valueUri": f"{EXAMPLE}|4.0.1"}
    assert match[1]["valueCoding"] == {"system": V3, "code": "H", "display": "home"}
    old = get(server, "ConceptMap/$translate", code="old", **where)
    assert values(old)["result"] is False and matches(old) == [("disjoint", "BAD")]
    fixed = get(server, "ConceptMap/$translate", code="billing", **where)
    assert matches(fixed) == [("relatedto", "temp")]
    back = {"url": EXAMPLE, "system": V3, "code": "WP", "reverse": True}
    assert matches(get(server, "ConceptMap/$translate", **back)) == [("equivalent", "work")]


def test_without_a_map_all_that_are_known_are_asked(server: Server) -> None:
    where = {"system": ADDRESS, "code": "home"}
    found = get(server, "ConceptMap/$translate", **where)
    assert ("equivalent", "H") in matches(found) and len(matches(found)) > 1
    put(
        server,
        concept_map("own", {"source": ADDRESS, "element": [element("home", ("wider", "x"))]}),
    )
    assert matches(get(server, "ConceptMap/$translate", **where))[0] == ("wider", "x")
    narrowed = get(server, "ConceptMap/$translate", targetsystem="urn:t", **where)
    assert matches(narrowed) == [("wider", "x")]
    target = "http://terminology.hl7.org/ValueSet/v3-AddressUse"
    scoped = get(server, "ConceptMap/$translate", target=target, **where)
    assert ("wider", "x") not in matches(scoped) and ("equivalent", "H") in matches(scoped)
    none = get(server, "ConceptMap/$translate", system="urn:none", code="a")
    assert values(none)["result"] is False and "message" in values(none)


def test_reverse_turns_the_equivalence(server: Server) -> None:
    rows = [element("a", ("wider", "x")), element("b", ("subsumes", "x"), ("unmatched", "y"))]
    put(server, concept_map("m", {"element": rows}))
    found = get(server, "ConceptMap/m/$translate", system="urn:t", code="x", reverse=True)
    assert matches(found) == [("narrower", "a"), ("specializes", "b")]
    none = get(server, "ConceptMap/m/$translate", system="urn:t", code="y", reverse=True)
    assert values(none)["result"] is False


def test_unmapped(server: Server) -> None:
    some = [element("a", ("equal", "y"))]
    other = {"mode": "other-map", "url": f"{MAPS}second"}
    put(
        server,
        concept_map("first", {"unmapped": other, "element": [element("a", ("equal", "x"))]}),
        concept_map("second", {"unmapped": {"mode": "provided"}, "element": some}),
        concept_map("circle", {"unmapped": other | {"url": f"{MAPS}circle"}, "element": some}),
        concept_map("lost", {"unmapped": other | {"url": f"{MAPS}nowhere"}, "element": some}),
    )
    where = {"system": "urn:s", "code": "b"}
    assert matches(get(server, "ConceptMap/first/$translate", **where)) == [("relatedto", "b")]
    circle = get(server, "ConceptMap/circle/$translate", 422, **where)
    assert refusal(circle)[0] == "too-costly"
    assert refusal(get(server, "ConceptMap/lost/$translate", 404, **where))[0] == "not-found"


def test_dependencies_and_products(server: Server) -> None:
    """https://hl7.org/fhir/R4/conceptmap-example-2.html"""
    on = {"property": "urn:organ", "system": "urn:o", "value": "heart"}
    product = {"property": "urn:side", "system": "urn:o", "value": "left"}
    row = element("a", ("equal", "x"), dependsOn=[on], product=[product])
    put(server, concept_map("m", {"element": [row]}))
    asked = [{"name": "coding", "valueCoding": {"system": "urn:s", "code": "a"}}]
    without = post(server, "ConceptMap/m/$translate", *asked)
    assert values(without)["result"] is False and "dependency" in values(without)["message"]
    concept = {"coding": [{"system": "urn:o", "code": "heart"}]}
    stated = {
        "name": "dependency",
        "part": [
            {"name": "element", "valueUri": "urn:organ"},
            {"name": "concept", "valueCodeableConcept": concept},
        ],
    }
    found = post(server, "ConceptMap/m/$translate", *asked, stated)
    assert matches(found) == [("equal", "x")]
    (match,) = [p["part"] for p in found["parameter"] if p["name"] == "match"]
    assert match[2]["part"] == [
        {"name": "element", "valueUri": "urn:side"},
        {"name": "concept", "valueCoding": {"system": "urn:o", "code": "left"}},
    ]


def test_refused(server: Server) -> None:
    where = {"system": ADDRESS, "code": "home"}
    get(server, "ConceptMap/$translate", 404, url=f"{MAPS}nowhere", **where)
    get(server, "ConceptMap/$translate", 404, url=EXAMPLE, conceptMapVersion="9", **where)
    get(server, "ConceptMap/$translate", 400, url=EXAMPLE, code="home")
    get(server, "ConceptMap/$translate", 400, url=EXAMPLE)
    get(server, "ConceptMap/$translate", 400, target="urn:a", targetsystem="urn:b", **where)


def test_a_given_map(server: Server) -> None:
    given = {"name": "conceptMap", "resource": concept_map(
        "m", {"element": [element("a", ("equal", "x"))]})}  # fmt: skip
    coding = {"name": "coding", "valueCoding": {"system": "urn:s", "code": "a"}}
    assert matches(post(server, "ConceptMap/$translate", given, coding)) == [("equal", "x")]


def test_only_what_the_caller_may_see(secured: Server) -> None:
    secured.headers = secured.bearer("system/*.cruds")
    put(secured, concept_map("m", {"element": [element("a", ("equal", "x"))]}))
    where = {"system": "urn:s", "code": "a"}
    assert values(get(secured, "ConceptMap/$translate", **where))["result"] is True
    secured.headers = secured.bearer("system/ConceptMap.rs?url=urn:none")
    assert values(get(secured, "ConceptMap/$translate", **where))["result"] is False
    get(secured, "ConceptMap/m/$translate", 404, **where)
