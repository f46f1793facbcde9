"""XML Patch, RFC 5261, over the XML form of a resource.

Selectors are the subset of XPath that the RFC needs, checked by a pattern before they are
evaluated, so that no selector can be expensive. ``f`` is bound to FHIR, ``h`` to XHTML.
"""

from __future__ import annotations

import copy
import re
from typing import Any, Final

from lxml import etree

from fhir_server.definitions.registry import Definitions
from fhir_server.formats import xml
from fhir_server.formats.xml_narrative import XHTML
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Unprocessable

OPERATIONS: Final = 1000
_ABOVE: Final = "above"
NAMESPACES: Final = {"f": xml.FHIR, "h": XHTML}

_NAME = r"(?:[A-Za-z_][\w.-]*:)?(?:[A-Za-z_][\w.-]*|\*)"
_TEXT = r"(?:'[^']*'|\"[^\"]*\")"
_TEST = rf"\[(?:[0-9]+|@{_NAME}={_TEXT}|{_NAME}(?:/@{_NAME})?={_TEXT}|\.={_TEXT})\]"
_STEP = rf"{_NAME}(?:{_TEST})*"
_END = rf"@{_NAME}|text\(\)(?:\[[0-9]+\])?|namespace::[A-Za-z_][\w.-]*"
SELECTOR: Final = re.compile(rf"/?(?:{_STEP})(?:/{_STEP})*(?:/(?:{_END}))?")
_LAST: Final = re.compile(rf"/({_END})$")
SELECTOR_LENGTH: Final = 1000


def apply(resource: Json, document: bytes, definitions: Definitions) -> Json:
    """BadRequest for what is no patch, Unprocessable for one that does not fit."""
    target = etree.fromstring(xml.dumps(resource, definitions), _parser())
    patched = apply_tree(target, document)
    return xml.loads(etree.tostring(patched, encoding="UTF-8"), definitions)


def apply_tree(target: Any, document: bytes) -> Any:
    """The patch on an lxml tree; the tree is changed and returned."""
    operations = [node for node in _parse(document) if isinstance(node.tag, str)]
    if not operations:
        raise BadRequest("No Patch Operations Found", code="structure")
    if len(operations) > OPERATIONS:
        raise BadRequest(f"more than {OPERATIONS} patch operations", code="too-costly")
    # A node above the root lets selectors start with the root's name and the root be renewed.
    above = etree.Element(_ABOVE)
    above.append(target)
    for operation in operations:
        kind = etree.QName(operation).localname
        if kind not in _KINDS:
            raise BadRequest(f"unknown patch operation {kind[:40]!r}", code="structure")
        _KINDS[kind](operation, *_select(above, operation))
    return above[0]


def _parser() -> Any:
    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)


def _parse(document: bytes) -> Any:
    if b"<!DOCTYPE" in document:
        raise BadRequest("a DOCTYPE is not allowed", code="structure")
    try:
        return etree.fromstring(document, _parser())
    except (etree.XMLSyntaxError, ValueError):
        raise BadRequest("the patch is not well-formed XML", code="structure") from None


def _select(above: Any, operation: Any) -> tuple[Any, str]:
    """The one node of the selector: (element, "" | "@name" | "text" | "namespace")."""
    selector = operation.get("sel") or ""
    if len(selector) > SELECTOR_LENGTH or SELECTOR.fullmatch(selector) is None:
        raise BadRequest(f"unsupported selector {selector[:80]!r}", code="not-supported")
    last = _LAST.search(selector)
    special = last.group(1) if last else ""
    if special.startswith("namespace::"):
        raise BadRequest("namespace nodes of a resource cannot change", code="not-supported")
    where = "./" + (selector[: last.start()] if last else selector).lstrip("/")
    bound = {**{k: v for k, v in operation.nsmap.items() if k}, **NAMESPACES}
    try:
        found = above.xpath(where, namespaces=bound)
    except etree.XPathError:
        raise BadRequest(f"bad selector {selector[:80]!r}", code="invalid") from None
    if len(found) != 1:
        raise Unprocessable(f"the selector finds {len(found)} nodes, not one")
    return found[0], _special(special, bound)


def _special(last: str, bound: dict[str, str]) -> str:
    if not last.startswith("@"):
        return "text" if last else ""
    prefix, _, name = last[1:].rpartition(":")
    return f"@{{{bound[prefix]}}}{name}" if prefix in bound else f"@{name}"


def _add(operation: Any, node: Any, special: str) -> None:
    kind, place = operation.get("type") or "", operation.get("pos") or "append"
    if special:
        raise Unprocessable("nothing can be added to an attribute or text")
    if kind.startswith("@"):
        node.set(kind[1:], operation.text or "")
    elif kind.startswith("namespace::"):
        _declare(node, kind.removeprefix("namespace::"), operation.text or "")
    elif place in ("before", "after", "prepend", "append"):
        _place(node, place, [copy.deepcopy(child) for child in operation])
    else:
        raise BadRequest(f"unknown position {place[:40]!r}", code="invalid")


def _place(node: Any, place: str, children: list[Any]) -> None:
    if place == "append":
        node.extend(children)
    elif place == "prepend":
        for index, child in enumerate(children):
            node.insert(index, child)
    elif node.getparent().tag == _ABOVE:
        raise Unprocessable("the root has no siblings")
    else:
        parent = node.getparent()
        start = parent.index(node) + (place == "after")
        for offset, child in enumerate(children):
            parent.insert(start + offset, child)


def _declare(node: Any, prefix: str, namespace: str) -> None:
    """A namespace declaration: lxml sets it on a new element in place of the old one."""
    renewed = etree.Element(node.tag, attrib=node.attrib, nsmap={**node.nsmap, prefix: namespace})
    renewed.text, renewed.tail = node.text, node.tail
    renewed.extend(list(node))
    node.getparent().replace(node, renewed)


def _replace(operation: Any, node: Any, special: str) -> None:
    children = [child for child in operation if isinstance(child.tag, str)]
    if special.startswith("@"):
        if special[1:] not in node.attrib:
            raise Unprocessable("the attribute is not there")
        node.set(special[1:], operation.text or "")
    elif special == "text":
        node.text = operation.text
    elif len(children) == 1 and node.getparent().tag != _ABOVE:
        renewed = copy.deepcopy(children[0])
        renewed.tail = node.tail
        node.getparent().replace(node, renewed)
    else:
        raise Unprocessable("an element is replaced by one element, the root by none")


def _remove(operation: Any, node: Any, special: str) -> None:
    if special.startswith("@"):
        if node.attrib.pop(special[1:], None) is None:
            raise Unprocessable("the attribute is not there")
    elif special == "text":
        node.text = None
    elif node.getparent().tag == _ABOVE:
        raise Unprocessable("the resource itself cannot be removed")
    else:
        node.getparent().remove(node)


_KINDS: Final = {"add": _add, "replace": _replace, "remove": _remove}
