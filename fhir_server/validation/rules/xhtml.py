"""xhtml: the narrative rules txt-1 and txt-2, https://hl7.org/fhir/R4/narrative.html

Parsed by expat without a DTD: a document type, hence any entity of its own, is refused, and
HTML's named entities (``&nbsp;``) are undefined, as the specification wants it.
"""

from __future__ import annotations

import re
from xml.parsers import expat

from .fault import Fault, shown, wrong_type
from .text import controls

NAMESPACE = "http://www.w3.org/1999/xhtml"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ELEMENTS = _names(
    "a abbr acronym b big blockquote br caption cite code col colgroup dd dfn div dl dt em "
    "h1 h2 h3 h4 h5 h6 hr i img li ol p pre q samp small span strong sub sup table tbody td "
    "tfoot th thead tr tt ul var"
)
ATTRIBUTES = _names(
    "abbr accesskey align alt axis bgcolor border cellhalign cellpadding cellspacing cellvalign "
    "char charoff charset cite class colspan compact coords dir frame headers height href "
    "hreflang hspace id lang longdesc name nowrap rel rev rowspan rules scope shape span src "
    "start style summary tabindex title type valign value vspace width xml:lang xml:space"
)
"""Both lists are those of the invariant txt-1 (xpath of Narrative.div), and xml:lang, xml:space."""

LINKS = frozenset({"href", "src", "cite", "longdesc"})
LINK_SCHEMES = frozenset({"", "http", "https", "mailto", "tel", "ftp", "urn"})
IMAGE_SCHEMES = frozenset({"", "data", "http", "https"})
"""R4 does not forbid images from elsewhere, and published guides have them: who renders a
narrative must not fetch them."""

MAX_NESTING = 200

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_INVISIBLE = re.compile(r"[\x00-\x20]")
_DATA_IMAGE = re.compile(r"data:image/(?!svg)[a-z0-9.+\-]+[;,]", re.IGNORECASE)
_ACTIVE_STYLE = re.compile(
    r"expression\s*\(|javascript:|behaviou?r\s*:|-moz-binding|@import|\\"
    r"|url\(\s*['\"]?\s*(?!data:image/|[#'\")])[a-z+.\-]*(:|//)",
    re.IGNORECASE,
)


class _Refused(Exception):
    """Stops the parser at the first thing that a narrative must not have."""


class _Reader:
    """The events of one narrative."""

    __slots__ = ("content", "depth")

    def __init__(self) -> None:
        self.depth = 0
        self.content = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self.depth == 0:
            if name != "div" or attributes.get("xmlns") != NAMESPACE:
                raise _Refused(f"must be one <div xmlns='{NAMESPACE}'>")
        elif name not in ELEMENTS:
            raise _Refused(f"must not have the element <{name[:40]}>")
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise _Refused(f"is nested deeper than {MAX_NESTING}")
        for key, value in attributes.items():
            if key in ATTRIBUTES:
                if key in LINKS or key == "style":
                    _link(name, key, value)
            elif key != "xmlns" or value != NAMESPACE:
                raise _Refused(f"must not have the attribute {key[:40]}")
        if name == "img" and "src" in attributes:
            self.content = True

    def end(self, _name: str) -> None:
        self.depth -= 1

    def text(self, data: str) -> None:
        if not self.content and not data.isspace():
            self.content = True

    def doctype(self, *_: object) -> None:
        raise _Refused("must not have a document type")

    def instruction(self, *_: object) -> None:
        raise _Refused("must not have a processing instruction")


def _link(element: str, key: str, value: str) -> None:
    """Links, images and styles must not act, and styles must not fetch from elsewhere."""
    if key == "style":
        if _ACTIVE_STYLE.search(value):
            raise _Refused("must not have active or external content in a style")
        return
    target = _INVISIBLE.sub("", value)
    found = _SCHEME.match(target)
    scheme = found[1].lower() if found else ""
    if key == "src":
        if scheme not in IMAGE_SCHEMES:
            raise _Refused(f"must not have the image {shown(value)}")
        if scheme == "data" and _DATA_IMAGE.match(target) is None:
            raise _Refused("must not have data other than an image in src")
    elif scheme not in LINK_SCHEMES:
        raise _Refused(f"must not have the link {shown(value)} on <{element}>")


def xhtml(value: object) -> Fault | None:
    if type(value) is not str:
        return wrong_type(value, "string")
    if not value:
        return Fault("value", "must not be empty")
    if len(value) > 1024 * 1024:
        return Fault("too-long", "is longer than 1048576 characters")
    fault = controls(value)
    if fault is not None:
        return fault
    reader = _Reader()
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.ProcessingInstructionHandler = reader.instruction
    try:
        parser.Parse(value.encode("utf-8", "strict"), True)
    except _Refused as refused:
        return Fault("invariant", f"{refused} (txt-1)")
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        return Fault("value", f"is no well-formed XHTML: {reason}, column {error.offset}")
    except UnicodeEncodeError:
        return Fault("value", "must not have lone surrogates")
    if not reader.content:
        return Fault("invariant", "must have some text or an image (txt-2)")
    return None
