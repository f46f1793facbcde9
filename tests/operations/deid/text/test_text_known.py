"""What the record tells is found in every inflection, script and spacing."""

from __future__ import annotations

import json

import pytest

from operations.deid.text.declension import forms
from operations.deid.text.known import Known, harvest

PATIENT = {
    "resourceType": "Patient",
    "id": "1",
    "gender": "male",
    "name": [{"family": "Шевченко", "given": ["Тарас", "Григорович"]}],
    "birthDate": "1970-03-12",
    "telecom": [
        {"system": "phone", "value": "+380 67 123 4567"},
        {"system": "email", "value": "taras@home.example"},
    ],
    "address": [{"line": ["вул. Хрещатик, 22"], "city": "Київ", "postalCode": "01001"}],
    "identifier": [{"value": "AB-123 456"}],
    "generalPractitioner": [{"reference": "Practitioner/2", "display": "Dr. Olha Petrenko"}],
    "contact": [{"name": {"family": "Кравець", "given": ["Лев"]}}],
}


@pytest.fixture(scope="module")
def known(elements):
    return Known(harvest([PATIENT], elements), lambda word: False)


def pieces(known, text):
    return [
        text[span.start : span.end] for span in sorted({*known.find(text), *known.births(text)})
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Оглянуто Шевченком", ["Шевченком"]),
        ("призначено ШЕВЧЕНКУ ТАРАСОВІ", ["ШЕВЧЕНКУ", "ТАРАСОВІ"]),
        ("разом із Тарасом Григоровичем", ["Тарасом", "Григоровичем"]),
        ("у Шевченків", ["Шевченків"]),
        ("SHEVCHENKO Taras Hryhorovych", ["SHEVCHENKO", "Taras", "Hryhorovych"]),
        ("Ševčenko's leg", ["Ševčenko's"]),
        ("шeвчeнко", ["шeвчeнко"]),  # Latin e in a Cyrillic word
        ("лікар Петренко", ["Петренко"]),
        ("з Петренком і Ольгою", ["Петренком", "Ольгою"]),
        ("дядько Кравця Льва", ["Кравця", "Льва"]),
        ("мешкає в Києві на Хрещатику", ["Києві", "Хрещатику"]),
        ("call 067 123-45-67", ["67 123-45-67"]),
        ("№ ab 123456.", ["ab 123456"]),
        ("TARAS@HOME.EXAMPLE", ["TARAS@HOME.EXAMPLE"]),
        ("12 березня 1970 р.", ["12 березня 1970 р."]),
        ("03/12/1970", ["03/12/1970"]),
    ],
)
def test_found(known, text, expected):
    assert [p for p in pieces(known, text) if p not in ("TARAS",)] == expected


@pytest.mark.parametrize("text", ["тарас", "12.03.1971", "5 123456789012", "шафа", "Тарту"])
def test_left_alone(elements, text):
    known = Known(harvest([PATIENT], elements), lambda word: word == "тарас")
    assert pieces(known, text) == []


def test_every_form_that_a_grammar_gives_is_made(shared):
    """The paradigms of school grammars: surnames and given names of each declension."""
    paradigms = {
        "шевченко": "шевченка шевченкові шевченку шевченком",
        "коваль": "коваля ковалеві ковалю ковалем",
        "бондарчук": "бондарчука бондарчукові бондарчуком",
        "сковорода": "сковороди сковороді сковороду сковородою",
        "ольга": "ольги ользі ольгу ольгою ольго",
        "андрій": "андрія андрієві андрію андрієм",
        "марія": "марії марію марією маріє",
        "франківський": "франківського франківському франківським франківські франківських",
        "іванів": "іванова іванову івановим",
        "антін": "антона антонові антоном",
        "федір": "федора федорові федором",
        "кравець": "кравця кравцеві кравцем",
        "лев": "льва львові львом",
        "иванов": "иванова иванову ивановым иванове ивановы",
        "иванова": "ивановой иванову",
        "достоевский": "достоевского достоевскому достоевским достоевском",
        "толстой": "толстого толстому толстым толстом",
        "сергей": "сергея сергею сергеем сергее",
        "игорь": "игоря игорю игорем игоре",
        "павел": "павла павлу павлом павле",
        "любовь": "любови любовью",
        "илья": "ильи илье илью ильёй",
    }
    missing = {
        name: absent
        for name, others in paradigms.items()
        if (absent := [form for form in others.split() if form not in forms(name)])
    }
    assert missing == {}
    lists = json.loads((shared / "i18n" / "names-uk_UA.json").read_text("utf-8"))["lists"]
    for entries in lists.values():
        for entry in entries:
            assert entry["name"].casefold() in forms(entry["name"])
