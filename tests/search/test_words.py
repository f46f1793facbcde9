"""``_text``, ``_content`` and ``:text-advanced``: https://hl7.org/fhir/R4/search.html#text"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.search.words import resource_words, split_words

from .world import World


def condition(id: str, narrative: str = "", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"resourceType": "Condition", "id": id, **more}
    if narrative:
        div = f'<div xmlns="http://www.w3.org/1999/xhtml">{narrative}</div>'
        found["text"] = {"status": "generated", "div": div}
    return found


TEXTS = World(
    condition("bone", "Bone <b>metas</b>tases, liver clear", code={"text": "Secondary cancer"}),
    condition("liver", "<p>Liver</p><p>metastases</p>", note=[{"text": "second opinion"}]),
    condition("both", "bone &amp; LIVER: no metastases"),
    condition("kyiv", "П'ять <i>переломів</i> кісток, Їжак", code={"text": "Fracture fémur"}),
    condition("silent", code={"coding": [{"code": "M89.8", "display": "Bone: other"}]}),
    condition(
        "shy",
        subject={"reference": "Patient/hidden", "display": "Hidden Person"},
        asserter={"identifier": {"value": "secret77"}, "display": "Secret"},
        evidence=[{"detail": [{"reference": "Observation/h", "display": "hush"}]}],
    ),
    condition(
        "deep",
        extension=[{"url": "http://x.org/says", "valueString": "extended"}],
        contained=[{"resourceType": "Patient", "id": "p", "name": [{"family": "Inside"}]}],
    ),
    condition("sino", "右足骨折"),
)

TEXT_ROWS: list[tuple[str, list[str]]] = [
    ("_text=metastases", ["bone", "both", "liver"]),
    ("_text=METASTASES", ["bone", "both", "liver"]),
    ("_text=metasta", []),
    ("_text=metasta*", ["bone", "both", "liver"]),
    ("_text=(bone OR liver) and metastases", ["bone", "both", "liver"]),
    ("_text=bone liver", ["bone", "both"]),
    ("_text=bone AND liver", ["bone", "both"]),
    ("_text=bone and not clear", ["both"]),
    ("_text=NOT bone liver", ["liver"]),
    ('_text="bone metastases"', ["bone"]),
    ('_text="metastases bone"', []),
    ('_text="bone metas"*', ["bone"]),
    ('_text="liver metastases"', ["liver"]),
    ("_text=clear,кісток", ["bone", "kyiv"]),
    ("_text=bone or liver clear", ["bone", "both"]),
    ("_text=(bone or liver) clear", ["bone"]),
    ('_text="and"', []),
    ("_text=second", []),
    ("_text=п'ять", ["kyiv"]),
    ("_text=пʼять", ["kyiv"]),
    ("_text=ПЯТЬ", ["kyiv"]),
    ("_text=їжак", ["kyiv"]),
    ("_text=іжак", ["kyiv"]),
    ("_text=перелом*", ["kyiv"]),
    ("_text=骨折", ["sino"]),
    ("_text=折骨", []),
    ("_text=div", []),
    ("_content=bone", ["bone", "both", "silent"]),
    ("_content=second", ["liver"]),
    ("_content=second*", ["bone", "liver"]),
    ("_content=FEMUR", ["kyiv"]),
    ("_content=M89.8", ["silent"]),
    ("_content=m89", ["silent"]),
    ('_content="other bone"', []),
    ("_content=extended", ["deep"]),
    ("_content=inside", ["deep"]),
    ("_content=hidden", []),
    ("_content=secret77", []),
    ("_content=secret", []),
    ("_content=hush", []),
    ("_content=says", []),
    ("_content=generated bone", ["bone", "both"]),
    ("_content=bone&_text=clear", ["bone"]),
    ("code:text-advanced=bone", ["silent"]),
    ("code:text-advanced=cancer or other", ["bone", "silent"]),
    ('code:text-advanced="secondary cancer" not bone', ["bone"]),
    ("code:text-advanced=canc*", ["bone"]),
]


@pytest.mark.parametrize(("query", "ids"), TEXT_ROWS)
def test_text(query: str, ids: list[str]) -> None:
    assert TEXTS.search(f"Condition?{query}") == sorted(ids)


def test_in_a_chain() -> None:
    world = World(
        condition("c", "<p>lost</p>", subject={"reference": "Patient/p"}),
        {
            "resourceType": "Patient",
            "id": "p",
            "text": {"status": "generated", "div": "<div>tall</div>"},
        },
    )
    assert world.search("Condition?subject:Patient._text=tall") == ["c"]
    assert world.search("Condition?subject:Patient._text=lost") == []
    assert world.search("Patient?_has:Condition:subject:_text=lost") == ["p"]


def test_words() -> None:
    found = split_words("  O'Brien’s  e-mail: ÀB_c\n1,5 ")
    assert found == ["obriens", "e", "mail", "ab", "c", "1", "5"]
    assert split_words("'quoted' — ...") == ["quoted"]
    assert split_words("हिन्दी") == split_words("  हिन्दी!")


@given(st.text(st.characters(max_codepoint=127)))
def test_a_letter_of_another_script_changes_no_other_word(text: str) -> None:
    """ASCII has a way of its own; with one letter more a text goes the general one."""
    assert split_words(f"{text} \u044f") == [*split_words(text), "\u044f"]


def test_what_is_not_known_has_no_words() -> None:
    empty = ("", "")
    assert resource_words({"resourceType": "Nothing", "text": {"div": "<p>x</p>"}}) == empty
    assert resource_words({}) == empty
