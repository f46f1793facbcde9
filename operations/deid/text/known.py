"""Identifiers that the record itself tells, found again in any inflection, script or spacing.

Names are compared by sound (``operations.matching.spelling``) after every form of each has been
made (``declension``), so that Шевченком, Shevchenko and ШЕВЧЕНКО are all found for Шевченко.
Numbers are compared without what divides their digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from fhir_server.model.exchange import Json
from operations.deid.elements import Elements
from operations.deid.text.declension import cyrillic, forms
from operations.deid.text.numbers import digits
from operations.deid.text.rules.contacts import EMAIL
from operations.deid.text.rules.dates import dates, read
from operations.deid.text.spans import WORD, Kind, Span
from operations.deid.text.walk import nodes
from operations.deid.text.wordlists import words
from operations.matching.spelling import sounds

PEOPLE: Final = ("Patient", "Practitioner", "PractitionerRole", "RelatedPerson", "Person")
_PLACES: Final = frozenset(("Organization.name", "Location.name", "Organization.alias"))
_SURE: Final = 3
_TITLES: Final = frozenset(words("known_titles"))
_STREET_WORDS: Final = frozenset(words("known_street_words"))


class Named(NamedTuple):
    """A word that names somebody or some place. ``role``: ``given``, ``family`` or nothing."""

    word: str
    kind: Kind
    role: str = ""


@dataclass(slots=True)
class Facts:
    """What the resources of an answer tell of people. ``numbers``: letters and digits only."""

    names: dict[str, Named] = field(default_factory=dict)
    numbers: dict[str, Kind] = field(default_factory=dict)
    phrases: dict[str, Kind] = field(default_factory=dict)
    births: set[str] = field(default_factory=set)
    genders: dict[str, str] = field(default_factory=dict)

    def name(self, text: Any, kind: Kind = "NAME", role: str = "", gender: str = "") -> None:
        """The words of a name, without titles."""
        for match in WORD.finditer(text if isinstance(text, str) else ""):
            word = match[0].casefold()
            if len(word) > 1 and word not in _TITLES:
                self.names.setdefault(word, Named(word, kind, role))
                if gender:
                    self.genders.setdefault(word, gender)

    def number(self, text: Any, kind: Kind, least: int = 5) -> None:
        value = compact(text) if isinstance(text, str) else ""
        if len(value) >= least and any(c.isdigit() for c in value):
            self.numbers.setdefault(value, kind)

    def phrase(self, text: Any, kind: Kind) -> None:
        words = re.findall(r"\w+", text.casefold()) if isinstance(text, str) else []
        if sum(map(len, words)) > 5:
            self.phrases.setdefault(" ".join(words), kind)


def compact(text: str) -> str:
    """Letters and digits, in lower case."""
    return "".join(c for c in text.casefold() if c.isalnum())


def harvest(resources: Iterable[Json], elements: Elements) -> Facts:
    """Names, addresses, contacts, identifiers and birth dates of everybody in the resources."""
    facts = Facts()
    for resource in resources:
        for node in nodes(resource, elements):
            if isinstance(node.value, dict):
                _complex(facts, node.type, node.value, node.around)
            elif isinstance(node.value, str):
                _simple(facts, f"{node.owner}.{node.key}", node.value, node.around)
    return facts


def _complex(facts: Facts, type_: str, value: Json, around: Json) -> None:
    match type_:
        case "HumanName":
            gender = around.get("gender")
            gender = gender if isinstance(gender, str) else ""
            for given in _strings(value.get("given")):
                facts.name(given, role="given", gender=gender)
            facts.name(value.get("family"), role="family", gender=gender)
            facts.name(value.get("text"), gender=gender)
        case "Address":
            _address(facts, value)
        case "ContactPoint":
            _contact(facts, value)
        case "Identifier":
            facts.number(value.get("value"), "ID", least=4)
        case "Reference" if _to_person(value):
            facts.name(value.get("display"))


def _simple(facts: Facts, path: str, value: str, around: Json) -> None:
    if path.endswith(".birthDate"):
        facts.births.add(value)
    elif path == "Annotation.authorString":
        facts.name(value)
    elif path in _PLACES:
        facts.phrase(value, "LOCATION")
    elif path == "Patient.id":
        facts.number(value, "ID", least=8)


def _address(facts: Facts, value: Json) -> None:
    for line in (*_strings(value.get("line")), value.get("text")):
        facts.phrase(line, "ADDRESS")
        for match in WORD.finditer(line if isinstance(line, str) else ""):
            if len(match[0]) > 4 and match[0].casefold() not in _STREET_WORDS:
                facts.name(match[0], "LOCATION")
    facts.name(value.get("city"), "LOCATION")
    facts.name(value.get("district"), "LOCATION")
    facts.number(value.get("postalCode"), "ADDRESS")


def _contact(facts: Facts, value: Json) -> None:
    number = value.get("value")
    if isinstance(number, str) and EMAIL.fullmatch(number.strip()):
        facts.phrase(number, "EMAIL")
    elif isinstance(number, str):
        figures = digits(number)
        if len(figures) > 6:
            facts.numbers.setdefault(figures[-9:] if len(figures) > 9 else figures, "PHONE")
        else:
            facts.phrase(number, "URL")


def _to_person(value: Json) -> bool:
    target = value.get("type") or str(value.get("reference", "")).split("/")[-2:][0]
    return target in PEOPLE


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


class Known:
    """The facts, ready to be looked for. ``common``: is a word in lower case an everyday word?"""

    def __init__(self, facts: Facts, common: Any) -> None:
        self.facts = facts
        self._common = common
        self._sounds: dict[str, Named] = {}
        self._short: dict[str, Named] = {}
        for named in facts.names.values():
            for form in (*forms(named.word), *forms(cyrillic(named.word))):
                self._short.setdefault(form, named)
                for sound in sounds(form):
                    if len(sound) > 2:
                        self._sounds.setdefault(sound, named)
        self._numbers = [(n, k, _spaced(n)) for n, k in facts.numbers.items()]
        self._phrases = [(p.replace(" ", ""), k, _phrase(p)) for p, k in facts.phrases.items()]

    def named(self, word: str) -> Named | None:
        """Which known name a word is a form of, whatever the case of its letters."""
        word = word[:-2] if word[-2:].casefold() in ("'s", "’s") else word
        found = self._short.get(word.casefold())
        if found is None and len(word) > 2:
            found = next((self._sounds[s] for s in sounds(word) if s in self._sounds), None)
        return found

    def find(self, text: str) -> Iterator[Span]:
        """Every known identifier; overlapping."""
        yield from self._names(text)
        squeezed = compact(text)
        for number, kind, form in self._numbers:
            if number in squeezed:
                yield from (Span(*m.span(), kind, _SURE) for m in form.finditer(text))
        for phrase, kind, form in self._phrases:
            if phrase in squeezed:
                yield from (Span(*m.span(), kind, _SURE) for m in form.finditer(text))

    def births(self, text: str) -> Iterator[Span]:
        """Birth dates, however they are written."""
        for span in dates(text) if self.facts.births else ():
            said = read(text[span.start : span.end].rstrip())
            if said is not None and self.facts.births & set(said.days()):
                yield Span(span.start, span.end, "DATE", _SURE)

    def _names(self, text: str) -> Iterator[Span]:
        if not self._short:
            return
        last_end = -9
        for match in WORD.finditer(text):
            named = self.named(match[0])
            if named is None:
                continue
            near = match.start() - last_end <= 2
            if self._telling(match[0]) or near:
                last_end = match.end()
                yield Span(match.start(), match.end(), named.kind, _SURE)

    def _telling(self, word: str) -> bool:
        """Would this word alone name somebody? In lower case only if it means nothing else."""
        if word[0].isupper():
            return len(word) > 2
        return len(word) > 4 and not self._common(word.casefold())


def _spaced(number: str) -> re.Pattern[str]:
    gap = r"[\s\-().·/+_]{0,3}"
    left = r"(?<!\d)" if number[0].isdigit() and len(number) < 9 else ""
    right = r"(?!\d)" if number[-1].isdigit() else ""
    return re.compile(left + gap.join(map(re.escape, number)) + right, re.IGNORECASE)


def _phrase(phrase: str) -> re.Pattern[str]:
    return re.compile(
        r"(?<!\w)" + r"[\W_]{1,4}".join(map(re.escape, phrase.split(" "))) + r"(?!\w)",
        re.IGNORECASE,
    )
