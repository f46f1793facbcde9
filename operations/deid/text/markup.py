"""XHTML narratives and HTML documents: their words cleaned as one text, their form kept.

A name may be divided by tags (``<b>Шев</b>ченко``), so the pieces are joined, searched, and what
replaces a find is put where it began. Attributes other than those of layout go, and so do
comments, scripts and images: each may carry words or addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from lxml import etree, html

from fhir_server.model.problem import Unprocessable
from operations.deid.text.spans import Span
from operations.deid.text.wordlists import words

XHTML: Final = "http://www.w3.org/1999/xhtml"
_LAYOUT: Final = frozenset(words("markup_layout"))
_DROPPED: Final = frozenset(words("markup_dropped"))
_INLINE: Final = frozenset(words("markup_inline"))

Search: TypeAlias = Callable[[str], list[Span]]
Replace: TypeAlias = Callable[[str, Span], str]


class Markup:
    """A parsed document. ``text``: all its words, blocks divided by line breaks."""

    def __init__(self, root: Any) -> None:
        self.root = root
        _strip(root)
        self._pieces: list[tuple[Any, str, int]] = []
        self._parts: list[str] = []
        self._length = 0
        self._gather(root)
        self.text = "".join(self._parts)

    def clean(self, spans: Iterable[Span], replace: Replace) -> None:
        """Replace every span; what of it lies in later pieces goes."""
        edits = [(span.start, span.end, replace(self.text, span)) for span in spans]
        for element, attribute, start in self._pieces:
            value = getattr(element, attribute)
            end = start + len(value)
            out, at = "", start
            for first, last, instead in edits:
                if last <= start or first >= end:
                    continue
                if first >= start:
                    out += self.text[at:first] + instead
                at = min(last, end)
            setattr(element, attribute, out + self.text[at:end])

    def _gather(self, element: Any) -> None:
        block = _local(element) not in _INLINE
        if block:
            self._break()
        self._piece(element, "text")
        for child in element:
            self._gather(child)
            self._piece(child, "tail")
        if block:
            self._break()

    def _break(self) -> None:
        self._parts.append("\n")
        self._length += 1

    def _piece(self, element: Any, attribute: str) -> None:
        value = getattr(element, attribute)
        if value:
            self._pieces.append((element, attribute, self._length))
            self._parts.append(value)
            self._length += len(value)


def narrative(div: str) -> Markup:
    """Raises Unprocessable if it is not well-formed."""
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        return Markup(etree.fromstring(_named_entities(div), parser))
    except etree.XMLSyntaxError:
        raise Unprocessable("a narrative is not well-formed", code="structure") from None


def document(source: str) -> Markup:
    """An HTML document as browsers read it. Raises Unprocessable if there is nothing to read."""
    parser = html.HTMLParser(remove_comments=True, remove_pis=True, no_network=True)
    try:
        return Markup(html.document_fromstring(source, parser=parser))
    except (etree.ParserError, etree.XMLSyntaxError, ValueError):
        raise Unprocessable("an HTML attachment cannot be read", code="structure") from None


def written(markup: Markup, as_html: bool = False) -> str:
    """The document as text."""
    text: str = etree.tostring(
        markup.root, encoding="unicode", method="html" if as_html else "xml", with_tail=False
    )
    return text


def _named_entities(div: str) -> str:
    """XHTML's named entities as characters: XML knows five of them."""
    if "&" not in div:
        return div
    from html.entities import html5

    parts = div.split("&")
    out = parts[0]
    for part in parts[1:]:
        name, semicolon, rest = part.partition(";")
        known = html5.get(name + ";") if semicolon and name not in _XML_ENTITIES else None
        out += f"&{part}" if known is None else known + rest
    return out


_XML_ENTITIES: Final = frozenset(("amp", "lt", "gt", "quot", "apos"))


def _local(element: Any) -> str:
    tag = element.tag
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""


def _strip(root: Any) -> None:
    for element in list(root.iter()):
        if _local(element) in _DROPPED or not isinstance(element.tag, str):
            parent = element.getparent()
            if parent is not None:
                _remove(parent, element)
            continue
        for name in list(element.attrib):
            if name.rpartition("}")[2].lower() not in _LAYOUT:
                del element.attrib[name]


def _remove(parent: Any, element: Any) -> None:
    tail = element.tail
    previous = element.getprevious()
    parent.remove(element)
    if tail and previous is not None:
        previous.tail = (previous.tail or "") + tail
    elif tail:
        parent.text = (parent.text or "") + tail
