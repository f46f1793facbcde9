"""The words of a resource, for ``_text`` and ``_content``: https://hl7.org/fhir/R4/search.html#text

``_text`` reads the narrative. ``_content`` reads all that is written in words: the narrative and
every element of type string, markdown or code, also in extensions and contained resources. What
a Reference says is left out: its target may be hidden from who searches, and then it must not be
told by a display or an identifier. Words are folded like strings: case and accents do not matter.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from fhir_server.definitions.registry import load
from fhir_server.model.exchange import Json
from fhir_server.search.values import plain

REVISION: Final = 1
"""Of what the words of a resource are: an index that was made by another one is made anew."""

TEXT: Final = "_text"
CONTENT: Final = "_content"

_BREAK: Final = "\n"
"""Between elements; no phrase reaches over it."""
_BETWEEN: Final = f" {_BREAK} "
_WRITTEN: Final = frozenset({"string", "markdown", "code"})
_PASSED_OVER: Final = frozenset({"Reference", "id"})
_NARRATIVE: Final = "xhtml"
_RESOURCE: Final = "Resource"

# Scripts that are written without spaces: each sign is a word, and words of several are phrases.
_SIGNS: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_SIGNS}\n]|[^\\W_{_SIGNS}]+")
_INVISIBLE = re.compile("(?<=\\w)['\u2019\u02bc\u2018\u0060](?=\\w)|[\u00ad\u200b-\u200d]")
_ENDS_NOTHING: Final = (
    "a|abbr|acronym|b|bdo|big|cite|code|dfn|em|font|i|kbd|q|s|samp|small|span|strike|strong|"
    "sub|sup|tt|u|var"
)
"""Elements of XHTML that may lie within a word."""
_INLINE = re.compile(f"</?(?:{_ENDS_NOTHING})(?:\\s[^>]*)?/?>|<!--.*?-->", re.DOTALL)
_TAG = re.compile("<[^>]*>")


# Most text is ASCII, where letters and digits are words and all else is between them.
_SPACED: Final = "".join(chr(c) if chr(c).isalnum() else " " for c in range(128))


class Words(NamedTuple):
    """Folded words, each between spaces; a line feed stands between elements.

    ``narrative`` and ``rest`` are together all that is written.
    """

    narrative: str
    rest: str

    def have(self, param: str, words: tuple[str, ...], *, prefix: bool) -> bool:
        """Whether these words follow each other; of the last only the beginning (``prefix``)."""
        wanted = f" {' '.join(words)}{'' if prefix else ' '}"
        return wanted in self.narrative or (param == CONTENT and wanted in self.rest)


def split_words(text: str) -> list[str]:
    """The folded words of a text. An apostrophe is no part of its word: ``п'ять`` is ``пять``."""
    return [word for word in _found(text) if word != _BREAK]


def _found(text: str) -> list[str]:
    """Words and breaks."""
    if text.isascii() and not ("'" in text or "`" in text or _BREAK in text):
        return text.lower().translate(_SPACED).split()
    return _WORD.findall(plain(_INVISIBLE.sub("", text)))


def has_words(text: str, words: tuple[str, ...], *, prefix: bool) -> bool:
    """``Words.have`` for one text."""
    return Words(_joined(text), "").have(TEXT, words, prefix=prefix)


def words_of(body: bytes) -> Words:
    """The words of a stored resource."""
    return resource_words(msgspec.json.decode(body)) if body else Words("", "")


remembered: Final = lru_cache(4096)(words_of)


@lru_cache(256)
def _contained(body: bytes) -> tuple[bytes, ...]:
    return tuple(map(msgspec.json.encode, msgspec.json.decode(body).get("contained", ())))


def contained_body(body: bytes, number: int) -> bytes:
    """One of the contained resources of a stored one, by its place; empty if there is none."""
    bodies = _contained(body)
    return bodies[number] if number < len(bodies) else b""


def resource_words(resource: Json) -> Words:
    written = _Written()
    written.resource(resource)
    narratives = (_shown(narrative) for narrative in written.narratives)
    return Words(_joined(*narratives), _joined(*written.texts))


def _joined(*texts: str) -> str:
    """Each text between breaks. Nothing is folded across a break, so each is read alone."""
    if not texts:
        return ""
    # What is said twice is no more words: a display and the text of its concept are often alike.
    parts = dict.fromkeys(
        [_spelled(text) if len(text) <= _SHORT else _written(text) for text in texts]
    )
    return f" {_BETWEEN.join(parts)} ".replace("  ", " ")


def _written(text: str) -> str:
    return " ".join(_found(text))


_SHORT: Final = 80
_spelled: Final = lru_cache(16_384)(_written)
"""Codes, units and displays come again and again."""


def _shown(narrative: str) -> str:
    """The text of an XHTML fragment, in one piece."""
    return html.unescape(_TAG.sub(" ", _INLINE.sub("", narrative))).replace(_BREAK, " ")


_Table: TypeAlias = Mapping[str, str]
"""JSON member -> ``string``, ``xhtml``, ``Resource``, or the type or element to go on from."""


@cache
def _table(at: str) -> _Table:
    """The members of a type or element that lead to words; none for what is not known."""
    definitions, table = load(), {}
    try:
        members = definitions.members(at)
    except KeyError:
        return {}
    for name, (element, type_) in members.items():
        code = type_.code
        if code in _PASSED_OVER or element.name == "id":
            continue
        if code in _WRITTEN:
            table[name] = "string"
        elif code in (_NARRATIVE, _RESOURCE):
            table[name] = code
        elif code in ("BackboneElement", "Element"):
            table[name] = element.path
        elif definitions.type(code).kind != "primitive-type":
            table[name] = code
    return table


class _Written:
    """What is written in a resource, in the order of its elements."""

    def __init__(self) -> None:
        self.narratives: list[str] = []
        self.texts: list[str] = []

    def resource(self, resource: Any) -> None:
        if isinstance(resource, dict):
            self._below(resource, str(resource.get("resourceType", "")))

    def _below(self, value: Mapping[str, Any], at: str) -> None:
        look_up, texts = _table(at).get, self.texts
        for name, child in value.items():
            to = look_up(name)
            if to is None:
                continue
            kind = type(child)
            if kind is str and to != _NARRATIVE:
                texts.append(child.replace(_BREAK, " ") if _BREAK in child else child)
            elif kind is dict and to != _RESOURCE:
                self._below(child, to)
            elif kind is list:
                for item in child:
                    self._one(item, to)
            else:
                self._one(child, to)

    def _one(self, value: Any, to: str) -> None:
        if type(value) is str:
            texts = self.narratives if to == _NARRATIVE else self.texts
            texts.append(value.replace(_BREAK, " ") if _BREAK in value else value)
        elif to == _RESOURCE:
            self.resource(value)
        elif type(value) is dict:
            self._below(value, to)
