"""Narrative that is not self-contained in its document, written anew.

``text.div`` in JSON is an XML element of its own (https://hl7.org/fhir/R4/json.html#xhtml). In an
XML document its namespace may be declared further up, or bound to a prefix: such a ``div`` cannot
be copied byte for byte.
"""

from __future__ import annotations

from typing import Final

from ..model.problem import BadRequest

XHTML: Final = "http://www.w3.org/1999/xhtml"
_XML: Final = "http://www.w3.org/XML/1998/namespace"
_TEXT: Final = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord("\r"): "&#xD;"}
_ATTRIBUTE: Final = _TEXT | {ord('"'): "&quot;", ord("\n"): "&#xA;", ord("\t"): "&#x9;"}


class Rebuilt:
    """One ``div`` from events whose names are ``namespace name``."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._open = False

    @property
    def markup(self) -> str:
        return "".join(self._out)

    def start(self, qualified: str, attributes: dict[str, str]) -> None:
        self._content()
        namespace = "" if self._out else f' xmlns="{XHTML}"'
        written = [
            f' {_name(key, _XML, "xml:")}="{value.translate(_ATTRIBUTE)}"'
            for key, value in attributes.items()
        ]
        self._out.append(f"<{_name(qualified, XHTML, '')}{namespace}{''.join(written)}")
        self._open = True

    def text(self, text: str) -> None:
        self._content()
        self._out.append(text.translate(_TEXT))

    def end(self, qualified: str) -> None:
        self._out.append("/>" if self._open else f"</{_name(qualified, XHTML, '')}>")
        self._open = False

    def _content(self) -> None:
        """What is open has content."""
        if self._open:
            self._out.append(">")
            self._open = False


def _name(qualified: str, namespace: str, prefix: str) -> str:
    """The name in the default namespace, or that of ``namespace`` with its prefix."""
    found, _, name = qualified.rpartition(" ")
    if found == namespace:
        return prefix + name
    if found or not prefix:
        raise BadRequest(f"{name[:64]} in narrative is not in XHTML's namespace", code="structure")
    return name
