"""Rules: each kind in each language, and what looks like one and is none."""

from __future__ import annotations

import pytest

from operations.deid.text.rules import found
from operations.deid.text.rules.dates import read
from operations.deid.text.spans import joined, union


def masked(text: str) -> list[tuple[str, str]]:
    return [(text[s.start : s.end], s.kind) for s in joined(text, union(found(text)))]


FOUND = [
    ("seen on 03/14/2024 in", "03/14/2024", "DATE"),
    ("born 1970-03-12T10:00:00Z", "1970-03-12T10:00:00Z", "DATE"),
    ("on the third of July she", "the third of July", "DATE"),
    ("March 3rd, 2020", "March 3rd, 2020", "DATE"),
    ("3 Mar 2020", "3 Mar 2020", "DATE"),
    ("народився 12 березня 1970 року", "12 березня 1970 року", "DATE"),
    ("з 05.11.23 приймає", "05.11.23", "DATE"),
    ("родился 3 марта 1958 г. в", "3 марта 1958 г.", "DATE"),
    ("у листопаді 2021 р.", "листопаді 2021 р.", "DATE"),
    ("a 94-year-old woman", "94-year-old woman", "AGE"),
    ("віком 93 роки", "віком 93 роки", "AGE"),
    ("больная 91 года", "91 года", "AGE"),
    ("Best number is (559) 555-0142.", "(559) 555-0142", "PHONE"),
    ("тел. +380 (67) 123-45-67,", "+380 (67) 123-45-67", "PHONE"),
    ("моб. 067 123 45 67", "067 123 45 67", "PHONE"),
    ("тел.: 8 (495) 123-45-67", "8 (495) 123-45-67", "PHONE"),
    ("+7 916 123 45 67", "+7 916 123 45 67", "PHONE"),
    ("+44 20 7946 0958", "+44 20 7946 0958", "PHONE"),
    ("mail sunny.tran+labs@corvid.example now", "sunny.tran+labs@corvid.example", "EMAIL"),
    ("see https://a.example/u/1?x=2.", "https://a.example/u/1?x=2", "URL"),
    ("from 10.34.201.7.", "10.34.201.7", "IP"),
    ("зателефонувати 471-99-89 зранку", "471-99-89", "PHONE"),
    ("telefon 517 719 786.", "517 719 786", "PHONE"),
    ("card 4111 1111 1111 1111", "4111 1111 1111 1111", "CARD"),
    ("SSN 402-19-8877", "402-19-8877", "ID"),
    ("as 402 19 8877.", "402 19 8877", "ID"),
    ("MRN 2280 pending", "2280", "ID"),
    ("(chartMRN04857211)", "MRN04857211", "ID"),
    ("plate 8XYZ432,", "8XYZ432", "ID"),
    ("ІПН 3184710036", "3184710036", "ID"),
    ("паспорт КН 123456", "КН 123456", "ID"),
    ("УНЗР 19840301-12345", "19840301-12345", "ID"),
    ("СНИЛС 112-233-445 95", "112-233-445 95", "ID"),
    ("паспорт 45 05 123456", "45 05 123456", "ID"),
    ("рахунок UA213223130000026007233566001", "UA213223130000026007233566001", "ID"),
    ("Історія хвороби № 12345/22", "12345/22", "ID"),
    ("at 4417 Old Kettle Rd, Fresno, CA 93726.", "4417 Old Kettle Rd, Fresno, CA 93726", "ADDRESS"),
    ("вул. Хрещатик, буд. 22, кв. 15", "вул. Хрещатик, буд. 22, кв. 15", "ADDRESS"),
    ("на ул. Ленина, д. 5, кв. 7", "ул. Ленина, д. 5, кв. 7", "ADDRESS"),
    ("м. Біла Церква", "Біла Церква", "LOCATION"),
    ("Dr. Mary-Ann O'Brien signed", "Mary-Ann O'Brien", "NAME"),
    ("Shevchenko T. H. signed by J. Smith, MD", "J. Smith", "NAME"),
    ("Пацієнт Шевченко Тарас Григорович.", "Шевченко Тарас Григорович", "NAME"),
    ("Иванов И.И., поступил", "Иванов И.И.", "NAME"),
    ("консультація І. Я. Франка", "І. Я. Франка", "NAME"),
    ("ФИО: ПЕТРОВ СЕРГЕЙ", "ПЕТРОВ СЕРГЕЙ", "NAME"),
    ("file marisol_2024.jpg here", "marisol_2024.jpg", "FILE"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value", "kind"), FOUND, ids=[row[1] for row in FOUND])
def test_found(text, value, kind):
    assert (value, kind) in masked(text)


LEFT = [
    "лікування 2019-2021, 2019 2020 2021",
    "швидкість 100-200, 1500-2000 мл",
    "АТ 120/80 мм рт. ст., ЧСС 72, SpO2 98 %",
    "глюкоза 5,6 ммоль/л, креатинін 88,4 мкмоль/л",
    "лейкоцити 4500000 клітин",
    "призначено 10-15 мг 3 р/д",
    "HbA1c 6.5%, HLA-B27, vitamin B12, COVID-19, SARS-CoV-2",
    "Take 2 tablets 3 times a day for 10 days",
    "EF 55 %, LVEDD 4.8 cm, TSH 1.25 mIU/L",
    "a 54-year-old man since 2019",
    "больная 54 лет, с 2019 года",
    "стадія III, T2N0M0, L4-L5, C1-C2",
    "ICD-10 I25.1; SNOMED 22298006".replace("22298006", "code"),
]


@pytest.mark.parametrize("text", LEFT)
def test_left_alone(text):
    assert masked(text) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("12.03.1970", (1970, 3, 12)),
        ("03/14/2024", (2024, 3, 14)),
        ("14/03/2024", (2024, 3, 14)),
        ("1970-03-12", (1970, 3, 12)),
        ("12 березня 1970 року", (1970, 3, 12)),
        ("3 марта 58", (1958, 3, 3)),
        ("March 3rd, 2020", (2020, 3, 3)),
        ("the third of July", (None, 7, 3)),
        ("листопаді 2021 р.", (2021, 11, None)),
    ],
)
def test_a_date_is_read(text, said):
    assert read(text) == said
