"""Ruling: a reader of a masked resource writes on what they see, and masked parts are kept. What
comes of it looks to its author as if nothing had been hidden.
"""

from __future__ import annotations

import copy
import random
import re
import types
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from fhir_server.access import aligning, stripping, unmasking
from fhir_server.access.aligning import partners
from fhir_server.access.masking import Parted
from fhir_server.access.stripping import MASKED, Strip
from fhir_server.access.unmasking import apart, unmasked
from fhir_server.definitions.registry import Definitions, load
from tests.consent.mutating import mutated

Json = dict[str, Any]
HIDDEN = re.compile(r"(?:^|/)[A-Z][A-Za-z]+/h\d$|^#h\d$")


@cache
def definitions() -> Definitions:
    return load()


def masking(resource: Json) -> Strip:
    """A mask of all whose id is an h and a digit."""
    copies = {c["id"] for c in resource.get("contained", ()) if re.fullmatch(r"h\d", c["id"])}
    return Strip(definitions(), lambda text: bool(HIDDEN.search(text)), copies)


def shown(resource: Json) -> Json:
    return copy.deepcopy(masking(resource).resource(resource))


def written(whole: Json, new: Json) -> Json:
    """The new version; its author sees what they wrote."""
    mask = masking(whole)
    part = Parted(whole, mask.resource(whole), frozenset(), mask)
    before = copy.deepcopy((whole, new))
    found = unmasked(new, apart(new, part))
    assert (whole, new) == before
    assert shown(found) == new
    return found


def to(name: str, **more: Any) -> Json:
    return {"reference": name, **more}


def kind(code: str) -> Json:
    return {"coding": [{"system": "urn:kinds", "code": code}]}


def by(code: str, name: str | None = None) -> Json:
    """A participant; its individual may go without it."""
    return {"type": [kind(code)], **({"individual": to(name)} if name else {})}


def visit(*participants: Json, **more: Any) -> Json:
    return {"resourceType": "Encounter", "id": "e", "participant": [*participants], **more}


ALONE = {"individual": to("Practitioner/h1")}
"""What is left of an item of which the rest was removed."""
A, B, C = by("a", "Practitioner/h1"), by("b", "Practitioner/v1"), by("c", "Practitioner/h2")
CHANGED = {**A, "period": {"start": "2024"}}

