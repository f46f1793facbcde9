"""What identifies a person, read from a Patient: https://hl7.org/fhir/R4/patient.html"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, NamedTuple

from fhir_server.model.exchange import Json
from fhir_server.search.values import TokenValue, fold

from .spelling import skeleton, sounds, words

INDEX: Final = "_match"
"""The index of blocking keys; no search parameter reads it."""
MOST_WORDS: Final = 8
"""Words of a person's names that keys are made of."""
_KEYED: Final = ("name", "birthDate", "identifier", "telecom")
"""What keys are made of; places are only compared."""
PHONE_DIGITS: Final = 9
"""The last digits of a telephone number: without prefixes of country and trunk."""

Word = tuple[str, ...]
"""The readings of one word of a name."""


class Name(NamedTuple):
    """``family`` and ``given`` in their order; of an unstructured name all are ``loose``."""

    family: tuple[Word, ...]
    given: tuple[Word, ...]
    loose: tuple[Word, ...]

    @property
    def all(self) -> tuple[Word, ...]:
        return (*self.family, *self.given, *self.loose)


class Place(NamedTuple):
    """``lines``: the sounds of street and house."""

    postal: str
    city: frozenset[str]
    lines: frozenset[str]


@dataclass(frozen=True, slots=True)
class Person:
    """``birth``: year, month, day, as far as known. ``identifiers``: (system, normal value)."""

    names: tuple[Name, ...]
    birth: tuple[str, ...]
    gender: str
    identifiers: frozenset[tuple[str, str]]
    contacts: frozenset[str]
    places: tuple[Place, ...]

    @property
    def telling(self) -> bool:
        """Is there anything to look for?"""
        return bool(self.identifiers or self.contacts or any(name.all for name in self.names))


def person(patient: Json) -> Person:
    """Reads a Patient that need not be complete or valid."""
    birth = _text(patient.get("birthDate"))
    known = re.fullmatch(r"\d{4}(-\d\d){0,2}", birth, re.ASCII)
    return Person(
        tuple(name for part in _parts(patient, "name") if (name := _name(part)).all),
        tuple(birth.split("-")) if known else (),
        _text(patient.get("gender")),
        frozenset(
            (_text(part.get("system")), value)
            for part in _parts(patient, "identifier")
            if (value := plain(_text(part.get("value"))))
        ),
        frozenset(filter(None, map(_contact, _parts(patient, "telecom")))),
        tuple(_place(part) for part in _parts(patient, "address")),
    )


def patient_keys(patient: Json) -> Iterator[TokenValue]:
    """The blocking keys of a stored Patient, as values of ``INDEX``."""
    one = person({name: patient[name] for name in _KEYED if name in patient})
    for key in dict.fromkeys((*strong_keys(one), *born_keys(one), *pair_keys(skeletons(one)))):
        yield TokenValue(INDEX, "", key)


def strong_keys(one: Person) -> Iterator[str]:
    """Identifiers and contacts."""
    for _, value in sorted(one.identifiers):
        yield f"i:{value}"
    for value in sorted(one.contacts):
        yield f"t:{value}"


def born_keys(one: Person) -> Iterator[str]:
    """A word of the name with the year, and with month and day, so that either may be wrong."""
    if not one.birth:
        return
    year, day = one.birth[0], "-".join(one.birth[1:])
    for word in skeletons(one):
        yield f"y:{year}:{word}"
        if len(day) == 5:
            yield f"d:{day}:{word}"


def pair_keys(found: Iterable[str]) -> Iterator[str]:
    """Two words of the name, in either order."""
    for one, other in combinations(sorted(found), 2):
        yield f"n:{one}.{other}"


def skeletons(one: Person) -> list[str]:
    """Of the words of all names; initials have none."""
    readings = [sound for name in one.names for word in name.all for sound in word]
    found = dict.fromkeys(skeleton(sound) for sound in readings if len(sound) > 1)
    return [key for key in found if key][:MOST_WORDS]


def plain(text: str) -> str:
    """An identifier as it is compared: letters and digits only."""
    return "".join(c for c in fold(text).upper() if c.isalnum())[:64]


def _parts(resource: Json, member: str) -> list[Json]:
    found = resource.get(member)
    return [p for p in found if isinstance(p, dict)] if isinstance(found, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _name(part: Json) -> Name:
    given = part.get("given")
    family = _words(_text(part.get("family")))
    others = _words(*map(_text, given)) if isinstance(given, list) else ()
    loose = () if family or others else _words(_text(part.get("text")))
    return Name(family, others, loose)


def _words(*texts: str) -> tuple[Word, ...]:
    found = (sounds(word) for text in texts for word in words(text))
    return tuple(word for word in found if word)[:MOST_WORDS]


def _contact(part: Json) -> str:
    value = _text(part.get("value"))
    if part.get("system") == "email":
        return fold(value)[:64]
    digits = "".join(c for c in value if c.isdecimal())[-PHONE_DIGITS:]
    return digits if len(digits) >= 5 else ""


def _place(part: Json) -> Place:
    lines = part.get("line")
    street = " ".join(map(_text, lines)) if isinstance(lines, list) else ""
    return Place(
        plain(_text(part.get("postalCode"))),
        frozenset(s for word in _words(_text(part.get("city"))) for s in word),
        frozenset(s for word in words(street) for s in (sounds(word) or (word,))),
    )
