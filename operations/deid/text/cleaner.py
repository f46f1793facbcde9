"""Cleaning the free text of one answer: find, unite, replace, and look once more."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unprocessable
from operations.deid.elements import Elements
from operations.deid.text.contract import Cleaning, Settings
from operations.deid.text.known import Known, harvest
from operations.deid.text.markup import Markup, document, narrative, written
from operations.deid.text.residual import require_clean
from operations.deid.text.rules import found
from operations.deid.text.spans import Span, joined, union
from operations.deid.text.surrogates import Surrogates
from operations.deid.text.tagging.lexicon import Lexicon
from operations.deid.text.vocabulary import speaks_of_medicine
from operations.deid.text.walk import nodes

TEXTS: Final = frozenset(("string", "markdown"))
PLAIN: Final = frozenset(("text/plain", "text/markdown", "text/x-markdown", "text/csv"))
HTML: Final = frozenset(("text/html",))
XHTML: Final = frozenset(("application/xhtml+xml",))
_RESIDENT: Final[tuple[str, ...]] = ("contentType", "language")
"""What an attachment keeps of itself."""


class Tagging(Protocol):
    """Names and places by a model (``tagging.tagger.Tagger``)."""

    async def tag(self, texts: Sequence[str]) -> list[list[Span]]: ...


class Cleaner:
    """Made once per server. Raises what the tagger raises: without a model nothing is cleaned."""

    def __init__(self, tagger: Tagging, lexicon: Lexicon, elements: Elements) -> None:
        self._tagger, self._lexicon, self._elements = tagger, lexicon, elements

    async def prepare(self, resources: Sequence[Json], settings: Settings) -> Cleaning:
        """See ``contract.TextCleaner``."""
        known = Known(harvest(resources, self._elements), self.is_common)
        texts = list(dict.fromkeys(self._texts(resources)))
        tagged = await self._tagger.tag(texts)
        surrogates = Surrogates(settings, known, self._lexicon)
        return Prepared(self._elements, known, surrogates, dict(zip(texts, tagged, strict=True)))

    async def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """What would be replaced in texts without a record: for evaluation and review."""
        tagged = await self._tagger.tag(texts)
        return [spans(text, tags, None) for text, tags in zip(texts, tagged, strict=True)]

    def is_common(self, form: str) -> bool:
        """Is a word in lower case an everyday word?"""
        return bool(self._lexicon.known(form) & 8)

    def _texts(self, resources: Sequence[Json]) -> Iterable[str]:
        for resource in resources:
            for node in nodes(resource, self._elements):
                if node.type in TEXTS and isinstance(node.value, str):
                    yield node.value
                elif node.type == "xhtml" and isinstance(node.value, str):
                    yield narrative(node.value).text
                elif node.type == "Attachment" and isinstance(node.value, dict):
                    yield from _readable(node.value)


class Prepared:
    """The cleaning of one answer; see ``contract.Cleaning``."""

    def __init__(
        self,
        elements: Elements,
        known: Known,
        surrogates: Surrogates,
        tagged: dict[str, list[Span]],
    ) -> None:
        self._elements, self._known, self._tagged = elements, known, tagged
        self._surrogates = surrogates

    def plain(self, text: str, subject: str = "") -> str:
        out, at = "", 0
        for span in self._search(text):
            out += text[at : span.start] + self._surrogates.instead(text, span, subject)
            at = span.end
        return out + text[at:]

    def xhtml(self, div: str, subject: str = "") -> str:
        return written(self._cleaned(narrative(div), subject))

    def attachment(self, attachment: Json, subject: str = "") -> Json:
        kept: Json = {name: attachment[name] for name in _RESIDENT if name in attachment}
        title = attachment.get("title")
        if isinstance(title, str):
            kept["title"] = self.plain(title, subject)
        text = content(attachment)
        if text is None:
            return kept
        match form(attachment):
            case "plain":
                text = self.plain(text, subject)
            case "html":
                text = written(self._cleaned(document(text), subject), as_html=True)
            case _:
                text = written(self._cleaned(narrative(text), subject))
        data = text.encode()
        kept["contentType"] = f"{media(attachment)}; charset=utf-8"
        return {**kept, "data": base64.b64encode(data).decode(), "size": len(data)}

    def check(self, resource: Json) -> None:
        require_clean(resource, self._known, self._elements)

    def _search(self, text: str) -> list[Span]:
        tags = self._tagged.get(text)
        if tags is None:
            raise Unprocessable("a text was not prepared for cleaning", code="processing")
        return spans(text, tags, self._known)

    def _cleaned(self, markup: Markup, subject: str) -> Markup:
        markup.clean(
            self._search(markup.text),
            lambda text, span: self._surrogates.instead(text, span, subject),
        )
        return markup


def spans(text: str, tags: Iterable[Span], known: Known | None) -> list[Span]:
    """Everything that identifies, disjoint and in order."""
    everything = [span for span in (*found(text), *tags) if not speaks_of_medicine(text, span)]
    if known is not None:
        everything += known.find(text)
        everything += known.births(text)
    return joined(text, union(everything))


def media(attachment: Json) -> str:
    """The media type without parameters."""
    type_ = attachment.get("contentType")
    return type_.partition(";")[0].strip().lower() if isinstance(type_, str) else ""


def form(attachment: Json) -> str | None:
    """``plain``, ``html``, ``xhtml`` or None: nothing here reads it."""
    type_ = media(attachment)
    for name, types in (("plain", PLAIN), ("html", HTML), ("xhtml", XHTML)):
        if type_ in types:
            return name
    return None


def content(attachment: Json) -> str | None:
    """The text of an attachment of a text type. Raises Unprocessable if it cannot be decoded."""
    data: Any = attachment.get("data")
    if not isinstance(data, str) or form(attachment) is None:
        return None
    _, _, parameters = str(attachment.get("contentType", "")).partition("charset=")
    charset = parameters.partition(";")[0].strip(" \"'") or "utf-8"
    try:
        return base64.b64decode("".join(data.split()), validate=True).decode(charset)
    except (binascii.Error, LookupError, UnicodeDecodeError):
        raise Unprocessable("the text of an attachment cannot be decoded", code="value") from None


def _readable(attachment: Json) -> Iterable[str]:
    text = content(attachment)
    if text is not None:
        kind = form(attachment)
        if kind == "plain":
            yield text
        else:
            yield (document(text) if kind == "html" else narrative(text)).text
