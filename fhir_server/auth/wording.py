"""Scopes in plain words, from the message catalogues."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from fhir_server.auth.negotiation import Offer


def lines(offers: Iterable[Offer], texts: dict[str, Any]) -> list[dict[str, Any]]:
    """One line per scope: ``scope``, ``text``, ``parts`` (scope, text) to narrow it to."""
    return [
        {
            "scope": offer.text,
            "text": _line(offer, texts),
            "parts": [(scope, _part(code, texts)) for code, scope in offer.parts],
        }
        for offer in offers
    ]


def _part(code: str, texts: dict[str, Any]) -> str:
    """A category of a type, or a type."""
    return str(texts["categories"].get(code) or texts["types"].get(code, code))


def _line(offer: Offer, texts: dict[str, Any]) -> str:
    scope = offer.scope
    if scope is None:
        return str(texts["words"].get(offer.text, offer.text))
    what = texts["types"].get(scope.type, scope.type)
    if scope.filters:
        values = ", ".join(unquote(value).rpartition("|")[2] for _, value in scope.filters)
        what = f"{what} ({', '.join(texts['categories'].get(v, v) for v in values.split(', '))})"
    acts = [texts["acts"]["read"]] if set(scope.letters) & set("rs") else []
    acts += [texts["acts"][letter] for letter in "cud" if letter in scope.letters]
    return str(texts["scope"][scope.context].format(acts=", ".join(acts), what=what))
