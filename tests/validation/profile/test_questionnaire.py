"""QuestionnaireResponses against their Questionnaires."""

from __future__ import annotations

from typing import Any

import pytest

from tests.validation.profile.world import World

Json = dict[str, Any]
URL = "http://example.org/Questionnaire/q"
SNOW = {"system": "urn:s", "code": "snow"}
RAIN = {"system": "urn:s", "code": "rain"}


def item(link: str, type_: str, *items: Json, **more: Any) -> Json:
    inner = {"item": [*items]} if items else {}
    return {"linkId": link, "type": type_, **inner, **more}


def answered(link: str, *answers: Json, items: list[Json] | None = None) -> Json:
    given = {"answer": [*answers]} if answers else {}
    return {"linkId": link, **given, **({"item": items} if items else {})}


def world(*items: Json) -> World:
    questionnaire = {"resourceType": "Questionnaire", "url": URL, "status": "active"}
    colours = {
        "resourceType": "ValueSet",
        "url": "urn:weather",
        "compose": {"include": [{"system": "urn:s", "concept": [{"code": "snow"}]}]},
    }
    return World(more=[questionnaire | {"item": [*items]}, colours])


def found(
    world: World, *items: Json, status: str = "completed", severity: str = "error"
) -> list[tuple[str, str]]:
    response: Json = {
        "resourceType": "QuestionnaireResponse",
        "questionnaire": URL,
        "status": status,
    }
    if items:
        response["item"] = [*items]
    issues = world.issues(response)
    cut = len("QuestionnaireResponse.")
    return [(i.code, (i.expression or "")[cut:]) for i in issues if i.severity == severity]


TEXT = {"valueString": "x"}


def test_items_that_are_asked() -> None:
    asked = world(item("1", "string"), item("2", "group", item("2.1", "boolean")))
    yes = answered("2", items=[answered("2.1", {"valueBoolean": True})])
    assert found(asked, answered("1", TEXT), yes) == []
    assert found(asked, answered("3", TEXT)) == [("not-found", "item[0].linkId")]
    assert found(asked, answered("2.1", {"valueBoolean": True})) == [
        ("not-found", "item[0].linkId")
    ]
    assert found(asked, yes, answered("1", TEXT)) == [("structure", "item[1]")]
    assert found(asked, answered("1", TEXT), answered("1", TEXT)) == [("structure", "item[1]")]
    assert found(asked, answered("1", TEXT, TEXT)) == [("structure", "item[0].answer[1]")]
    assert found(asked, answered("2", TEXT)) == [("structure", "item[0]")]


def test_what_repeats() -> None:
    asked = world(
        item("1", "string", repeats=True), item("2", "group", item("2.1", "string"), repeats=True)
    )
    twice = [answered("2", items=[answered("2.1", TEXT)])] * 2
    assert found(asked, answered("1", TEXT, TEXT), *twice) == []


def test_what_is_required_once_it_is_complete() -> None:
    asked = world(item("1", "group", item("1.1", "string", required=True), required=True))
    assert found(asked) == [("required", "item")]
    assert found(asked, answered("1")) == [("required", "item"), ("required", "item[0].item")]
    assert found(asked, status="in-progress") == []


@pytest.mark.parametrize(
    ("type_", "good", "bad"),
    [
        ("boolean", {"valueBoolean": False}, TEXT),
        ("decimal", {"valueDecimal": 1}, {"valueInteger": 1}),
        ("integer", {"valueInteger": 1}, {"valueDecimal": 1}),
        ("date", {"valueDate": "2020"}, {"valueDateTime": "2020"}),
        ("string", TEXT, {"valueUri": "urn:x"}),
        ("text", TEXT, {"valueInteger": 1}),
        ("url", {"valueUri": "urn:x"}, TEXT),
        ("choice", {"valueCoding": SNOW}, TEXT),
        ("quantity", {"valueQuantity": {"value": 1}}, {"valueDecimal": 1}),
        ("reference", {"valueReference": {"display": "x"}}, TEXT),
        ("attachment", {"valueAttachment": {"title": "x"}}, TEXT),
    ],
)
def test_types_of_answers(type_: str, good: Json, bad: Json) -> None:
    asked = world(item("1", type_))
    assert found(asked, answered("1", good)) == []
    assert found(asked, answered("1", bad)) == [("value", "item[0].answer[0].value")]


