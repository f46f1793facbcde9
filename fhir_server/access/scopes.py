"""SMART App Launch 2.2 scopes: https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html

Grammar: ``(patient|user|system)/(Type|*).c?r?u?d?s?(?param=value&…)``; the v1 forms
``.read``, ``.write`` and ``.*`` map to ``rs``, ``cud`` and ``cruds``. What does not parse
is refused, never ignored and never widened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, cast
from urllib.parse import parse_qsl

from fhir_server.model.problem import BadRequest

ERASE: Final = "__expunge"
MODELS: Final = "__models"
RIGHTS: Final = frozenset({ERASE, MODELS})
"""Scopes of this server: rights that no resource scope includes. SMART App Launch 2.2 has
names begin so that it does not define."""

Context = Literal["patient", "user", "system"]

LETTERS: Final = "cruds"
V1: Final = {"read": "rs", "write": "cud", "*": "cruds"}
_SCOPE = re.compile(r"(patient|user|system)/(\*|[A-Za-z]+)\.([a-z*]+)(?:\?(.+))?")
_V2 = re.compile(r"c?r?u?d?s?")


@dataclass(frozen=True, slots=True)
class Scope:
    """One granted scope. ``type`` "*" means every type; ``filters`` are AND-ed."""

    context: Context
    type: str
    letters: str
    filters: tuple[tuple[str, str], ...] = ()

    def covers(self, type_: str, letter: str) -> bool:
        return letter in self.letters and self.type in ("*", type_)


def parse_scope(text: str, resource_types: Iterable[str]) -> Scope:
    """One resource scope; BadRequest names what is wrong with it."""
    found = _SCOPE.fullmatch(text)
    if found is None:
        raise BadRequest(f"not a SMART resource scope: {text!r}")
    context, type_, access, query = found.groups()
    letters = V1.get(access, access)
    if letters != V1.get(access) and (not letters or _V2.fullmatch(letters) is None):
        raise BadRequest(f"scope {text!r}: unknown access {access!r}")
    if type_ != "*" and type_ not in resource_types:
        raise BadRequest(f"scope {text!r}: unknown resource type {type_!r}")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise BadRequest(f"scope {text!r}: not search parameters: {query!r}") from None
    filters = tuple(pairs)
    if filters and type_ == "*":
        raise BadRequest(f"scope {text!r}: search parameters need a resource type")
    return Scope(cast(Context, context), type_, letters, filters)


def parse_scopes(text: str, resource_types: Iterable[str]) -> tuple[Scope, ...]:
    """The resource scopes of a space-separated list; launch and identity scopes are skipped."""
    types = frozenset(resource_types)
    parts = [p for p in text.split() if "/" in p and not p.startswith("launch/")]
    return tuple(parse_scope(part, types) for part in parts)


def parse_rights(text: str) -> frozenset[str]:
    """The rights of a space-separated list of scopes."""
    return RIGHTS.intersection(text.split())
