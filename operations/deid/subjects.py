"""Whose a resource is, as it says itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fhir_server.model.exchange import Json
from operations.deid.run import Run

_FIRST: Final = ("subject", "patient")
"""Elements by which most types name their patient."""


def subject_of(resource: Json, run: Run) -> str:
    """``Patient/1``: itself, or the one patient that it refers to, else the resource itself.

    A resource about several patients is of its own: what is done to it links none of them.
    """
    own = f"{resource.get('resourceType')}/{resource.get('id', '')}"
    if resource.get("resourceType") == "Patient":
        return own
    for name in _FIRST:
        value = resource.get(name)
        patient = _patient(value, run) if isinstance(value, dict) else None
        if patient is not None:
            return patient
    found = set(_patients(resource, run))
    return found.pop() if len(found) == 1 else own


def _patient(reference: Json, run: Run) -> str | None:
    literal = reference.get("reference")
    if not isinstance(literal, str) or literal.startswith("#"):
        return None
    key, type_ = run.meant(literal)
    return key if type_ == "Patient" else None


def _patients(value: Any, run: Run) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _patients(item, run)
    elif isinstance(value, dict):
        found = _patient(value, run)
        if found is not None:
            yield found
        for name, item in value.items():
            if isinstance(item, dict | list) and name not in ("contained", "entry"):
                yield from _patients(item, run)
