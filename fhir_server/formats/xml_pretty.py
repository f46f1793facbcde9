"""FHIR XML indented for people (``_pretty``): narrative keeps its own white space."""

from __future__ import annotations

from typing import Any, Final

from lxml import etree

_DIV: Final = "{http://www.w3.org/1999/xhtml}div"


def indented(document: bytes) -> bytes:
    """The same document, one element on a line. ``document``: made by this server."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    root = etree.fromstring(document, parser)
    _indent(root, "\n")
    written: bytes = etree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return written


def _indent(node: Any, line: str) -> None:
    if not len(node) or node.tag == _DIV:
        return
    node.text = line + "  "
    for child in node:
        child.tail = line + "  "
        _indent(child, line + "  ")
    node[-1].tail = line
