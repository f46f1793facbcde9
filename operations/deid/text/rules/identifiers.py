"""Numbers of people, cards, accounts, papers, vehicles and devices.

Three ways to be found: by a check digit, by the word before (``MRN 2280``), or by mere length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from operations.deid.text import numbers
from operations.deid.text.numbers import digits
from operations.deid.text.spans import Kind, Span
from operations.deid.text.wordlists import words

_CHECKED: Final[tuple[tuple[Kind, re.Pattern[str], Callable[[str], bool]], ...]] = (
    ("CARD", re.compile(r"(?<![\w.,])\d(?:[ \-]?\d){12,18}(?![\w]|[.,]\d)"), lambda t: numbers.luhn(digits(t))),
    ("ID", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b"), numbers.iban),
    ("ID", re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"), lambda t: True),
    ("ID", re.compile(r"(?<![\w.,-])\d{3}[ .]\d{2}[ .]\d{4}(?![\w-])"), lambda t: numbers.ssn(digits(t))),
    ("ID", re.compile(r"(?<![\w-])\d{3}[- ]\d{3}[- ]\d{3}[- ]\d{2}(?![\w-])"), lambda t: True),
    ("ID", re.compile(r"(?<![\w-])(?:19|20)\d{6}-\d{5}(?![\w-])"), lambda t: True),
    ("ID", re.compile(r"(?<![\w-])\d{3}[ -]\d{3}[ -]\d{4}(?![\w-])"), lambda t: numbers.nhs(digits(t))),
    ("ID", re.compile(r"\b[A-HJ-NPR-Z0-9]{17}\b", re.IGNORECASE), numbers.vin),
    ("ID", re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE), lambda t: True),
    ("ID", re.compile(r"(?<!\w)[А-ЯІЇЄҐA-Z]{2} ?№? ?\d{6}(?!\w)"), lambda t: True),
    ("ID", re.compile(r"(?<![\w.,/-])\d{2} ?\d{2} ?№? ?\d{6}(?![\w/-]|[.,]\d)"), lambda t: True),
    ("ID", re.compile(r"(?<![\w.])(?:\d{1,2}\.){3,}\d{2,}(?:\.\d+){3,}(?!\w)"), lambda t: True),
)  # fmt: skip
"""Kind, form and check. In the order: payment card, IBAN, US SSN (also with spaces), Russian
SNILS, Ukrainian UNZR, NHS number, VIN, UUID, Ukrainian and Russian passports, DICOM UID."""

_LONG: Final = re.compile(
    r"(?<![\w.,+/-])[A-Z]{0,3}-?\d{7,}(?![\w/-]|[.,]\d|\s?(?:%|мл|мг|ml|mg|mcg|IU|МО|МЕ|ОД|cells|клітин|клеток)\b)"
)
"""Seven digits in a row: no measurement is written so, but that of cells, which has a unit."""

_JUMBLED: Final = re.compile(
    r"\b(?=[A-Z0-9]*\d)(?:[A-Z]{1,10}|[A-Z0-9]{2,10})(?:-(?=[A-Z0-9]*\d)[A-Z0-9]{2,14}){1,4}\b"
)
"""``SN-CG5-881207X``, ``CRIMSON-0447``; short ones (``HLA-B27``) are checked by their digits."""

_LABELS: Final = r"""
    m\.?r\.?n\.?|medical\ record(?:\s(?:no|number))?|chart|record|encounter|visit|account|acct|a/c|
    member(?:ship)?(?:\ id)?|subscriber(?:\ id)?|policy|group|beneficiary|claim|invoice|case|order|
    accession|specimen|requisition|patient\ id|pat\ id|study(?:\ (?:code|id))?|participant|subject\ id|
    licen[cs]e(?:\ (?:number|plate))?|certificate|registration|passport|driver'?s?\ licen[cs]e|dl|plate|
    serial|s/n|sn|device(?:\ id)?|imei|udi|lot|npi|dea|ssn|social\ security(?:\ number)?|tax\ id|ein|nhs|
    medicaid|medicare|insurance(?:\ (?:id|number))?|employee(?:\ id)?|badge|ward\ id|identifier|ref(?:erence)?|
    room|bed|template|voiceprint|fingerprint|
    іпн|рнокпп|інн|ідентифікаційний\ (?:номер|код)|податковий\ номер|паспорт\w{0,3}(?:\ серії)?|унзр|
    медичн\w+\ карт\w+|амбулаторн\w+\ карт\w+|карт\w{0,3}(?:\ (?:стаціонарного|амбулаторного)\ хворого)?|
    історі\w+\ хвороби|декларац\w+|направлення|рецепт\w{0,2}|поліс\w{0,2}|посвідчення|договір|договору|
    свідоцтв\w+|рахунок|справ\w+|і/х|іх|
    инн|снилс|паспорт\w{0,3}(?:\ сери[ия])?|полис\w{0,2}(?:\ омс|\ дмс)?|омс|дмс|истори\w+\ болезни|и/?б|
    медицинск\w+\ карт\w+|амбулаторн\w+\ карт\w+|направлени\w+|рецепт\w{0,2}|удостоверени\w+|договор\w{0,2}|
    свидетельств\w+|счет|счёт|дел[оа]|протокол\w{0,2}|заявлени\w+|больничн\w+(?:\ лист\w{0,2})?|
    лікарнян\w+(?:\ лист\w{0,2})?|серия|серії|серія|штрих-?код\w{0,2}|табельн\w+\ номер"""

_LABELLED: Final = re.compile(
    rf"(?<!\w)(?:{_LABELS})"
    r"(?:\s?(?:no|nr|num|number|id|code|on\s\w+|is|was|номер\w{0,2}|under|пацієнта|пациента|хворого|больного|серії|серии|серія|серия))*"
    r"[\s.:#№=()\-–—]{0,5}"
    r"(?P<value>(?:[A-ZА-ЯІЇЄҐ]{1,5}[ \-/]?)?(?=[\w\-/]*\d)[\w][\w\-/]{1,24}(?:\s\d{3,}|\s№\s?\d+){0,3})",
    re.VERBOSE | re.IGNORECASE,
)
_GLUED: Final = re.compile(
    r"(?:mrn|chart|acct|ssn|іпн|инн|снилс)[ :#№_-]?(?P<value>\d{4,})", re.IGNORECASE
)
_WORDS: Final = frozenset(words("identifiers_words"))
"""Labels that also stand before small numbers which say nothing."""

_FILE: Final = re.compile(
    r"(?<![\w/.-])[\w.+-]{1,80}\.(?:jpe?g|png|gif|bmp|tiff?|heic|dcm|pdf|docx?|xlsx?|rtf|odt|txt|csv|mp[34]|wav|avi|mov|zip)\b",
    re.IGNORECASE,
)  # fmt: skip


def identifiers(text: str) -> Iterator[Span]:
    """Numbers and names of files."""
    for match in _FILE.finditer(text):
        yield Span(*match.span(), "FILE")
    if not any(c.isdigit() for c in text):
        return
    for kind, form, valid in _CHECKED:
        yield from (Span(*m.span(), kind) for m in form.finditer(text) if valid(m[0]))
    yield from (Span(*m.span(), "ID") for m in _LONG.finditer(text))
    for match in _JUMBLED.finditer(text):
        if len(digits(match[0])) > 3 and not match[0].replace("-", "").isdigit():
            yield Span(*match.span(), "ID")
    for match in _GLUED.finditer(text):
        yield Span(*match.span("value"), "ID")
    for match in _LABELLED.finditer(text):
        if _telling(match):
            yield Span(*match.span("value"), "ID")


def _telling(match: re.Match[str]) -> bool:
    label = match[0][: match.start("value") - match.start()].casefold().strip(" .:#№=()-–—")
    count = len(digits(match["value"]))
    return count > 3 or (
        count > 1 and label.split(" ")[-1] not in _WORDS and len(match["value"]) > 3
    )
