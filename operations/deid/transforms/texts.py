"""cleanText: free text without identifiers, if this server can clean it; else it goes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from fhir_server.model.exchange import Json
from operations.deid.run import DROP, Run
from operations.deid.text.contract import Cleaning
from operations.deid.transforms.base import SUBJECT, TEXT, Given, Leaf, Method, Node, Site, dropped

_TEXTS: Final = frozenset(("string", "markdown"))


class CleanText(Method):
    """Strings, Markdown and narratives; of an Annotation its text, of an Attachment its data.
    ``otherwise``: an object in the place of one of these that goes."""

    needs = frozenset((SUBJECT, TEXT))

    def __init__(self, given: Given) -> None:
        self._otherwise = given.get("otherwise", {})
        if not isinstance(self._otherwise, dict):
            raise ValueError("otherwise is an object")

    def leaf(self, site: Site) -> Leaf:
        if site.type == "xhtml":
            return _xhtml
        return _plain if site.type in _TEXTS else dropped

    def node(self, site: Site) -> Node | None:
        clean = _NODES.get(site.type)
        if clean is None:
            return None
        return lambda walked, run: clean(walked, run) or copy.deepcopy(self._otherwise)


def _cleaning(run: Run) -> Cleaning | None:
    """None also where the text is of a patient whose identifiers are not known."""
    whose = run.about.subject
    return run.cleaning if not whose.startswith("Patient/") or whose in run.people else None


def _plain(value: Any, _around: Json, run: Run) -> Any:
    cleaning = _cleaning(run)
    return DROP if cleaning is None else cleaning.plain(value, run.about.subject) or DROP


def _xhtml(value: Any, _around: Json, run: Run) -> Any:
    cleaning = _cleaning(run)
    return DROP if cleaning is None else cleaning.xhtml(value, run.about.subject) or DROP


def _narrative(walked: Json, run: Run) -> Json:
    div = walked.get("div")
    cleaned = _xhtml(div, walked, run) if isinstance(div, str) else DROP
    return {} if cleaned is DROP else {"status": "additional", "div": cleaned}


def _annotation(walked: Json, run: Run) -> Json:
    text = walked.get("text")
    cleaned = _plain(text, walked, run) if isinstance(text, str) else DROP
    return {} if cleaned is DROP else {"text": cleaned}


def _attachment(walked: Json, run: Run) -> Json:
    cleaning = _cleaning(run)
    return {} if cleaning is None else cleaning.attachment(walked, run.about.subject)


_NODES: Final[Mapping[str, Node]] = {
    "Narrative": _narrative,
    "Annotation": _annotation,
    "Attachment": _attachment,
}
