"""FHIR XML: https://hl7.org/fhir/R4/xml.html, both ways, driven by the definitions.

Read by expat with every DOCTYPE refused, so there are no entities to expand. Narrative is
carried byte for byte: the JSON string of ``text.div`` is the XML text of the element, if that
stands by itself. Content that the definitions do not know is kept under its name (that of an
attribute after ``@``), for validation to name it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from xml.parsers import expat

from ..definitions.elements import Element, TypeRef
from ..definitions.registry import Definitions
from ..model.exchange import Json
from ..model.problem import BadRequest, TooLarge, Unprocessable
from .json import DEFAULT_LIMITS, Limits, check_sizes, number, number_text
from .xml_narrative import XHTML, Rebuilt

FHIR: Final = "http://hl7.org/fhir"
ENCODINGS: Final = frozenset({"utf-8", "utf8", "us-ascii"})
"""That a document may declare: "the character encoding is always UTF-8"
(https://hl7.org/fhir/R4/http.html#mime-type)."""

ATTRIBUTES: Final = 32
"""At most so many on one element: FHIR's have up to three, beside those that XML itself has."""
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NUMERIC: Final = frozenset({"decimal", "integer", "positiveInt", "unsignedInt"})
_INLINE: Final = frozenset({"BackboneElement", "Element"})
_ESCAPES: Final = {
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord('"'): "&quot;",
    ord("\n"): "&#xA;",
    ord("\r"): "&#xD;",
    ord("\t"): "&#x9;",
}


def dumps(resource: Json, definitions: Definitions) -> bytes:
    """A valid resource as an XML document, elements in the order of the definitions."""
    writer = _Writer(definitions)
    writer.resource(resource)
    return f'<?xml version="1.0" encoding="UTF-8"?>{"".join(writer.out)}'.encode()


class _Writer:
    """Appends markup to ``out``."""

    def __init__(self, definitions: Definitions) -> None:
        self.out: list[str] = []
        self._definitions = definitions

    def resource(self, value: Json) -> None:
        name = value["resourceType"]
        namespace = "" if self.out else f' xmlns="{FHIR}"'
        self.out.append(f"<{name}{namespace}>")
        self._children(value, name)
        self.out.append(f"</{name}>")

    def _children(self, value: Json, path: str) -> None:
        for name, (element, type_) in self._definitions.members(path).items():
            if element.representation == "xmlAttr":
                continue
            items, siblings = _aslist(value.get(name)), _aslist(value.get(f"_{name}"))
            for index in range(max(len(items), len(siblings))):
                item = items[index] if index < len(items) else None
                sibling = siblings[index] if index < len(siblings) else None
                self._element(name, item, sibling, (element, type_))

    def _element(self, name: str, item: Any, sibling: Any, kind: tuple[Element, TypeRef]) -> None:
        element, type_ = kind
        if element.representation == "xhtml":
            self.out.append(item)
        elif type_.code == "Resource":
            self.out.append(f"<{name}>")
            self.resource(item)
            self.out.append(f"</{name}>")
        elif self._definitions.type(type_.code).kind == "primitive-type":
            self._open(name, sibling or {}, type_.code, item)
        else:
            path = element.path if type_.code in _INLINE else type_.code
            self._open(name, item, path, None)

    def _open(self, name: str, content: Json, path: str, value: Any) -> None:
        """An element with its attributes (id, url, value) and its children, if any."""
        attributes = [
            f' {key}="{str(content[key]).translate(_ESCAPES)}"'
            for key, (element, _) in self._definitions.members(path).items()
            if element.representation == "xmlAttr" and key in content
        ]
        if value is not None:
            attributes.append(f' value="{_lexeme(value).translate(_ESCAPES)}"')
        start = len(self.out)
        self.out.append(f"<{name}{''.join(attributes)}>")
        self._children(content, path)
        if len(self.out) == start + 1:
            self.out[start] = f"<{name}{''.join(attributes)}/>"
        else:
            self.out.append(f"</{name}>")


def _aslist(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _lexeme(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else number_text(value)


def loads(body: bytes, definitions: Definitions, limits: Limits = DEFAULT_LIMITS) -> Json:
    """The resource in an XML document; BadRequest (400) or TooLarge (413) with a fixed text."""
    if len(body) > limits.body:
        raise TooLarge("the body is larger than this server takes")
    try:
        body.decode()
        resource = _Reader(definitions, limits, body).read()
    except UnicodeDecodeError:
        raise BadRequest("the document is not in UTF-8", code="structure") from None
    except expat.ExpatError as error:
        raise BadRequest(f"not well-formed XML (line {error.lineno})", code="structure") from None
    check_sizes(resource, limits)
    return resource


class _Frame:
    """An open element: what it fills and what its children may be."""

    __slots__ = ("content", "members", "name", "path", "primitive", "value")

    def __init__(self, name: str, path: str | None, primitive: str | None = None) -> None:
        self.name = name
        self.path = path
        self.primitive = primitive
        self.value: Any = None
        self.content: Json = {}


class _Reader:
    """Builds the JSON resource from expat's events."""

    def __init__(self, definitions: Definitions, limits: Limits, body: bytes) -> None:
        self._definitions = definitions
        self._limits = limits
        self._body = body
        self._stack: list[_Frame] = []
        self._root: Json | None = None
        self._xhtml = 0
        self._xhtml_start = 0
        self._prefixed = False
        self._rebuilt: Rebuilt | None = None
        self._parser = expat.ParserCreate("UTF-8", namespace_separator=" ")

    def read(self) -> Json:
        parser = self._parser
        parser.XmlDeclHandler = _declared
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.StartNamespaceDeclHandler = self._bound
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.Parse(self._body, True)
        if self._root is None:
            raise BadRequest("the document has no resource", code="structure")
        return self._root

    def _start(self, qualified: str, attributes: dict[str, str]) -> None:
        if self._xhtml:
            self._xhtml += 1
            if self._rebuilt is not None:
                self._rebuilt.start(qualified, attributes)
            return
        namespace, _, name = qualified.rpartition(" ")
        if namespace == XHTML and name == "div":
            self._div(qualified, attributes)
            return
        if namespace != FHIR:
            raise BadRequest(f"element {name[:64]} is not in the FHIR namespace", code="structure")
        if len(self._stack) >= self._limits.depth:
            raise BadRequest("the document is nested too deeply", code="structure")
        self._stack.append(self._frame(name, attributes))

    def _frame(self, name: str, attributes: dict[str, str]) -> _Frame:
        if not self._stack or self._stack[-1].path == "Resource":
            frame = _Frame(name, name if name in self._definitions.resource_types else None)
            frame.content["resourceType"] = name
        else:
            frame = self._child(name, self._stack[-1].path)
        if len(attributes) > ATTRIBUTES:
            text = f"element {name[:64]} has more than {ATTRIBUTES} attributes"
            raise BadRequest(text, code="structure")
        for key, text in attributes.items():
            if key == "value" and (frame.primitive or frame.path is None):
                frame.value = _value(text, frame.primitive)
            else:
                known = self._known(frame.path, key)
                written = known is not None and known[0].representation == "xmlAttr"
                frame.content[key if written else f"@{key}"] = text
        return frame

    def _known(self, path: str | None, name: str) -> tuple[Element, TypeRef] | None:
        return None if path is None else self._definitions.members(path).get(name)

    def _child(self, name: str, path: str | None) -> _Frame:
        known = self._known(path, name)
        if known is None or known[0].representation == "xmlAttr":
            own = known is None and name[0] != "_" and name != "resourceType"
            return _Frame(name if own else f"<{name}>", None)
        element, type_ = known
        if self._definitions.type(type_.code).kind == "primitive-type":
            return _Frame(name, type_.code, primitive=type_.code)
        return _Frame(name, element.path if type_.code in _INLINE else type_.code)

    def _end(self, qualified: str) -> None:
        if self._xhtml:
            self._xhtml -= 1
            if self._rebuilt is not None:
                self._rebuilt.end(qualified)
            if not self._xhtml:
                self._narrative()
            return
        frame = self._stack.pop()
        _close_arrays(frame.content)
        if not self._stack:
            self._root = frame.content
        elif self._stack[-1].path == "Resource":
            if self._stack[-1].content:
                name = self._stack[-1].name
                raise Unprocessable(f"{name} holds one resource, and no more", code="structure")
            self._stack[-1].content = frame.content
        else:
            self._attach(self._stack[-1], frame)

    def _bound(self, prefix: str | None, uri: str) -> None:
        """A namespace is bound to a prefix, which narrative further down may use."""
        self._prefixed |= uri == XHTML and prefix is not None and not self._xhtml

    def _div(self, qualified: str, attributes: dict[str, str]) -> None:
        """Narrative begins: it is copied if it names its namespace itself, else rebuilt."""
        self._xhtml, self._xhtml_start = 1, self._parser.CurrentByteIndex
        tag = self._body[self._xhtml_start : self._body.find(b">", self._xhtml_start)]
        copied = not self._prefixed and tag.startswith(b"<div") and b"xmlns=" in tag
        self._rebuilt = None if copied else Rebuilt()
        if self._rebuilt is not None:
            self._rebuilt.start(qualified, attributes)

    def _narrative(self) -> None:
        if self._rebuilt is not None:
            text = self._rebuilt.markup
        else:
            end = self._parser.CurrentByteIndex
            if self._body.startswith(b"</div", end):  # else it is <div/>, and over
                end = self._body.find(b">", end) + 1
            text = self._body[self._xhtml_start : end].decode()
        if not self._stack:
            raise BadRequest("the document has no resource", code="structure")
        content = self._stack[-1].content
        content["div"] = [content["div"], text] if "div" in content else text

    def _text(self, text: str) -> None:
        if self._rebuilt is not None and self._xhtml:
            self._rebuilt.text(text)
        elif not self._xhtml and not text.isspace():
            raise BadRequest("text is only allowed in narrative", code="structure")

    def _attach(self, parent: _Frame, frame: _Frame) -> None:
        known = self._known(parent.path, frame.name)
        repeats = known is not None and known[0].max != 1
        simple = frame.primitive is not None or (frame.path is None and frame.value is not None)
        value = frame.value if simple else frame.content
        sibling = frame.content if simple and (frame.content or value is None) else None
        pending = parent.content.get(frame.name)
        if isinstance(pending, _Pending):
            pending.add(value, sibling)
        elif pending is not None or repeats:
            # A second one of what may not repeat becomes an array, for validation to refuse.
            first = parent.content.pop(f"_{frame.name}", None)
            parent.content[frame.name] = (
                _Pending(value, sibling)
                if pending is None
                else _Pending(pending, first).add(value, sibling)
            )
        else:
            if value is not None:
                parent.content[frame.name] = value
            if sibling is not None:
                parent.content[f"_{frame.name}"] = sibling


class _Pending:
    """A repeating element while its parent is open: values and their ``_`` siblings."""

    def __init__(self, value: Any, sibling: Json | None) -> None:
        self.values = [value]
        self.siblings = [sibling]

    def add(self, value: Any, sibling: Json | None) -> _Pending:
        self.values.append(value)
        self.siblings.append(sibling)
        return self


def _close_arrays(content: Json) -> None:
    for name, pending in _pending(content):
        if any(value is not None for value in pending.values):
            content[name] = pending.values
        else:
            del content[name]
        if any(sibling is not None for sibling in pending.siblings):
            content[f"_{name}"] = pending.siblings


def _pending(content: Json) -> Iterator[tuple[str, _Pending]]:
    yield from [(n, v) for n, v in content.items() if isinstance(v, _Pending)]


def _value(text: str, primitive: str | None) -> Any:
    """The JSON value of an attribute; text that is no such value stays text, to be refused."""
    if primitive == "boolean" and text in ("true", "false"):
        return text == "true"
    if primitive in _NUMERIC and _NUMBER.fullmatch(text):
        return number(text)
    return text


def _declared(version: str, encoding: str | None, standalone: int) -> None:
    if encoding is not None and encoding.lower() not in ENCODINGS:
        text = f"the document declares {encoding[:40]!r}; it must be in UTF-8"
        raise BadRequest(text, code="structure")


def _refuse_doctype(*_: object) -> None:
    raise BadRequest("a DOCTYPE is not allowed", code="structure")
