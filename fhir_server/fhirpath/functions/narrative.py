"""``htmlChecks()``: the rules of https://hl7.org/fhir/R4/narrative.html#xhtml."""

from __future__ import annotations

from xml.parsers import expat

from fhir_server.fhirpath.context import Run
from fhir_server.fhirpath.functions.registry import Kind, function, value_of
from fhir_server.fhirpath.node import Collection

_XHTML = "http://www.w3.org/1999/xhtml"
MAX_DEPTH = 200

# chapters 7 to 11 (without section 4 of chapter 9) and 15 of HTML 4.0, a and img
ELEMENTS = frozenset(
    (
        "a", "abbr", "acronym", "address", "b", "big", "blockquote", "br", "caption", "cite",
        "code", "col", "colgroup", "dd", "dfn", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4",
        "h5", "h6", "hr", "i", "img", "li", "ol", "p", "pre", "q", "samp", "small", "span",
        "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "ul",
        "var", "kbd", "bdo",
    )
)  # fmt: skip
ATTRIBUTES = frozenset(
    (
        "abbr", "accesskey", "align", "alt", "axis", "background", "bgcolor", "border",
        "cellhalign", "cellpadding", "cellspacing", "cellvalign", "char", "charoff", "charset",
        "cite", "class", "colspan", "compact", "coords", "dir", "frame", "headers", "height",
        "href", "hreflang", "hspace", "id", "lang", "longdesc", "name", "noshade", "nowrap", "rel",
        "rev", "rowspan", "rules", "scope", "shape", "span", "src", "start", "style", "summary",
        "tabindex", "title", "type", "valign", "value", "vspace", "width",
    )
)  # fmt: skip
_SCHEMES = ("javascript:", "vbscript:")


class _Forbidden(Exception):
    """Something that a narrative must not have."""


def html_checks(run: Run, items: Collection) -> Collection:
    text = value_of("htmlChecks", Kind.TEXT, items)
    if text is None:
        return []
    run.spend(1 + len(text) // 100)
    return [is_narrative(text)]


def is_narrative(xhtml: str) -> bool:
    """Whether the text is one XHTML ``div`` with permitted content, and not empty."""
    content = _Content()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = content.start
    parser.EndElementHandler = content.end
    parser.CharacterDataHandler = content.text
    parser.StartDoctypeDeclHandler = content.refuse
    parser.ProcessingInstructionHandler = content.refuse
    try:
        parser.Parse(xhtml.encode("utf-8", "replace"), True)
    except (expat.ExpatError, _Forbidden):
        return False
    return content.filled


class _Content:
    def __init__(self) -> None:
        self.depth = 0
        self.filled = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition(" ")
        self.depth += 1
        if namespace != _XHTML or local not in ELEMENTS or self.depth > MAX_DEPTH:
            raise _Forbidden(name)
        if self.depth == 1 and local != "div":
            raise _Forbidden(name)
        for attribute, value in attributes.items():
            _check(attribute, value)
        self.filled = self.filled or local == "img"

    def end(self, name: str) -> None:
        self.depth -= 1

    def text(self, data: str) -> None:
        self.filled = self.filled or bool(data.strip())

    def refuse(self, *_: object) -> None:
        raise _Forbidden("declaration")


def _check(attribute: str, value: str) -> None:
    namespace, _, local = attribute.rpartition(" ")
    permitted = local == "lang" if namespace else local in ATTRIBUTES
    dangerous = "".join(value.split()).lower().startswith(_SCHEMES)
    if not permitted or dangerous:
        raise _Forbidden(attribute)


def _example(text: str) -> tuple[str, bool]:
    return f"'<div xmlns=\"{_XHTML}\">{text}</div>'.htmlChecks()", bool(text)


FUNCTIONS = (
    function(
        "htmlChecks",
        html_checks,
        doc="Is it a narrative that FHIR permits?",
        example=_example("Hello"),
    ),
)
