"""Invariants of Bundle, Parameters and Composition: https://hl7.org/fhir/R4/bundle.html"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fhir_server.model.exchange import Json

from .values import Test, chosen, distinct, every, has

_ASKED = ("batch", "transaction", "history")
_ANSWERED = ("batch-response", "transaction-response", "history")


def _entries_have(name: str, types: tuple[str, ...]) -> Test:
    """Every entry has ``name`` exactly when the bundle is of these types."""

    def test(bundle: Json) -> bool:
        expected = bundle.get("type") in types
        return all((name in entry) == expected for entry in bundle.get("entry", ()))

    return test


def _unique_urls(bundle: Json) -> bool:
    return bundle.get("type") == "history" or distinct(
        (entry["fullUrl"], entry.get("resource", {}).get("meta", {}).get("versionId"))
        for entry in bundle.get("entry", ())
        if "fullUrl" in entry
    )


def _first_is(bundle_type: str, resource_type: str) -> Test:
    def test(bundle: Json) -> bool:
        if bundle.get("type") != bundle_type:
            return True
        entries = bundle.get("entry") or [{}]
        return bool(entries[0].get("resource", {}).get("resourceType") == resource_type)

    return test


def _identified(bundle: Json) -> bool:
    identifier = bundle.get("identifier", {})
    return bundle.get("type") != "document" or (
        has(identifier, "system") and has(identifier, "value")
    )


def _one_content(parameter: Json) -> bool:
    return [has(parameter, "part"), chosen(parameter, "value"), "resource" in parameter].count(
        True
    ) == 1


ROWS: Mapping[str, Test] = MappingProxyType(
    {
        "bdl-1": lambda b: not has(b, "total") or b.get("type") in ("searchset", "history"),
        "bdl-2": lambda b: b.get("type") == "searchset" or not every(b, "entry", "search"),
        "bdl-3": _entries_have("request", _ASKED),
        "bdl-4": _entries_have("response", _ANSWERED),
        "bdl-5": lambda e: has(e, "resource", "request", "response"),
        "bdl-7": _unique_urls,
        "bdl-8": lambda e: "/_history/" not in e.get("fullUrl", ""),
        "bdl-9": _identified,
        "bdl-10": lambda b: b.get("type") != "document" or "timestamp" in b,
        "bdl-11": _first_is("document", "Composition"),
        "bdl-12": _first_is("message", "MessageHeader"),
        "cmp-1": lambda s: has(s, "text", "entry", "section"),
        "cmp-2": lambda s: not (has(s, "emptyReason") and has(s, "entry")),
        "Parameters.parameter#inv-1": _one_content,
    }
)
