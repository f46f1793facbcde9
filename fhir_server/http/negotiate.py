"""Content negotiation: https://hl7.org/fhir/R4/http.html#mime-type

``_format`` goes before Accept. JSON and XML are served; RDF is not.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

from fhir_server.interactions.target import Pairs
from fhir_server.model.problem import BadRequest, NotAcceptable, UnsupportedMediaType

JSON: Final = frozenset(
    {"application/fhir+json", "application/json", "text/json", "json", "application/json+fhir"}
)
XML: Final = frozenset(
    {"application/fhir+xml", "application/xml", "text/xml", "xml", "application/xml+fhir"}
)
RESOURCES: Final = (JSON | XML) - {"json", "xml"}
"""Content types of a body that is a resource."""

PATCHES: Final = frozenset(
    {"application/json-patch+json", "application/xml-patch+xml"}
    | {"application/fhir+json", "application/json+fhir"}
    | {"application/fhir+xml", "application/xml+fhir"}
)
"""Content types of a patch document; as a resource it is a FHIRPath Patch."""

Format = Literal["json", "xml"]

FHIR_ONLY: Final = frozenset(
    {"application/fhir+json", "application/json+fhir", "application/fhir+xml"}
    | {"application/xml+fhir", "application/fhir+turtle", "application/x-turtle"}
)
"""Formats of resources that are nothing else."""

ANY: Final = frozenset({"*/*", "application/*"})
FORM: Final = "application/x-www-form-urlencoded"
FHIR_VERSIONS: Final = frozenset({"4.0", "4.0.1"})
_WEIGHT: Final = re.compile(r"[01](?:\.[0-9]{0,3})?")


def accept(format_: str | None, header: str | None, body: str | None = None) -> Format:
    """The format of the answer; NotAcceptable if none that is served is asked for.

    ``body``: the Content-Type of the request, which decides if the client leaves it open.
    """
    if format_ is not None or header is not None:
        chosen = _chosen(format_, header)
        if chosen is None:
            wanted = format_ if format_ is not None else header
            raise NotAcceptable(f"JSON and XML are served, not {str(wanted)[:100]}")
        if chosen != "any":
            return chosen
    return "xml" if body is not None and _media(body) in XML else "json"


@lru_cache(maxsize=512)
def _chosen(format_: str | None, header: str | None) -> Format | Literal["any"] | None:
    """The best of what is listed: by ``q``, then by order."""
    if format_ is not None:
        # A "+" that was not encoded arrives as a space.
        return _offer(format_.replace(" json", "+json").replace(" xml", "+xml"))[0]
    offers = [_offer(part) for part in (header or "*/*").split(",")]
    return max(offers, key=lambda offer: offer[1])[0]


def _offer(text: str) -> tuple[Format | Literal["any"] | None, float]:
    """What a media range stands for, and how much it is wanted."""
    media, *rest = (part.strip() for part in text.lower().split(";"))
    parameters = dict(part.partition("=")[::2] for part in rest)
    version = parameters.get("fhirversion", "4.0").strip('"')
    weight = _weight(parameters.get("q", "1"))
    if version not in FHIR_VERSIONS or weight == 0:
        return None, 0
    if media in JSON:
        return "json", weight
    if media in XML:
        return "xml", weight
    return ("any", weight) if media in ANY else (None, 0)


def _weight(text: str) -> float:
    """``q`` (RFC 9110 12.4.2); what is none counts as 1."""
    return float(text) if _WEIGHT.fullmatch(text) else 1.0


@lru_cache(maxsize=512)
def asks_for_fhir(format_: str | None, header: str | None) -> bool:
    """Is a Binary wanted as a resource? https://hl7.org/fhir/R4/binary.html: only if a FHIR
    format is asked for by name; any other Accept means the content as it is.
    """
    if format_ is not None:
        return True
    named = [part for part in (header or "").split(",") if _media(part) in FHIR_ONLY]
    others = any(_media(part) not in FHIR_ONLY for part in (header or "*/*").split(","))
    return any(_offer(part)[0] for part in named) or (bool(named) and not others)


def _media(text: str) -> str:
    return text.partition(";")[0].strip().lower()


@lru_cache(maxsize=64)
def _parsed(header: str) -> tuple[str, str, str]:
    media, *rest = (part.strip() for part in header.lower().split(";"))
    parameters = dict(part.partition("=")[::2] for part in rest)
    return (
        media,
        parameters.get("charset", "utf-8").strip('"'),
        parameters.get("fhirversion", "4.0").strip('"'),
    )


def content_type(header: str | None, wanted: frozenset[str]) -> str:
    """The media type; UnsupportedMediaType unless the interaction takes it."""
    media, charset, version = _parsed(header or "")
    if media not in wanted:
        raise UnsupportedMediaType(f"the Content-Type {media[:80] or '(none)'} is not supported")
    if charset not in ("utf-8", "utf8"):
        raise UnsupportedMediaType(f"the charset {charset[:40]} is not supported")
    if version not in FHIR_VERSIONS:
        raise UnsupportedMediaType(f"FHIR version {version[:40]} is not supported")
    return media


def is_fhir(header: str | None) -> bool:
    """Is a body that may be raw content a resource? One without a type is refused as such."""
    media = _media(header or "")
    return not media or media in FHIR_ONLY


def pretty(value: str) -> bool:
    """The value of ``_pretty``."""
    if value not in ("true", "false"):
        raise BadRequest("_pretty is true or false")
    return value == "true"


def presentation(query: Pairs) -> tuple[Pairs, str | None, bool]:
    """The query without ``_format`` and ``_pretty``, and those two."""
    format_, indent, rest = None, False, query
    for name, value in query:
        if name == "_format":
            format_ = value
        elif name == "_pretty":
            indent = pretty(value)
        else:
            continue
        rest = [pair for pair in rest if pair[0] != name]
    return rest, format_, indent
