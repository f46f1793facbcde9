"""What stands in place of an identifier: a tag, or another of the same form.

A surrogate depends on the key of the project, on whose text it is and on what it replaces, so
the same name is replaced by the same name throughout, and nobody without the key can tell which.
A name keeps its language, and its ending where a form of the new name has one like it.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from operations.deid.text.contract import Settings
from operations.deid.text.declension import forms
from operations.deid.text.known import Known, Named
from operations.deid.text.rules.dates import read
from operations.deid.text.spans import WORD, Kind, Span
from operations.deid.text.tagging.lexicon import Lexicon, stem

_TRIES: Final = 16


@cache
def _lists() -> dict[str, list[str]]:
    """Names by language, role and gender: ``uk given female`` and so on."""
    found: dict[str, list[str]] = json.loads(
        files(__package__).joinpath("surrogates.json").read_text("utf-8")
    )
    return found


class Surrogates:
    """For one answer."""

    def __init__(self, settings: Settings, known: Known, lexicon: Lexicon) -> None:
        self._settings, self._lexicon = settings, lexicon
        self._known = known
        self._makers: dict[Kind, Callable[[str, str], str]] = {
            "NAME": self._name, "PHONE": self._figures, "ID": self._figures, "CARD": self._figures,
            "EMAIL": lambda text, who: f"{self._token(text, who)}@example.org",
            "URL": lambda text, who: f"https://example.org/{self._token(text, who)}",
            "IP": lambda text, who: f"192.0.2.{1 + self._number(text, who) % 254}",
        }  # fmt: skip

    def instead(self, text: str, span: Span, subject: str) -> str:
        """The replacement of ``text[span.start : span.end]``."""
        value = text[span.start : span.end]
        if span.kind == "DATE":
            return self._date(value, subject)
        if span.kind == "AGE":
            return "[90+]"
        maker = self._makers.get(span.kind)
        if self._settings.style == "tag" or maker is None:
            return f"[{span.kind}]"
        return maker(value, subject)

    def _number(self, text: str, subject: str, turn: int = 0) -> int:
        message = "\0".join((subject, text.casefold(), str(turn))).encode()
        return int.from_bytes(hmac.digest(self._settings.key, message, sha256)[:16], "big")

    def _token(self, text: str, subject: str) -> str:
        return f"{self._number(text, subject) % 36**8:08x}"

    def _date(self, value: str, subject: str) -> str:
        """To the year, or moved; what is moved onto a birth date of the record loses its day."""
        said = None if self._settings.dates == "tag" else read(value.strip())
        if said is None or said.year is None:
            return "[DATE]"
        if self._known.facts.births & set(said.days()):
            return str(said.year)
        day, shift = said.whole(), self._settings.shift
        if self._settings.dates == "shift" and shift is not None:
            if day is None:
                return "[DATE]"
            moved = (day + timedelta(days=shift(subject))).isoformat()
            return moved[:4] if moved in self._known.facts.births else moved
        return str(said.year)

    def _figures(self, value: str, subject: str) -> str:
        """Other digits and letters in the same places."""
        for turn in range(_TRIES):
            number = self._number("".join(filter(str.isalnum, value)), subject, turn)
            result = ""
            for letter in value:
                number, figure = divmod(number, 260)
                if letter.isdigit():
                    result += str(figure % 10)
                elif letter.isalpha():
                    result += chr(ord("A") + figure % 26)
                else:
                    result += letter
            if not any(self._known.find(result)):
                return result
        return "[ID]"

    def _name(self, value: str, subject: str) -> str:
        return WORD.sub(lambda match: self._word(match[0], subject), value)

    def _word(self, word: str, subject: str) -> str:
        possessive = word[-2:] if word[-2:].casefold() in ("'s", "’s") else ""
        bare = word.removesuffix(possessive) if possessive else word
        if len(bare) == 1:
            letters = "АБВГДІКЛМНОПРСТ" if bare > "\u0400" else "ABCDEFGHIJKLMNOPRST"
            return letters[self._number(bare, subject) % len(letters)]
        named = self._known.named(bare)
        base = named.word if named is not None else stem(bare.casefold())
        names = self._choice(base, bare, named)
        for turn in range(_TRIES):
            name = names[self._number(base, subject, turn) % len(names)]
            form = name if named and bare.casefold() == base else _alike(name, bare)
            if self._known.named(form) is None:
                return _cased(form, bare) + possessive
        return "[NAME]"

    def _role(self, base: str) -> str:
        """Of a word that the record does not tell: a given name only if it is no surname too."""
        return "given" if self._lexicon.lists(base) == {"given"} else "family"

    def _choice(self, base: str, word: str, named: Named | None) -> list[str]:
        """The names to choose from: the same for every form of one name."""
        role = named.role if named else self._role(word.casefold())
        gender = self._known.facts.genders.get(base, "")
        if gender not in ("male", "female"):
            gender = "female" if named and base.endswith(("а", "я", "a")) else "male"
        if word < "\u0400":
            return _lists()[f"en {role or 'family'} {gender}"]
        russian = any(c in "ыэёъ" for c in base) or stem(base).endswith(_RUSSIAN)
        if any(part in base for part in _PATRONYMIC):
            role = "patronymic"
        names = _lists()[f"{'ru' if russian else 'uk'} {role or 'family'} {gender}"]
        alike = [name for name in names if name[-1] == base[-1]] if named else names
        return alike if len(alike) > 3 else names


_RUSSIAN: Final = ("ов", "ев", "ин", "ск")
_PATRONYMIC: Final = ("ович", "евич", "йович", "івн", "ївн", "овн", "евн")


def _alike(name: str, word: str) -> str:
    """The form of ``name`` whose ending is most like that of ``word``; the name itself if none
    is."""
    if word < "\u0400":
        return name
    low, plain = word.casefold(), name.casefold()

    def likeness(form: str) -> tuple[int, bool, int, str]:
        common = 0
        while common < min(len(form), len(low)) and form[-1 - common] == low[-1 - common]:
            common += 1
        return min(common, 3), form == plain, -len(form), form

    return max(forms(plain), key=likeness)


def _cased(name: str, word: str) -> str:
    if word.isupper() and len(word) > 1:
        return name.upper()
    return name.capitalize() if word[0].isupper() else name
