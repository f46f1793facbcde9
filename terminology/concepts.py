"""The concepts of one CodeSystem: https://hl7.org/fhir/R4/codesystem.html

Parents come from nested concepts and from the properties ``parent``, ``child`` and
``subsumedBy`` (https://hl7.org/fhir/R4/codesystem.html#defined-props).
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import Any, Final, TypeAlias

Json: TypeAlias = Mapping[str, Any]

UP: Final = frozenset({"parent", "subsumedBy"})
ALL: Final = -1
"""No limit of how many."""
ALWAYS: Final = frozenset({"concept", "code", "display", "definition", "parent", "child"})
"""Properties that every code system has."""
DEFINED: Final = "http://hl7.org/fhir/concept-properties#"
ENDED: Final = frozenset({"retired", "inactive"})
"""Values of the property ``status`` of a concept that is not to be used any more."""


class Concepts(ABC):
    """A code system with what it knows of each code. ``by_code``: code -> its JSON, in the order
    of the system. Where the hierarchy is stated to be another than is-a, nothing subsumes
    anything else. The resource is never changed."""

    by_code: Mapping[str, Json]
    indexed = False
    """Is it cheaper to ask an index of words than to look at each concept?"""

    def __init__(self, code_system: Json) -> None:
        self.resource = code_system
        self.url: str = code_system.get("url", "")
        self.version: str = code_system.get("version", "")
        self.content: str = code_system.get("content", "")
        self.is_a: bool = code_system.get("hierarchyMeaning", "is-a") == "is-a"
        self._meaning = meanings(code_system)

    @abstractmethod
    def find(self, code: str) -> str | None:
        """The code as the system writes it: in any case, if the system says that this is one."""

    @abstractmethod
    def children(self, code: str) -> tuple[str, ...]:
        """Directly below, whatever the hierarchy means."""

    @abstractmethod
    def parents(self, code: str) -> tuple[str, ...]:
        """Directly above."""

    @abstractmethod
    def ordered(self, codes: Set[str]) -> list[str]:
        """Those of the system, in its order."""

    @abstractmethod
    def bearing(self, name: str, value: str | None = None) -> set[str]:
        """The codes with the property, with this value if one is asked for."""

    @abstractmethod
    def defines(self, name: str) -> bool:
        """Is it a property of the system: stated to be one, or borne by a concept?"""

    @abstractmethod
    def sought(self, beginnings: Sequence[str]) -> Iterable[str]:
        """The codes of whose words each beginning begins one, in the order of the system."""

    @abstractmethod
    def some_inactive(self) -> bool:
        """Is any code not to be used any more?"""

    def hits(self, beginnings: Sequence[str]) -> int:
        """How many codes ``sought`` gives."""
        return sum(1 for _ in self.sought(beginnings))

    def page(self, offset: int, count: int) -> list[str]:
        """Codes in the order of the system."""
        return list(islice(self.by_code, offset, offset + count))

    @property
    def complete(self) -> bool:
        """Is every code of the system here?"""
        return self.content == "complete"

    @property
    def canonical(self) -> str:
        return f"{self.url}|{self.version}" if self.version else self.url

    def below(self, code: str, most: int = ALL) -> set[str]:
        """The code and its descendants; some of them where there are more than ``most``."""
        return reached(self.children, code) if self.is_a else {code}

    def above(self, code: str) -> set[str]:
        """The code and its ancestors."""
        return reached(self.parents, code) if self.is_a else {code}

    def inactive(self, code: str) -> bool:
        """Not to be used any more."""
        return is_inactive(self._properties(code))

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
        return words_of(self.by_code[code])

    def has(self, code: str, name: str, value: str | None = None) -> bool:
        """Whether a concept has the property, with this value if one is asked for."""
        found = self.texts(code, name)
        return bool(found) if value is None else value in found

    def texts(self, code: str, name: str) -> Sequence[str]:
        """The values of a property, as a filter writes them."""
        if name == "parent":
            return self.parents(code)
        return self.children(code) if name == "child" else texts_of(self.by_code[code], name)


class Listed(Concepts):
    """The concepts that a CodeSystem resource bears itself."""

    def __init__(self, code_system: Json) -> None:
        super().__init__(code_system)
        self.by_code: dict[str, Json] = {}
        self._children: dict[str, dict[str, None]] = {}
        self._parents: dict[str, dict[str, None]] = {}
        for concept, parent in walk(code_system.get("concept", ())):
            self.by_code[concept["code"]] = concept
            for above, below in links(concept, parent):
                self._children.setdefault(above, {})[below] = None
                self._parents.setdefault(below, {})[above] = None
        self._folded: dict[str, str] | None = None
        self._words: dict[str, str] = {}
        self._defined: set[str | None] | None = None

    def find(self, code: str) -> str | None:
        if code in self.by_code or self.resource.get("caseSensitive") is not False:
            return code if code in self.by_code else None
        if self._folded is None:
            self._folded = {known.casefold(): known for known in self.by_code}
        return self._folded.get(code.casefold())

    def children(self, code: str) -> tuple[str, ...]:
        return tuple(self._children.get(code, ()))

    def parents(self, code: str) -> tuple[str, ...]:
        return tuple(self._parents.get(code, ()))

    def ordered(self, codes: Set[str]) -> list[str]:
        return [code for code in self.by_code if code in codes]

    def bearing(self, name: str, value: str | None = None) -> set[str]:
        return {code for code in self.by_code if self.has(code, name, value)}

    def defines(self, name: str) -> bool:
        if self._defined is None:
            borne = {
                found.get("code")
                for concept in self.by_code.values()
                for found in concept.get("property", ())
            }
            self._defined = borne | stated(self.resource)
        return name in self._defined

    def sought(self, beginnings: Sequence[str]) -> Iterable[str]:
        sought = [f" {one}" for one in beginnings]
        return (c for c in self.by_code if all(one in self.words(c) for one in sought))

    def words(self, code: str) -> str:
        found = self._words.get(code)
        if found is None:
            found = self._words[code] = super().words(code)
        return found

    def some_inactive(self) -> bool:
        return any(self.inactive(code) for code in self.by_code)


def words_of(concept: Json) -> str:
    """Code, display and designations, folded."""
    texts = [concept["code"], concept.get("display", "")]
    texts += [one.get("value", "") for one in concept.get("designation", ())]
    return folded(" ".join(texts))


def texts_of(concept: Json, name: str) -> list[str]:
    """The values of a property of one concept, as a filter writes them."""
    if name in ("concept", "code"):
        return [concept["code"]]
    if name in ("display", "definition"):
        return [str(concept[name])] if name in concept else []
    return [
        written(value_of(found)[1])
        for found in concept.get("property", ())
        if found.get("code") == name
    ]


def links(concept: Json, parent: str | None) -> Iterator[tuple[str, str]]:
    """(above, below): what a concept says of its place. ``parent``: in whose ``concept`` it is."""
    code = concept["code"]
    if parent is not None:
        yield parent, code
    for found in concept.get("property", ()):
        other = found.get("valueCode")
        if other is None:
            continue
        if found.get("code") in UP:
            yield other, code
        elif found.get("code") == "child":
            yield code, other


def stated(code_system: Json) -> set[str | None]:
    """The properties that a code system says it has."""
    return {row.get("code") for row in code_system.get("property", ())} | ALWAYS


def is_inactive(properties: Iterable[tuple[str, Any]]) -> bool:
    """By (what FHIR calls a property, its value)."""
    return any(
        value is True if meaning == "inactive" else meaning == "status" and value in ENDED
        for meaning, value in properties
    )


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


def written(value: Any) -> str:
    shown = value.get("code") if isinstance(value, Mapping) else value
    return str(shown).lower() if isinstance(shown, bool) else str(shown)


def meanings(code_system: Json) -> dict[str, str]:
    """The system's own name of a property -> FHIR's."""
    return {
        row["code"]: row["uri"].removeprefix(DEFINED)
        for row in code_system.get("property", ())
        if str(row.get("uri", "")).startswith(DEFINED) and "code" in row
    }


def reached(links: Callable[[str], Iterable[str]], start: str) -> set[str]:
    """Along the links from ``start``; circles end."""
    found, fresh = {start}, [start]
    while fresh:
        for code in links(fresh.pop()):
            if code not in found:
                found.add(code)
                fresh.append(code)
    return found


def walk(concepts: Iterable[Any]) -> Iterator[tuple[Json, str | None]]:
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
        self._kept: dict[int, Listed] = {}

    def of(self, code_system: Json) -> Listed:
        """The concepts of a resource that is not changed any more."""
        found = self._kept.pop(id(code_system), None)
        if found is None or found.resource is not code_system:
            found = Listed(code_system)
        self._kept[id(code_system)] = found
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]
        return found
