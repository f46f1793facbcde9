"""The words of a resource, for ``_text`` and ``_content``: https://hl7.org/fhir/R4/search.html#text

``_text`` reads the narrative. ``_content`` reads all that is written in words: the narrative and
every element of type string, markdown or code, also in extensions and contained resources. What
a Reference says is left out: its target may be hidden from who searches, and then it must not be
told by a display or an identifier. Words are folded like strings: case and accents do not matter.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Final, NamedTuple, TypeAlias

import msgspec

from fhir_server.definitions.registry import load
from fhir_server.formats.json import dumps
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
    if not body:
        return Words("", "")
    narratives: list[str] = []
    parts: list[str] = []
    _read(_RESOURCE, body, narratives, parts)
    return Words(_joined(*map(_shown, narratives)), _between(parts))


remembered: Final = lru_cache(4096)(words_of)


@lru_cache(256)
def _contained(body: bytes) -> tuple[bytes, ...]:
    return tuple(map(msgspec.json.encode, msgspec.json.decode(body).get("contained", ())))


def contained_body(body: bytes, number: int) -> bytes:
    """One of the contained resources of a stored one, by its place; empty if there is none."""
    bodies = _contained(body)
    return bodies[number] if number < len(bodies) else b""


def resource_words(resource: Json) -> Words:
    return words_of(dumps(resource))


def _joined(*texts: str) -> str:
    """Each text between breaks. Nothing is folded across a break, so each is read alone."""
    return _between([_written(text) for text in texts])


def _between(parts: Iterable[str]) -> str:
    """What is said twice is no more words: a display and its concept's text are often alike."""
    apart = dict.fromkeys(parts)
    return f" {_BETWEEN.join(apart)} ".replace("  ", " ") if apart else ""


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


_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_STRING: Final = msgspec.json.Decoder(str)
_QUOTE, _BRACE, _BRACKET = b'"{['
_SINGULAR: Final = frozenset({"Identifier", "HumanName"})
"""Types whose members seldom come again."""
_OFTEN: Final = 400
"""Bytes of a value that is worth remembering."""


def _read(to: str, said: bytes, narratives: list[str], parts: list[str]) -> None:
    """What is written in a JSON value, in the order of its elements: narratives as they are,
    other texts spelled. ``to``: as of ``_Table``.

    Most of a resource is not even parsed: it leads to no words, or is what others said before.
    """
    first = said[0]
    if first == _QUOTE:
        text = _STRING.decode(said).replace(_BREAK, " ")
        if to == _NARRATIVE:
            narratives.append(text)
        else:
            parts.append(_spelled(text) if len(text) <= _SHORT else _written(text))
    elif first == _BRACKET:
        often = 0 if to in _SINGULAR else _OFTEN
        for item in _ITEMS.decode(said):
            inner = bytes(item)
            if len(inner) > often:
                _read(to, inner, narratives, parts)
            else:
                shown, spelled = repeated(to, inner)
                narratives += shown
                parts += spelled
    elif first == _BRACE:
        members = _MEMBERS.decode(said)
        at = _STRING.decode(members.get("resourceType", b'""')) if to == _RESOURCE else to
        look_up = _table(at).get
        often = 0 if at in _SINGULAR else _OFTEN
        for name, raw in members.items():
            below = look_up(name)
            if below is None:
                continue
            inner = bytes(raw)
            if len(inner) > often or below in _SINGULAR:
                _read(below, inner, narratives, parts)
            else:
                shown, spelled = repeated(below, inner)
                narratives += shown
                parts += spelled


@lru_cache(8192)
def repeated(to: str, said: bytes) -> tuple[list[str], list[str]]:
    """Concepts and units come again and again."""
    narratives: list[str] = []
    parts: list[str] = []
    _read(to, said, narratives, parts)
    return narratives, parts
