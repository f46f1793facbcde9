"""The concepts of one CodeSystem: https://hl7.org/fhir/R4/codesystem.html

Parents come from nested concepts and from the properties ``parent``, ``child`` and
``subsumedBy`` (https://hl7.org/fhir/R4/codesystem.html#defined-props).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

Json: TypeAlias = Mapping[str, Any]

UP: Final = frozenset({"parent", "subsumedBy"})
ALWAYS: Final = frozenset({"concept", "code", "display", "definition", "parent", "child"})
"""Properties that every code system has."""
DEFINED: Final = "http://hl7.org/fhir/concept-properties#"
ENDED: Final = frozenset({"retired", "inactive"})
"""Values of the property ``status`` of a concept that is not to be used any more."""


class Concepts:
    """``by_code``: code -> its JSON, in the order of the resource. Where the hierarchy is stated
    to be another than is-a, nothing subsumes anything else. The resource is never changed."""

    def __init__(self, code_system: Json) -> None:
        self.resource = code_system
        self.url: str = code_system.get("url", "")
        self.version: str = code_system.get("version", "")
        self.content: str = code_system.get("content", "")
        self.by_code: dict[str, Json] = {}
        self.is_a: bool = code_system.get("hierarchyMeaning", "is-a") == "is-a"
        self._children: dict[str, dict[str, None]] = {}
        self._parents: dict[str, dict[str, None]] = {}
        for concept, parent in _walk(code_system.get("concept", ())):
            self.by_code[concept["code"]] = concept
            self._link(concept, parent)
        self._meaning = _meanings(code_system)
        self._folded: dict[str, str] | None = None
        self._words: dict[str, str] = {}
        self._defined: set[str | None] | None = None

    def _link(self, concept: Json, parent: str | None) -> None:
        code = concept["code"]
        if parent is not None:
            self._add(parent, code)
        for found in concept.get("property", ()):
            other = found.get("valueCode")
            if other is None:
                continue
            if found.get("code") in UP:
                self._add(other, code)
            elif found.get("code") == "child":
                self._add(code, other)

    def _add(self, parent: str, child: str) -> None:
        self._children.setdefault(parent, {})[child] = None
        self._parents.setdefault(child, {})[parent] = None

    @property
    def complete(self) -> bool:
        """Is every code of the system here?"""
        return self.content == "complete"

    @property
    def canonical(self) -> str:
        return f"{self.url}|{self.version}" if self.version else self.url

    def find(self, code: str) -> str | None:
        """The code as the system writes it: in any case, if the system says that this is one."""
        if code in self.by_code or self.resource.get("caseSensitive") is not False:
            return code if code in self.by_code else None
        if self._folded is None:
            self._folded = {known.casefold(): known for known in self.by_code}
        return self._folded.get(code.casefold())

    def below(self, code: str) -> set[str]:
        """The code and its descendants."""
        return _reached(self._children, code) if self.is_a else {code}

    def above(self, code: str) -> set[str]:
        """The code and its ancestors."""
        return _reached(self._parents, code) if self.is_a else {code}

    def children(self, code: str) -> tuple[str, ...]:
        """Directly below, whatever the hierarchy means."""
        return tuple(self._children.get(code, ()))

    def parents(self, code: str) -> tuple[str, ...]:
        return tuple(self._parents.get(code, ()))

    def inactive(self, code: str) -> bool:
        """Not to be used any more."""
        return any(
            value is True if meaning == "inactive" else meaning == "status" and value in ENDED
            for meaning, value in self._properties(code)
        )

    def abstract(self, code: str) -> bool:
        """Not to be selected by itself."""
        return ("notSelectable", True) in self._properties(code)

    def _properties(self, code: str) -> list[tuple[str, Any]]:
        """(what FHIR calls it, value) of each property."""
        return [
            (self._meaning.get(found["code"], found["code"]), value_of(found)[1])
            for found in self.by_code[code].get("property", ())
            if "code" in found
        ]

    def display(self, code: str, language: str = "") -> str:
        """In the language if there is one; empty: there is none at all."""
        translated = self.translated(code, language) if language else ""
        return translated or str(self.by_code[code].get("display", ""))

    def translated(self, code: str, language: str) -> str:
        """The display in a language, if it is known to be in it."""
        concept = self.by_code[code]
        if speaks(self.resource.get("language", ""), language):
            return str(concept.get("display", ""))
        fitting = (
            d for d in concept.get("designation", ()) if speaks(d.get("language", ""), language)
        )
        return str(next((d.get("value", "") for d in fitting), ""))

    def words(self, code: str) -> str:
        """What a text filter looks into: code, display and designations, folded."""
        found = self._words.get(code)
        if found is None:
            concept = self.by_code[code]
            texts = [code, concept.get("display", "")]
            texts += [one.get("value", "") for one in concept.get("designation", ())]
            found = self._words[code] = folded(" ".join(texts))
        return found

    def has(self, code: str, name: str, value: str | None) -> bool:
        """Whether a concept has the property, with this value if one is asked for."""
        if name in ("parent", "child"):
            others = self.parents(code) if name == "parent" else self.children(code)
            return bool(others) if value is None else value in others
        return any(value is None or text == value for text in self.texts(code, name))

    def defines(self, name: str) -> bool:
        """Is it a property of the system: stated to be one, or borne by a concept?"""
        if self._defined is None:
            borne = {
                found.get("code")
                for concept in self.by_code.values()
                for found in concept.get("property", ())
            }
            stated = {row.get("code") for row in self.resource.get("property", ())}
            self._defined = borne | stated | ALWAYS
        return name in self._defined

    def texts(self, code: str, name: str) -> list[str]:
        """The values of a property, as a filter writes them."""
        concept = self.by_code[code]
        if name in ("concept", "code"):
            return [code]
        if name in ("display", "definition"):
            return [str(concept[name])] if name in concept else []
        return [
            _written(value_of(found)[1])
            for found in concept.get("property", ())
            if found.get("code") == name
        ]


def value_of(found: Json) -> tuple[str, Any]:
    """The member and value of a ``value[x]``."""
    return next(((k, v) for k, v in found.items() if k.startswith("value")), ("", None))


def speaks(language: str, wanted: str) -> bool:
    """Is it that language, or a variant of it (``de-AT`` for ``de``)?"""
    own, asked = language.casefold(), wanted.casefold()
    return own == asked or own.startswith(f"{asked}-")


def folded(text: str) -> str:
    """Words without case, accents and punctuation, each after a space."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    kept = (c for c in plain if not unicodedata.combining(c))
    return " " + " ".join("".join(c if c.isalnum() else " " for c in kept).split())


