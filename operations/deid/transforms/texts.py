"""cleanText: free text without identifiers, if this server can clean it; else it goes."""

from __future__ import annotations

from typing import Any, Final

from fhir_server.model.exchange import Json
from operations.deid.run import DROP, Run
from operations.deid.transforms.base import SUBJECT, TEXT, Given, Leaf, Method, Node, Site, dropped

_TEXTS: Final = frozenset(("string", "markdown"))


class CleanText(Method):
    """Strings, Markdown and narratives; of an Annotation its text, of an Attachment its data."""

    needs = frozenset((SUBJECT, TEXT))

    def __init__(self, given: Given) -> None:
        pass

    def leaf(self, site: Site) -> Leaf:
        if site.type == "xhtml":
            return _xhtml
        return _plain if site.type in _TEXTS else dropped

    def node(self, site: Site) -> Node | None:
        return {
            "Narrative": _narrative,
            "Annotation": _annotation,
            "Attachment": _attachment,
        }.get(site.type)


def _plain(value: Any, _around: Json, run: Run) -> Any:
    if run.cleaning is None:
        return DROP
    return run.cleaning.plain(value, run.about.subject) or DROP


def _xhtml(value: Any, _around: Json, run: Run) -> Any:
    if run.cleaning is None:
        return DROP
    return run.cleaning.xhtml(value, run.about.subject) or DROP


def _narrative(walked: Json, run: Run) -> Json:
    div = walked.get("div")
    cleaned = _xhtml(div, walked, run) if isinstance(div, str) else DROP
    return {} if cleaned is DROP else {"status": "additional", "div": cleaned}


def _annotation(walked: Json, run: Run) -> Json:
    text = walked.get("text")
    cleaned = _plain(text, walked, run) if isinstance(text, str) else DROP
    return {} if cleaned is DROP else {"text": cleaned}


def _attachment(walked: Json, run: Run) -> Json:
    if run.cleaning is None:
        return {}
    return run.cleaning.attachment(walked, run.about.subject)