SHAPES: dict[str, tuple[list[Json], Callable[[list[Json]], Any], list[Json]]] = {
    "nothing": ([A, B, C], lambda seen: seen, [A, B, C]),
    "changed": ([A, B], lambda s: [{**s[0], "period": {"start": "2024"}}, s[1]], [CHANGED, B]),
    "all of it changed": ([A, B], lambda s: [by("z"), s[1]], [by("z", "Practitioner/h1"), B]),
    "nothing of it left": (
        [A, B],
        lambda s: [{"period": {"start": "2024"}}, s[1]],
        [{**ALONE, "period": {"start": "2024"}}, B],
    ),
    "both changed": (
        [A, C],
        lambda s: [by("x"), by("y")],
        [by("x", "Practitioner/h1"), by("y", "Practitioner/h2")],
    ),
    "reordered": ([A, B, C], lambda s: [s[2], s[1], s[0]], [C, B, A]),
    "changed and reordered": (
        [A, B],
        lambda s: [s[1], {**s[0], "period": {"start": "2024"}}],
        [B, CHANGED],
    ),
    "removed": ([B, A], lambda s: [s[0]], [B, ALONE]),
    "all removed": ([A], lambda s: [], [ALONE]),
    "its neighbour removed": ([B, A], lambda s: [s[1]], [A]),
    "inserted before": ([A, B], lambda s: [by("z"), *s], [by("z"), A, B]),
    "inserted before, and changed": (
        [A],
        lambda s: [{"period": {"start": "2020"}}, {**s[0], "period": {"start": "2024"}}],
        [{"period": {"start": "2020"}}, CHANGED],
    ),
    "inserted after": ([A, B], lambda s: [*s, by("z")], [A, B, by("z")]),
    "doubled": ([A], lambda s: [s[0], s[0]], [A, by("a")]),
    "of equal ones one removed": ([by("a"), A], lambda s: [s[0]], [A]),
    "equal ones": ([by("a"), A, by("a")], lambda s: s, [by("a"), A, by("a")]),
    "said otherwise": (
        [A],
        lambda s: [by("a", "Practitioner/v9")],
        [by("a", "Practitioner/v9"), ALONE],
    ),
    "told by its id": (
        [{**A, "id": "1"}, {**C, "id": "2"}],
        lambda s: [{**s[0], "id": "2"}],
        [ALONE, {**by("a", "Practitioner/h2"), "id": "2"}],
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_item_that_was_seen_in_part(shape: str) -> None:
    whole, edit, kept = SHAPES[shape]
    new = shown(visit(*whole))
    assert all("h1" not in str(item) for item in new["participant"])
    new["participant"] = edit(new["participant"])
    if not new["participant"]:
        del new["participant"]
    assert written(visit(*whole), new)["participant"] == kept


def report(*results: str) -> Json:
    named = {"result": [to(f"Observation/{name}") for name in results]} if results else {}
    return {"resourceType": "DiagnosticReport", "id": "r", **named}


@pytest.mark.parametrize(
    ("whole", "new", "kept"),
    [
        ("h1 v1 h2 v2", "v1 v2", "h1 v1 h2 v2"),
        ("h1 v1 h2 v2", "v2 v1", "h1 v2 v1 h2"),
        ("h1 v1 h2 v2", "v2", "h1 h2 v2"),
        ("v1 h1", "v0 v1 v3", "v0 v1 h1 v3"),
        ("h1 h2", "v1", "h1 h2 v1"),
        ("v1 h1", "", "h1"),
        ("v1 h1 v1", "v1", "v1 h1"),
    ],
)
def test_items_that_are_hidden_as_a_whole(whole: str, new: str, kept: str) -> None:
    """They come after what they came after."""
    assert written(report(*whole.split()), report(*new.split())) == report(*kept.split())


def test_lists_in_lists() -> None:
    def answers(*values: Json, text: str = "a") -> Json:
        inner = {"linkId": "1.1", "text": text, "answer": [*values]}
        return {
            "resourceType": "QuestionnaireResponse",
            "id": "q",
            "item": [{"linkId": "1", "item": [inner]}, {"linkId": "2"}],
        }

    first, second, more = {"valueReference": to("Patient/h1")}, {"valueInteger": 1}, {"linkId": "3"}
    below = {**first, "item": [{"linkId": "x"}]}
    whole = answers(first, below, second)
    new = shown(whole)
    assert new == answers({"item": [{"linkId": "x"}]}, second)
    new["item"][0]["item"][0]["text"] = "b"
    new["item"][0]["item"][0]["answer"][0]["item"].append(more)
    new["item"].insert(0, more)
    kept = answers(first, {**first, "item": [{"linkId": "x"}, more]}, second, text="b")
    kept["item"].insert(0, more)
    assert written(whole, new) == kept
    # linkId is required, and was seen: the item goes with all that it has.
    assert written(whole, {**new, "item": [more]})["item"] == [more]


def test_primitives_and_what_is_beside_them() -> None:
    def note(name: str) -> Json:
        return {"extension": [{"url": "urn:by", "valueReference": to(name)}]}

    def plan(uris: list[Any], beside: list[Any], **more: Any) -> Json:
        return {
            "resourceType": "CarePlan",
            "id": "c",
            "instantiatesCanonical": uris,
            **({"_instantiatesCanonical": beside} if any(beside) else {}),
            **more,
        }

    hidden, seen = "urn:x/PlanDefinition/h1", "urn:x/PlanDefinition/v1"
    whole = plan([seen, hidden, "urn:b"], [None, note("Patient/v1"), note("Patient/h1")])
    assert shown(whole) == plan([seen, "urn:b"], [None, None])
    kept = plan(
        ["urn:a", seen, hidden, "urn:b"], [None, None, note("Patient/v1"), note("Patient/h1")]
    )
    assert written(whole, plan(["urn:a", seen, "urn:b"], [])) == kept
    whole = plan([None, "urn:b"], [note("Patient/v1"), None], encounter=to("Encounter/h1"))
    assert shown(whole) == plan([None, "urn:b"], [note("Patient/v1"), None])
    changed = plan([None, "urn:c"], [note("Patient/v2"), None])
    assert written(whole, changed) == {**changed, "encounter": to("Encounter/h1")}
    whole = {**plan(["urn:a"], []), "created": "2024", "_created": note("Patient/h1")}
    new = shown(whole)
    assert "_created" not in new
    assert written(whole, {**new, "created": "2025"}) == {**whole, "created": "2025"}


def test_an_element_with_what_is_beside_it_can_be_masked() -> None:
    """A required primitive says so beside itself, where JSON has room for it."""
    whole = {"resourceType": "MeasureReport", "id": "m", "measure": "urn:x/Measure/h1"}
    assert shown(whole) == {"resourceType": "MeasureReport", "id": "m", "_measure": MASKED}
    assert written(whole, {**shown(whole), "status": "complete"}) == {**whole, "status": "complete"}


def section(*entries: str, **more: Any) -> Json:
    return {**more, "entry": [to(f"Observation/{name}") for name in entries]}


def test_a_section_whose_words_are_hidden() -> None:
    """What its author says of it in words would go with what a mask takes: it is put beside."""

    def document(*sections: Json) -> Json:
        return {"resourceType": "Composition", "id": "d", "section": [*sections]}

    whole = document(section("v1", title="A"), section("h1", "v2", title="B"))
    new = shown(whole)
    assert new == document(section("v1", title="A"), section("v2"))
    new["section"][1]["entry"].append(to("Observation/v3"))
    longer = section("h1", "v2", "v3", title="B")
    assert written(whole, new) == document(section("v1", title="A"), longer)
    new["section"][1]["title"] = "C"
    hidden, said = section("h1", title="B"), section("v2", "v3", title="C")
    found = written(whole, new)
    assert found == document(section("v1", title="A"), said, hidden)
    assert written(whole, document(section("v1"))) == document(section("v1"), hidden)
    whole, said = document(section("h1", "v2")), section("v2", title="C")
    assert written(whole, document(said)) == document(said, section("h1"))


def test_another_type_of_a_choice_stands_for_it() -> None:
    whole = {
        "resourceType": "Condition",
        "id": "c",
        "note": [{"text": "a", "authorReference": to("Practitioner/h1")}],
    }
    new = shown(whole)
    new["note"][0]["authorString"] = "me"
    assert written(whole, new) == new


def test_a_value_of_a_datatype_goes_as_a_whole() -> None:
    known = {"value": "1", "assigner": to("Organization/h1")}
    whole = visit(identifier=[known, {"value": "2"}])
    new = shown(whole)
    assert written(whole, {**new, "identifier": [{"value": "2"}]})["identifier"] == [{"value": "2"}]
    new["identifier"][0]["use"] = "old"
    assert written(whole, new)["identifier"][0] == {**known, "use": "old"}


def test_a_copy_of_an_id_that_its_author_could_not_know_of() -> None:
    def holding(*copies: Json, **more: Any) -> Json:
        return {"resourceType": "Encounter", "id": "e", "contained": [*copies], **more}

    def held(id_: str, code: str) -> Json:
        return {"resourceType": "Condition", "id": id_, "code": {"text": code}}

    whole = holding(held("h1", "x"), reasonReference=[to("#h1")])
    mask = masking(whole)
    part = Parted(whole, mask.resource(whole), frozenset({"#h1"}), mask)
    new = holding(held("h1", "y"), diagnosis=[{"condition": to("#h1")}])
    other = apart(new, part)
    found = unmasked(new, other)
    assert other.taken == {"#copy-1"} and found == holding(
        held("copy-1", "x"),
        held("h1", "y"),
        reasonReference=[to("#copy-1")],
        diagnosis=[{"condition": to("#h1")}],
    )
    assert other.mask.resource(found) == new


@pytest.mark.parametrize("said", [MASKED, {"reference": "Encounter/v1"}])
def test_what_the_author_says_in_the_place_of_what_they_cannot_see_stands(said: Json) -> None:
    whole = visit(A, partOf=to("Encounter/h1"))
    new = {**shown(whole), "partOf": said}
    new["participant"].append(MASKED)
    assert written(whole, new) == {**new, "participant": [A, MASKED]}


def test_of_many_only_the_place_is_compared() -> None:
    number = 300
    items = [{"a": n, "b": 1} for n in range(number)]
    changed = [{**item, "c": 1} for item in items]
    assert partners(items, changed, [True] * number) == {n: n for n in range(number)}
    assert partners(items, changed[1:], [True] * number) == {}


def _edit(rng: random.Random, items: list[Json], path: int = 0) -> None:
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        place = rng.randrange(len(items) + 1)
        match rng.randrange(5):
            case 0 if items:
                items.pop(place - 1)
            case 1 if items:
                items[place - 1]["type"] = [kind(rng.choice("abc"))]
            case 2 if items:
                items[place - 1]["period"] = {"start": rng.choice(["2023", "2024"])}
            case 3:
                rng.shuffle(items)
            case _:
                items.insert(place, copy.deepcopy(rng.choice([by(rng.choice("abz")), B, *items])))


def test_generated_edits_look_as_they_were_written_and_lose_nothing() -> None:
    rng = random.Random(7)
    names = [None, None, "Practitioner/v1", "Practitioner/h1", "Practitioner/h2", "Practitioner/h3"]
    for _ in range(1500):
        whole = visit(
            *(by(rng.choice("ab"), rng.choice(names)) for _ in range(rng.randrange(1, 5)))
        )
        new = shown(whole)
        _edit(rng, new["participant"])
        if not new["participant"]:
            del new["participant"]
        found = written(whole, new)
        hidden = [sorted(re.findall(r"Practitioner/h\d", str(one))) for one in (whole, found)]
        assert hidden[0] == hidden[1], (whole, new, found)


def all_hold() -> None:
    for shape in SHAPES:
        test_an_item_that_was_seen_in_part(shape)
    test_lists_in_lists()
    test_primitives_and_what_is_beside_them()
    test_a_section_whose_words_are_hidden()
    test_another_type_of_a_choice_stands_for_it()


MUTANTS: dict[str, tuple[types.ModuleType, str, str]] = {
    "words go with what is hidden": (
        unmasking,
        "return found if self._mask.item(found, path, name) == said else None",
        "return found",
    ),
    "what is removed stays": (
        unmasking,
        "return kept if kept[0] and self._mask.item(kept, path, name) is None else None",
        "return was",
    ),
    "what is removed is lost": (
        unmasking,
        "return kept if kept[0] and self._mask.item(kept, path, name) is None else None",
        "return None",
    ),
    "choices doubled": (unmasking, "if name not in known or not known", "if True or not known"),
    "not by id": (aligning, "if number not in found and id_", "if False and id_"),
    "not by likeness": (aligning, "if part >= ALIKE or", "if False and"),
    "not by place": (aligning, "if len(mine) == len(theirs):", "if False:"),
    "any of equal ones": (aligning, "key=lambda n: not held[n]", "key=lambda n: held[n]"),
    "nulls go": (stripping, "return None if left is None and more", "return None if more"),
    "beside what goes": (stripping, "if left is None and value is not None:", "if False:"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_each_mutant_is_caught(name: str) -> None:
    all_hold()
    with mutated(*MUTANTS[name]), pytest.raises(AssertionError):
        all_hold()
