"""Content negotiation: https://hl7.org/fhir/R4/http.html#mime-type

``_format`` goes before Accept. JSON is what this server speaks; XML is refused until it does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from fhir_server.model.problem import BadRequest, NotAcceptable, UnsupportedMediaType

JSON: Final = frozenset(
    {"application/fhir+json", "application/json", "text/json", "json", "application/json+fhir"}
)
FHIR_ONLY: Final = frozenset(
    {"application/fhir+json", "application/json+fhir", "application/fhir+xml"}
    | {"application/xml+fhir", "application/fhir+turtle", "application/x-turtle"}
)
"""Formats of resources that are nothing else."""

ANY: Final = frozenset({"*/*", "application/*"})
FORM: Final = "application/x-www-form-urlencoded"
FHIR_VERSIONS: Final = frozenset({"4.0", "4.0.1"})


def accept(format_: str | None, header: str | None) -> None:
    """NotAcceptable unless JSON answers the request."""
    if format_ is None and header is None:
        return
    if not _acceptable(format_, header):
        wanted = format_ if format_ is not None else header
        raise NotAcceptable(f"only JSON is served, not {str(wanted)[:100]}")


@lru_cache(maxsize=512)
def _acceptable(format_: str | None, header: str | None) -> bool:
    if format_ is not None:
        # A "+" that was not encoded arrives as a space.
        return _is_json(format_.replace(" json", "+json"))
    return any(_is_json(part) for part in (header or "*/*").split(","))


def _is_json(text: str) -> bool:
    media, *rest = (part.strip() for part in text.lower().split(";"))
    parameters = dict(part.partition("=")[::2] for part in rest)
    version = parameters.get("fhirversion", "4.0").strip('"')
    if version not in FHIR_VERSIONS or parameters.get("q", "1").rstrip("0.") == "":
        return False
    return media in JSON or media in ANY


@lru_cache(maxsize=512)
def asks_for_fhir(format_: str | None, header: str | None) -> bool:
    """Is a Binary wanted as a resource? https://hl7.org/fhir/R4/binary.html: only if a FHIR
    format is asked for by name; any other Accept means the content as it is.
    """
    if format_ is not None:
        return True
    named = [part for part in (header or "").split(",") if _media(part) in FHIR_ONLY]
    others = any(_media(part) not in FHIR_ONLY for part in (header or "*/*").split(","))
    return any(_is_json(part) for part in named) or (bool(named) and not others)


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


def content_type(header: str | None, wanted: frozenset[str]) -> None:
    """UnsupportedMediaType unless the body is what the interaction takes."""
    media, charset, version = _parsed(header or "")
    if media not in wanted:
        raise UnsupportedMediaType(f"the Content-Type {media[:80] or '(none)'} is not supported")
    if charset not in ("utf-8", "utf8"):
        raise UnsupportedMediaType(f"the charset {charset[:40]} is not supported")
    if version not in FHIR_VERSIONS:
        raise UnsupportedMediaType(f"FHIR version {version[:40]} is not supported")


def is_fhir(header: str | None) -> bool:
    """Is a body that may be raw content a resource? One without a type is refused as such."""
    media = _media(header or "")
    return not media or media in FHIR_ONLY


def pretty(value: str) -> bool:
    """The value of ``_pretty``."""
    if value not in ("true", "false"):
        raise BadRequest("_pretty is true or false")
    return value == "true"