def _written(value: Any) -> str:
    shown = value.get("code") if isinstance(value, Mapping) else value
    return str(shown).lower() if isinstance(shown, bool) else str(shown)


def _meanings(code_system: Json) -> dict[str, str]:
    """The system's own name of a property -> FHIR's."""
    return {
        row["code"]: row["uri"].removeprefix(DEFINED)
        for row in code_system.get("property", ())
        if str(row.get("uri", "")).startswith(DEFINED) and "code" in row
    }


def _reached(links: Mapping[str, Iterable[str]], start: str) -> set[str]:
    """Along the links from ``start``; circles end."""
    found, fresh = {start}, [start]
    while fresh:
        for code in links.get(fresh.pop(), ()):
            if code not in found:
                found.add(code)
                fresh.append(code)
    return found


def _walk(concepts: Iterable[Any]) -> Iterator[tuple[Json, str | None]]:
    """Every concept with its parent's code, in the order of the resource."""
    stack: list[tuple[Json, str | None]] = [(c, None) for c in reversed([*concepts])]
    while stack:
        concept, parent = stack.pop()
        if "code" in concept:
            yield concept, parent
        below = concept.get("concept", ())
        stack += [(one, concept.get("code")) for one in reversed(below)]


class Recent:
    """The code systems that were used last, with what was computed of them."""

    def __init__(self, most: int = 32) -> None:
        self._most = most
        self._kept: dict[int, Concepts] = {}

    def of(self, code_system: Json) -> Concepts:
        """The concepts of a resource that is not changed any more."""
        found = self._kept.pop(id(code_system), None)
        if found is None or found.resource is not code_system:
            found = Concepts(code_system)
        self._kept[id(code_system)] = found
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]
        return found
