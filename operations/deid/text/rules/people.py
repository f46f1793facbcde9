"""People by what stands around a name: titles, labels, initials, patronymics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from operations.deid.text.spans import Span
from operations.deid.text.wordlists import words

_UP: Final = "А-ЯІЇЄҐЁ"
_LOW: Final = "а-яіїєґё'’ʼ"
_CYR: Final = rf"[{_UP}][{_LOW}]+(?:-[{_UP}][{_LOW}]+)?"
_CYR_CAPS: Final = rf"[{_UP}]{{2,}}(?:-[{_UP}]{{2,}})?"
_LAT: Final = r"(?:(?:O|D|Mc|Mac|Van|De|Di|La|Le|Von)['’]?)?[A-ZÀ-ÖØ-ÞĀ-Ž][a-zß-öø-ÿā-ž'’]+(?:-[A-ZÀ-ÖØ-Þ][a-zß-öø-ÿā-ž]+)?"
_PARTICLE: Final = (
    r"(?:(?:van|von|de|der|den|del|della|di|da|la|le|el|al|bin|ibn|ter|ten|dos|du)\s){0,2}"
)
_LATIN: Final = rf"{_LAT}(?:\s(?:[A-Z]\.\s?)*{_PARTICLE}{_LAT}){{0,3}}"
_CYRILLIC: Final = rf"{_CYR}(?:\s{_CYR}){{0,2}}"

_TITLE: Final = (
    r"Dr|Mr|Mrs|Ms|Mx|Miss|Prof|Professor|Doctor|Nurse|Sister|Sir|Dame|Lady|Lord|Rev|Fr|Capt|Sgt|Lt|"
    r"Judge|Officer|Pastor|Rabbi|Father|Uncle|Aunt"
)
_ENGLISH: Final = tuple(
    re.compile(form)
    for form in (
        rf"\b(?:{_TITLE})\b\.?\s(?P<name>(?:[A-Z]\.\s?){{0,2}}{_LATIN})",
        rf"\b(?:{_TITLE})\b\.?\s(?P<name>[A-Z]{{2,}}(?:\s[A-Z]{{2,}}){{0,2}})\b",
        rf"(?i:\b(?:patient|pt|client|resident|name|named|provider|physician|attending|surgeon|consultant|seen by|signed by|signed|dictated by|"
        rf"author|caller|guardian|mother|father|wife|husband|spouse|son|daughter|brother|sister|contact|next of kin|"
        rf"emergency contact|referred by|cc|attn|dear|called|known as|nickname|regards|sincerely|by))"
        rf"(?:\s(?i:name|is|was|full name))?(?:\s?[:,-]\s?|\s)['\"“‘]?(?P<name>{_LAT}(?:\s(?:[A-Z]\.\s?)*{_PARTICLE}{_LAT}){{1,3}})",
        rf"(?i:\b(?:name|patient name|called|known as|nicknamed|goes by|nickname(?:\sis)?))\s?[:=]?\s?['\"“‘](?P<name>{_LAT})",
        rf"(?i:\b(?:dear|patient))\s(?P<name>{_LAT}(?:-{_LAT})?)(?=,|\s(?:presented|reports|reported|denies|denied|states|stated|is a|was a|has been|complains))",
        rf"\b(?P<name>{_LATIN}),?\s(?:M\.?D|D\.?O|R\.?N|Ph\.?D|N\.?P|P\.?A|L\.?P\.?N|DDS|PharmD|FACS|FRCP|MBBS|BSN|MSN|Esq|Jr|Sr)\b\.?",
        rf"\b(?P<name>{_LAT},\s{_LAT}(?:\s[A-Z]\.?)?)(?=\s*\(|\s*(?:DOB|MRN|born|\d))",
        r"\b(?P<name>(?:[A-Z]\.\s?){1,2}[A-Z][a-z]+(?:-[A-Z][a-z]+)?)\b",
        r"\b(?P<name>[A-Z][a-z]+(?:-[A-Z][a-z]+)?\s[A-Z]\.\s[A-Z][a-z]+(?:-[A-Z][a-z]+)?)\b",
    )
)  # fmt: skip

_ROLE: Final = (
    r"лікар\w{0,3}|лікарк\w{1,2}|д-р\w?|доктор\w{0,2}|докторк\w|проф\.|професор\w{0,3}|професорк\w|доц\.|"
    r"пацієнт\w{0,3}|пацієнтк\w{1,2}|хвор(?:ий|ого|ому|им|а|ої|ій|ою|у)|медсестр\w{1,2}|м/с|фельдшер\w{0,3}|"
    r"хірург\w{0,3}|терапевт\w{0,3}|завідувач\w{0,3}|зав\.(?:\sвідділення\w?)?|пан|пана|панові|пані|гр\.|громадян(?:ин|ка|ину|ина|ки|ці)|"
    r"мат(?:и|ері|ір'ю)|батьк\w{1,3}|дружин\w{1,2}|чоловік\w{0,3}|син\w{0,3}|дочк\w{1,2}|донь?к\w{1,2}|брат\w{0,3}|сестр\w{1,2}|"
    r"врач\w{0,3}|пациент\w{0,3}|пациентк\w{1,2}|больн(?:ой|ого|ому|ым|ая|ую)|профессор\w{0,3}|медсестр\w{1,2}|заведующ\w{2,3}|"
    r"хирург\w{0,3}|г-н\w?|г-ж\w|господин\w{0,3}|госпож\w{1,2}|гражданин\w{0,3}|гражданк\w{1,2}|мать|матери|отц?\w{0,3}|отец|жен[аыеу]|муж\w{0,3}|"
    r"товарищ\w{0,3}|товариш\w{0,3}|тов\.|ім\.|им\.|імені|имени"
)
_LABEL: Final = (
    r"ПІБ|П\.І\.Б\.?|П\.?\s?І\.?\s?П\.?|прізвище(?:,?\sім'я(?:,?\s(?:та\s)?по[\s-]батькові)?)?|ім'я|по[\s-]батькові|ФИО|Ф\.И\.О\.?|"
    r"фамилия(?:,?\sимя(?:,?\sотчество)?)?|имя|отчество|пацієнт(?:ка)?|пациент(?:ка)?|лікар|врач|підпис|подпись|звати|зовут|на\sім'я|на\sимя|по\sимени"
)
_CYRILLIC_FORMS: Final = tuple(
    re.compile(form)
    for form in (
        rf"(?<!\w)(?i:{_ROLE})\s(?:(?:[{_LOW}]+(?:ог|олог|евт|атр|ург|віт|вит|ція|ции|ції|нт|тер|іст|ист)\w{{0,3}}|в\.о\.|вищої\sкатегорії)\s){{0,2}}(?P<name>{_CYRILLIC})",
        rf"(?<!\w)(?i:{_LABEL})\s?[:\-–—]?\s(?P<name>{_CYRILLIC})",
        rf"(?<!\w)(?i:{_LABEL})\s?[:\-–—]?\s(?P<name>{_CYR_CAPS}(?:\s(?:{_CYR_CAPS}|{_CYR})){{0,2}})",
        rf"(?<!\w)(?P<name>{_CYR}\s[{_UP}]\.\s?(?:[{_UP}]\.)?)",
        rf"(?<!\w)(?P<name>{_CYR_CAPS}\s[{_UP}]\.\s?[{_UP}]\.)",
        rf"(?<![\w.])(?P<name>[{_UP}][{_LOW}]?\.\s?(?:[{_UP}]\.\s?)?{_CYR})(?!\.)",
        rf"(?<!\w)(?P<name>(?:{_CYR}\s){{0,2}}[{_UP}][{_LOW}]+(?:ович|евич|йович|йовн|івн|ївн|овн|евн|инічн|иничн|ьич|ыч|кич)(?:а|у|ем|ом|і|ї|и|е|ы|ой|ою|ам|ами|ах|еві|ові|ої|ів|ей)?(?:\s{_CYR})?)(?![{_LOW}])",
        rf"(?<!\w)(?P<name>(?:{_CYR_CAPS}\s){{0,2}}[{_UP}]+(?:ОВИЧ|ЕВИЧ|ЙОВИЧ|ІВН|ЇВН|ОВН|ЕВН|ИНИЧН)[АУІЇИЕЫОЮМЙ]{{0,3}}(?:\s{_CYR_CAPS})?)(?!\w)",
    )
)  # fmt: skip

_NOT_NAMES: Final = frozenset(words("people_not_names"))


_REVERED: Final = re.compile(
    r"(?<!\w)(?P<name>"
    + "|".join(word.capitalize() for word in words("people_revered"))
    + r")(?!\w)"
)
"""Corpora and their users count them among persons; nothing is lost with them."""


def people(text: str) -> Iterator[Span]:
    """Names that their surroundings betray."""
    for form in (*_ENGLISH, *_CYRILLIC_FORMS, _REVERED):
        for match in form.finditer(text):
            start, end = match.span("name")
            parts = text[start:end].split()
            while parts and parts[-1].casefold().strip(".,") in _NOT_NAMES:
                end -= len(parts.pop())
                end -= len(text[start:end]) - len(text[start:end].rstrip())
            if parts and parts[0].casefold().strip(".,") not in _NOT_NAMES:
                yield Span(start, end, "NAME")
