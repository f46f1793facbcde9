"""The forms of a reference: https://hl7.org/fhir/R4/references.html#literal"""

from __future__ import annotations

import re
from typing import NamedTuple

from fhir_server.model.exchange import Json

from .fault import Fault, shown

CONTAINED = "#"
CONDITIONAL = "?"
UNKNOWN = ""
WRONG_TARGET = "must refer to"
_LOCAL = (CONTAINED, CONDITIONAL)

_RELATIVE = re.compile(
    r"([A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?(?:#\S+)?"
)
_ABSOLUTE = re.compile(
    r"https?://[^\s?#]*?/([A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?(?:#\S+)?"
)
_CONDITIONAL = re.compile(r"([A-Za-z]+)\?\S+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_UUID = re.compile(
    r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE
)
_OID = re.compile(r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+")
_SPACE = re.compile(r"\s")


class LocalReference(NamedTuple):
    """A reference that only its surroundings can judge: ``#id`` or ``Type?criteria``.

    ``targets``: the resource types allowed there; None = any. ``uri``: it is a uri, url or
    canonical, which may point to a contained resource but need not. ``origin``: index of the
    contained resource that has it; None = the container.
    """

    text: str
    targets: frozenset[str] | None = None
    uri: bool = False
    origin: int | None = None


class References:
    """Judges ``Reference.reference`` against the known resource types."""

    def __init__(self, resource_types: frozenset[str], remember: int = 20_000) -> None:
        self._types = resource_types
        self._remember = remember
        self._kinds: dict[str, str] = {}

    def kind(self, text: str) -> str | Fault:
        """The resource type that the text names, or CONTAINED, CONDITIONAL, UNKNOWN."""
        found = self._kinds.get(text)
        if found is not None:
            return found
        judged = self._judge(text)
        if isinstance(judged, str) and len(text) <= 256:
            if len(self._kinds) >= self._remember:
                self._kinds.clear()
            self._kinds[text] = judged
        return judged

    def _judge(self, text: str) -> str | Fault:
        if text.startswith("#"):
            return _malformed(text) if _SPACE.search(text) else CONTAINED
        if found := _RELATIVE.fullmatch(text):
            return self._known(found[1], text)
        if found := _CONDITIONAL.fullmatch(text):
            known = self._known(found[1], text)
            return CONDITIONAL if isinstance(known, str) else known
        if not _SCHEME.match(text) or _SPACE.search(text):
            return _malformed(text)
        if found := _ABSOLUTE.fullmatch(text):
            return found[1] if found[1] in self._types else UNKNOWN
        lowered = text[:9].lower()
        if lowered.startswith("urn:uuid:") and not _UUID.fullmatch(text):
            return Fault("value", f"{shown(text)} is no urn:uuid")
        if lowered.startswith("urn:oid:") and not _OID.fullmatch(text):
            return Fault("value", f"{shown(text)} is no urn:oid")
        return UNKNOWN

    def _known(self, type_: str, text: str) -> str | Fault:
        if type_ in self._types:
            return type_
        return Fault("value", f"{shown(text)} names no resource type of FHIR R4")

    def fault(
        self, reference: Json, targets: frozenset[str] | None, local: list[LocalReference]
    ) -> Fault | None:
        """The fault of a structurally sound Reference; what only the surroundings can tell
        is added to ``local``."""
        text = reference.get("reference")
        if text is None:
            return self._without_text(reference, targets)
        kind = self.kind(text)
        if isinstance(kind, Fault):
            return kind
        if kind in _LOCAL:
            local.append(LocalReference(text, targets))
            return None
        if targets is not None and kind and kind not in targets:
            return wrong_target(kind, targets)
        said = reference.get("type")
        if kind and said is not None and said in self._types and said != kind:
            return Fault("value", f"has the type {said} but refers to a {kind}")
        return None

    def _without_text(self, reference: Json, targets: frozenset[str] | None) -> Fault | None:
        if reference.keys().isdisjoint(_SUFFICIENT):
            return Fault("structure", "must have a reference, an identifier or a display")
        said = reference.get("type")
        if said in self._types and targets is not None and said not in targets:
            return wrong_target(str(said), targets)
        return None


_SUFFICIENT = frozenset({"identifier", "display", "extension", "_reference", "_display"})


def _malformed(text: str) -> Fault:
    return Fault(
        "value", f"{shown(text)} is no reference: like Patient/1, an absolute URL, urn:uuid: or #id"
    )


def wrong_target(kind: str, targets: frozenset[str]) -> Fault:
    return Fault("value", f"{WRONG_TARGET} {' or '.join(sorted(targets))}, not to a {kind}")
