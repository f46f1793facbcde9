"""Invariants of administrative, financial and consent resources."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fhir_server.model.exchange import Json

from .values import Test, every, has


def _appointment_times(appointment: Json) -> bool:
    both = has(appointment, "start") and has(appointment, "end")
    return both or appointment.get("status") in ("proposed", "cancelled", "waitlist")


def _cancelled(appointment: Json) -> bool:
    return not has(appointment, "cancelationReason") or appointment.get("status") in (
        "noshow",
        "cancelled",
    )


def _named(resource: Json) -> bool:
    return has(resource, "identifier", "name")


def _not_home(element: Json) -> bool:
    return element.get("use") != "home"


ROWS: Mapping[str, Test] = MappingProxyType(
    {
        "app-1": lambda p: has(p, "type", "actor"),
        "app-2": lambda a: has(a, "start") == has(a, "end"),
        "app-3": _appointment_times,
        "app-4": _cancelled,
        "apr-1": lambda r: has(r, "participantType", "actor"),
        "ces-1": lambda i: has(i, "category") != has(i, "productOrService"),
        "grp-1": lambda g: not has(g, "member") or g.get("actual") is True,
        "ipn-1": _named,
        "lnk-1": lambda r: len(r.get("item", ())) > 1,
        "lst-1": lambda r: not (has(r, "emptyReason") and has(r, "entry")),
        "lst-2": lambda r: (
            r.get("mode") == "changes" or not any(has(e, "deleted") for e in every(r, "entry"))
        ),
        "lst-3": lambda r: (
            r.get("mode") == "working" or not any(has(e, "date") for e in every(r, "entry"))
        ),
        "org-1": _named,
        "org-2": _not_home,
        "org-3": _not_home,
        "pat-1": lambda c: has(c, "name", "telecom", "address", "organization"),
        "ppc-1": lambda r: has(r, "policy", "policyRule"),
    }
)
