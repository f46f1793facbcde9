"""The last look: an identifier that the record tells must not be in what leaves."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Final

from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unprocessable
from operations.deid.elements import Elements
from operations.deid.text.known import Known
from operations.deid.text.markup import narrative
from operations.deid.text.spans import KINDS
from operations.deid.text.walk import Node, nodes

_TAGS: Final = re.compile(r"\[(?:" + "|".join(KINDS) + r"|90\+)\]")
_WORDS: Final = frozenset(("string", "markdown", "xhtml"))
_NUMBERED: Final = frozenset(
    ("string", "markdown", "xhtml", "uri", "url", "canonical", "id", "oid", "uuid")
)
_DISPLAYS: Final = frozenset(("Coding.display", "Coding.version", "Quantity.unit"))
"""Words of terminologies (White blood cells), not of the record."""
_CODE: Final = re.compile(
    r"(?:urn:uuid:|[A-Z][A-Za-z]+/)?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
)
"""What stands for a resource. Somebody may be called Patient, or have the number 9."""
_STRUCTURED: Final = frozenset(("Address", "ContactPoint", "HumanName", "Identifier"))
"""What a profile lets stand here it means to: towns and post codes of a limited data set."""


def require_clean(resource: Json, known: Known, elements: Elements) -> None:
    """Raises Unprocessable, without saying what was found."""
    for node in nodes(resource, elements):
        for text in _texts(node):
            if _left(_TAGS.sub(" ", text), node, known):
                raise Unprocessable(
                    "an identifier of the record was left in a text; nothing is given out",
                    code="processing",
                    expression=f"{node.owner}.{node.key}",
                )


def _texts(node: Node) -> Iterator[str]:
    value = node.value
    if node.owner in _STRUCTURED:
        return
    if node.type == "Attachment" and isinstance(value, dict) and isinstance(value.get("data"), str):
        if str(value.get("contentType", "")).startswith("text/"):
            yield base64.b64decode(value["data"]).decode("utf-8", "replace")
    elif node.type == "xhtml" and isinstance(value, str):
        yield narrative(value).text
    elif node.type in _NUMBERED and isinstance(value, str):
        yield value


def _left(text: str, node: Node, known: Known) -> bool:
    if f"{node.owner}.{node.key}" in _DISPLAYS:
        return False
    coded = _CODE.fullmatch(text)
    if coded is not None:
        return any(span.end - span.start == len(coded[1]) for span in known.find(coded[1]))
    kinds = {span.kind for span in known.find(text)}
    if node.type not in _WORDS and node.type != "Attachment":
        kinds -= {"NAME", "LOCATION"}
    return bool(kinds) or any(known.births(text))
