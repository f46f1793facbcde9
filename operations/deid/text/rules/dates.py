"""Dates and ages, in the forms of English, Ukrainian and Russian texts.

A year by itself is no finer than Safe Harbor allows, and stays. ``read`` gives back what a date
says, so that it can be moved.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Final, NamedTuple

from operations.deid.text.spans import Span
from operations.deid.text.wordlists import words

_MONTHS: Final = (
    r"jan(?:uary)?|січ(?:ень|ня|ні|нем)?|янв(?:ар[ьяею]м?)?",
    r"feb(?:ruary)?|лют(?:ий|ого|ому|им)|фев(?:рал[ьяею]м?)?",
    r"mar(?:ch)?|берез(?:ень|ня|ні|нем)|март(?:[аеу]|ом)?|мар\.",
    r"apr(?:il)?|квіт(?:ень|ня|ні|нем)|апр(?:ел[ьяею]м?)?",
    r"may|трав(?:ень|ня|ні|нем)|ма[йяею]м?",
    r"june?|черв(?:ень|ня|ні|нем)|июн(?:[ьяею]|ем)?",
    r"july?|лип(?:ень|ня|ні|нем)|июл(?:[ьяею]|ем)?",
    r"aug(?:ust)?|серп(?:ень|ня|ні|нем)|авг(?:уст(?:[аеу]|ом)?)?",
    r"sept?(?:ember)?|верес(?:ень|ня|ні|нем)|сент?(?:ябр[ьяею]м?)?",
    r"oct(?:ober)?|жовт(?:ень|ня|ні|нем)|окт(?:ябр[ьяею]м?)?",
    r"nov(?:ember)?|листопад(?:[аіу]|ом)?|ноя(?:бр[ьяею]м?)?",
    r"dec(?:ember)?|груд(?:ень|ня|ні|нем)|дек(?:абр[ьяею]м?)?",
)
_MONTH: Final = "(?P<{0}>" + "|".join(_MONTHS) + r")\b\.?"
_MONTH_OF: Final = tuple(re.compile(rf"(?:{m})\.?", re.IGNORECASE) for m in _MONTHS)

_ORDINALS: Final = words("dates_ordinals")
_DAY: Final = r"(?P<{0}>0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th|-?(?:го|е|ого|ому))?"
_WORD_DAY: Final = "|".join(sorted(_ORDINALS, key=len, reverse=True))
_YEAR: Final = r"(?P<{0}>(?:1[89]|20)\d\d)"
_ANY_YEAR: Final = r"(?P<{0}>(?:1[89]|20)\d\d|['’]?\d\d)"
_OF_YEAR: Final = (
    r"(?:\s?(?:р\.\s?н\.|г\.\s?р\.|р\.|р\b|рр\.|року|році|рік|г\.|г\b|года|году|год))?"
)
_TIME: Final = r"(?:(?:T|,?\s{1,2}(?:at\s|о\s|об\s|в\s)?)(?:[01]?\d|2[0-3])[:.][0-5]\d(?::[0-5]\d(?:\.\d+)?)?(?:\s?[ap]\.?m\.?)?(?:Z|[+-]\d\d:?\d\d)?)?"

_FORMS: Final[tuple[re.Pattern[str], ...]] = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"(?<![\w.,/-]){_YEAR.format('y')}(?P<s>[-./])(?P<m>0?[1-9]|1[0-2])(?P=s)(?P<d>0?[1-9]|[12]\d|3[01]){_TIME}(?![\w]|[./-]\d)",
        rf"(?<![\w.,/-])(?P<a>\d{{1,2}})\s?(?P<s>[-./])\s?(?P<b>\d{{1,2}})\s?(?P=s)\s?{_ANY_YEAR.format('y')}{_OF_YEAR}{_TIME}(?![\w]|[./-]\d)",
        rf"(?<![\w.,/-]){_YEAR.format('y')}(?P<m>0[1-9]|1[0-2])(?P<d>0[1-9]|[12]\d|3[01])(?:T?\d{{4,6}}Z?)?(?![\w]|[./-]\d)",
        rf"(?<![\w.,/-]){_DAY.format('d')}(?:\sof)?[\s./-]{{0,2}}{_MONTH.format('n')}(?:,?[\s./-]{{0,2}}{_ANY_YEAR.format('y')}(?!\d)(?![:.]\d)(?!\s?(?:mg|ml|мг|мл|%)))?{_OF_YEAR}{_TIME}",
        rf"(?<![\w])(?:the\s)?(?P<w>{_WORD_DAY})(?:\sday)?\sof\s{_MONTH.format('n')}(?:,?\s{_YEAR.format('y')})?",
        rf"(?<![\w]){_MONTH.format('n')}[\s-](?:the\s)?(?:{_DAY.format('d')}|(?P<w>{_WORD_DAY}))(?![\w/:]|[.,]\d)(?:(?:,\s?|\s|-){_ANY_YEAR.format('y')}(?![\d:]))?{_TIME}",
        rf"(?<![\w]){_MONTH.format('n')},?(?:\sof)?[\s-]{_YEAR.format('y')}(?!\d){_OF_YEAR}",
        rf"(?<![\w.,/]){_DAY.format('d')}(?P<s>[-./]){_MONTH.format('n')}(?P=s){_ANY_YEAR.format('y')}(?!\d)",
        r"(?<![\w.,/])(?P<m>0?[1-9]|1[0-2])[/.](?P<y>(?:19|20)\d\d)(?![\w/-]|[.,]\d)",
    )
)

_SHORT: Final = re.compile(
    r"(?:\b(?:on|since|from|until|till|by|through|dated|of|admitted|discharged|seen|dob|visit|"
    r"з|від|до|по|за|дата|станом на|с|от|к|на|поступив\w*|поступил\w*|виписан\w*|выписан\w*)\s)"
    r"(?P<x>(?P<a>0?[1-9]|[12]\d|3[01])(?P<s>[./])(?P<b>0?[1-9]|[12]\d|3[01]))(?:\.|\b)(?![\d/%]|[.,]\d|\s?(?:%|мг|мл|г\b|mg|ml|см|cm|мм|mm|кг|kg|ммоль|mmol|°|x|×|х\b))",
    re.IGNORECASE,
)
_WEEKDAY: Final = re.compile(
    r"(?<!\w)(?:mon|tues|wednes|thurs|fri|satur|sun)day(?=,?\s(?:the\s)?(?:\d|[A-Z][a-z]+\s\d))",
    re.IGNORECASE,
)


class Date(NamedTuple):
    """What a written date says; None where it does not."""

    year: int | None
    month: int | None
    day: int | None

    def whole(self) -> date | None:
        if self.year is None or self.month is None or self.day is None:
            return None
        try:
            return date(self.year, self.month, self.day)
        except ValueError:
            return None

    def days(self) -> list[str]:
        """The ISO dates that it may mean, whichever of day and month comes first."""
        turned = Date(self.year, self.day, self.month)
        return [day.isoformat() for one in (self, turned) if (day := one.whole()) is not None]


def dates(text: str) -> Iterator[Span]:
    """Every date finer than a year."""
    for form in _FORMS:
        for match in form.finditer(text):
            if _possible(match):
                yield Span(*match.span(), "DATE")
    for match in _SHORT.finditer(text):
        a, b = int(match["a"]), int(match["b"])
        padded = len(match["a"]) == len(match["b"]) == 2
        if min(a, b) <= 12 and (match["s"] == "/" or padded):
            yield Span(*match.span("x"), "DATE")
    yield from (Span(*m.span(), "DATE") for m in _WEEKDAY.finditer(text))


def _possible(match: re.Match[str]) -> bool:
    groups = match.groupdict()
    if "a" not in groups:
        return True
    a, b = int(groups["a"]), int(groups["b"])
    return 0 < min(a, b) <= 12 and 0 < max(a, b) <= 31


def read(text: str) -> Date | None:
    """What a date that ``dates`` found says. Day before month where both orders are possible and
    dots divide them, month before day where strokes do."""
    for form in _FORMS:
        match = form.fullmatch(text)
        if match is not None and _possible(match):
            return _read(match.groupdict())
    return None


def _read(groups: dict[str, str | None]) -> Date:
    year = _year(groups.get("y"))
    if groups.get("a") is not None:
        a, b = int(groups["a"] or 0), int(groups["b"] or 0)
        month_first = (groups.get("s") == "/" and a <= 12) or b > 12
        return Date(year, *((a, b) if month_first else (b, a)))
    name, month, day = groups.get("n"), groups.get("m"), groups.get("d")
    number = int(month) if month else None
    if name is not None:
        number = next((i for i, m in enumerate(_MONTH_OF, 1) if m.fullmatch(name)), None)
    word = groups.get("w")
    if word is not None:
        return Date(year, number, _ORDINALS.index(word.casefold()) + 1)
    return Date(year, number, int(day) if day else None)


def _year(text: str | None) -> int | None:
    if text is None:
        return None
    number = int(text.lstrip("'’"))
    if number >= 100:
        return number
    return 2000 + number if number <= _PIVOT else 1900 + number


_PIVOT: Final = 39
"""Two digits up to this are of this century."""

_OLD: Final = r"(?P<age>9\d|1[0-4]\d)"
_AGES: Final = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"(?<![\w.,/]){_OLD}[\s-]?(?:year|yr|y)s?\.?[\s/-]?(?:old|of\sage|o\b)(?:[\s-](?:man|woman|male|female|lady|gentleman))?",
        rf"(?<![\w.,/]){_OLD}[\s-]?(?:y/?o|yo)\b",
        rf"\b(?:aged?|age\sof|age:|age\sis|вік|віком|возраст\w{{0,3}}|віці)[\s:]{{1,3}}{_OLD}(?![\w]|[.,]\d)",
        rf"(?<![\w.,/]){_OLD}[\s-]?(?:рок\w{{1,3}}|років|річн\w+|р\.|літ\w{{0,3}})",
        rf"(?<![\w.,/]){_OLD}[\s-]?(?:лет(?:н\w+)?|год\w{{0,3}})(?!\w)",
    )
)


def ages(text: str) -> Iterator[Span]:
    """Ages over 89."""
    if "9" in text or "1" in text:
        for form in _AGES:
            yield from (Span(*m.span(), "AGE") for m in form.finditer(text))