def test_what_only_displays_has_no_answer() -> None:
    asked = world(item("1", "display"))
    assert found(asked, answered("1")) == []
    assert found(asked, answered("1", TEXT)) == [("structure", "item[0]")]


def test_the_length_of_an_answer() -> None:
    asked = world(item("1", "string", maxLength=2))
    assert found(asked, answered("1", {"valueString": "ab"})) == []
    assert found(asked, answered("1", {"valueString": "abc"})) == [
        ("too-long", "item[0].answer[0].value.ofType(string)")
    ]


def test_options() -> None:
    at = "item[0].answer[0].value.ofType(Coding)"
    for options in (
        {"answerOption": [{"valueCoding": SNOW | {"display": "Snow"}}]},
        {"answerValueSet": "urn:weather"},
    ):
        asked = world(item("1", "choice", **options))
        assert found(asked, answered("1", {"valueCoding": SNOW})) == []
        assert found(asked, answered("1", {"valueCoding": RAIN})) == [("code-invalid", at)]
        open_ = world(item("1", "open-choice", **options))
        assert found(open_, answered("1", {"valueString": "hail"})) == []
        assert found(open_, answered("1", {"valueCoding": RAIN})) == []
        told = found(open_, answered("1", {"valueCoding": RAIN}), severity="warning")
        assert told == [("code-invalid", at)]
    numbers = world(item("1", "choice", answerOption=[{"valueInteger": 1}, {"valueInteger": 2}]))
    assert found(numbers, answered("1", {"valueInteger": 2})) == []
    assert found(numbers, answered("1", {"valueInteger": 3})) == [
        ("code-invalid", "item[0].answer[0].value.ofType(integer)")
    ]


@pytest.mark.parametrize(
    ("operator", "expected", "value", "enabled"),
    [
        ("=", {"answerInteger": 3}, 3, True),
        ("=", {"answerInteger": 3}, 4, False),
        ("!=", {"answerInteger": 3}, 4, True),
        (">", {"answerInteger": 3}, 4, True),
        (">", {"answerInteger": 3}, 3, False),
        (">=", {"answerInteger": 3}, 3, True),
        ("<", {"answerInteger": 3}, 2, True),
        ("<=", {"answerInteger": 3}, 4, False),
        ("exists", {"answerBoolean": True}, 1, True),
        ("exists", {"answerBoolean": False}, 1, False),
        ("exists", {"answerBoolean": False}, None, True),
        ("=", {"answerInteger": 3}, None, False),
    ],
)
def test_what_is_enabled(operator: str, expected: Json, value: int | None, enabled: bool) -> None:
    when = [{"question": "1", "operator": operator, **expected}]
    asked = world(item("1", "integer"), item("2", "string", required=True, enableWhen=when))
    first = [] if value is None else [answered("1", {"valueInteger": value})]
    given = found(asked, *first, answered("2", TEXT))
    assert given == ([] if enabled else [("business-rule", f"item[{len(first)}]")])
    assert found(asked, *first) == ([("required", "item")] if enabled else [])


def test_all_or_any_of_several_conditions() -> None:
    when = [
        {"question": "1", "operator": "=", "answerCoding": SNOW},
        {"question": "1", "operator": "=", "answerCoding": RAIN},
    ]
    given = answered("1", {"valueCoding": SNOW}), answered("2", TEXT)
    for behaviour, faults in (("any", []), ("all", [("business-rule", "item[1]")])):
        second = item("2", "string", enableWhen=when, enableBehavior=behaviour)
        assert found(world(item("1", "choice"), second), *given) == faults


def test_questions_below_answers() -> None:
    asked = world(item("1", "string", item("1.1", "string", required=True)))
    inner = answered("1.1", TEXT)
    assert found(asked, answered("1", TEXT | {"item": [inner]})) == []
    assert found(asked, answered("1", TEXT)) == [("required", "item[0].answer[0].item")]


def test_a_questionnaire_that_is_not_known_is_told() -> None:
    assert found(World(), answered("1", TEXT), severity="warning") == [
        ("not-found", "questionnaire")
    ]
