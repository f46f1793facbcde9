"""The form of a resource: what it says without its codes, dates, numbers and links.

Two resources of one form with the same codes (and years) are shown alike, but for their ids.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from fhir_server.model.exchange import Json

from .acts import measurable, year_of
from .walk import Number, Walker, key_of

Sign = tuple[str, str]
"""A coding, as it stands in a resource: (path, system|code)."""


@dataclass(slots=True)
class Form:
    """``codes``, ``years``, ``numbers``: in the order in which they stand; ``own``: what a
    reference to the resource's patient ends with, the only one that is shown."""

    own: Collection[str]
    codes: list[Sign] = field(default_factory=list)
    years: list[str] = field(default_factory=list)
    numbers: list[Number] = field(default_factory=list)
    digest: bytes = b""

    @classmethod
    def of(cls, made: Json, own: Collection[str], walker: Walker) -> Form:
        form = cls(own)
        rest = {name: value for name, value in made.items() if name != "id"}
        text = json.dumps(walker.resource(rest, form), sort_keys=True, default=str)
        form.digest = blake2b(text.encode(), digest_size=8).digest()
        return form

    def date(self, value: str) -> str | None:
        year = year_of(value)
        self.years.append("" if year is None else str(year))
        return "@"

    def moment(self, _value: str) -> str | None:
        return None

    def coding(self, path: str, coding: Json) -> Json | None:
        if "code" not in coding:
            return coding
        self.codes.append((path, key_of(coding)))
        return {"": ""}

    def number(self, _path: str, _near: str, _unit: str, value: Number) -> Number | None:
        if not measurable(value):
            return None
        self.numbers.append(value)
        return 0

    def series(self, value: Json) -> Json:
        return {name: part for name, part in value.items() if name != "data"}

    def reference(self, value: Json) -> Json | None:
        return None if linked(value, self.own) is None else {"": ""}


def linked(value: Json, own: Collection[str]) -> Json | None:
    """A Reference as it is shown: to the patient, or not at all."""
    literal: Any = value.get("reference")
    if isinstance(literal, str) and any(literal.endswith(one) for one in own):
        return value
    return None


@dataclass(slots=True)
class Alike:
    """A resource as everybody of a part shows it. ``codes``: what each coding is shown as;
    ``dates``: are years shown; ``means``: what stands for its numbers, in their order."""

    own: Collection[str]
    codes: Mapping[Sign, str | None]
    dates: bool
    means: list[Number]
    _next: int = 0

    def date(self, value: str) -> str | None:
        year = year_of(value)
        return value[:4] if self.dates and year is not None else None

    def moment(self, _value: str) -> str | None:
        return None

    def coding(self, path: str, coding: Json) -> Json | None:
        if "code" not in coding:
            return coding
        key = key_of(coding)
        found = self.codes.get((path, key))
        if found is None or found == key:
            return None if found is None else coding
        system, _, code = found.rpartition("|")
        return {"system": system, "code": code}

    def number(self, _path: str, _near: str, _unit: str, value: Number) -> Number | None:
        if not measurable(value):
            return None
        self._next += 1
        return self.means[self._next - 1]

    def series(self, value: Json) -> Json:
        return {name: part for name, part in value.items() if name != "data"}

    def reference(self, value: Json) -> Json | None:
        return linked(value, self.own)
