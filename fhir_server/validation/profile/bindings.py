"""Bindings by strength: https://hl7.org/fhir/R4/terminologies.html#strength

required: an error where no code is in the value set. extensible: a warning, as another code may be
right where the value set has none. preferred and example say nothing about validity.
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.fhirpath import Node
from fhir_server.model.exchange import Json

from .judging import Check, Judging, Membership

CHECKED: Final = frozenset({"required", "extensible"})
CODED: Final = frozenset({"code", "string", "uri"})


def bound(binding: Json) -> Check | None:
    """The check of ``ElementDefinition.binding``; None where it demands nothing."""
    strength, url = binding.get("strength"), binding.get("valueSet")
    if strength not in CHECKED or not url:
        return None
    severity = "error" if strength == "required" else "warning"

    def check(node: Node, judging: Judging) -> None:
        value = node.value
        if value is None:
            return
        codes: Membership | None = judging.ask("value-set", url)
        if codes is None:
            return
        found = member(codes, node, judging)
        if found is False:
            said = _said(node)
            text = f"{said} is not in the {strength} value set {url}"
            judging.add(node, "code-invalid", text, severity=severity)
        elif found is None and strength == "required":
            why = codes.unknown or "its code system is not known here as a whole"
            text = f"{_said(node)} could not be checked against {url}: {why}"
            judging.add(node, "not-found", text, severity="information")

    return check


def member(codes: Membership, node: Node, judging: Judging) -> bool | None:
    """Is one of its codes in the value set? None: it cannot be told."""
    value = node.value
    if isinstance(value, str):
        return judging.member(codes, None, value)
    if not isinstance(value, dict):
        return None
    if node.type == "CodeableConcept" or "coding" in value:
        codings = value.get("coding", ())
        if not codings and "extension" in value and "text" not in value:
            return True
        found = [judging.member(codes, *_coding(one)) for one in codings]
        return _any(found) if codings else False
    if "code" not in value and "extension" in value:
        return True
    system, code = _coding(value)
    return judging.member(codes, system, code) if code else False


def _coding(value: Json) -> tuple[str, str]:
    return value.get("system", ""), value.get("code", "")


def _any(found: list[bool | None]) -> bool | None:
    if True in found:
        return True
    return None if None in found else False


def _said(node: Node) -> str:
    value: Any = node.value
    if isinstance(value, str):
        return f"'{value[:60]}'"
    codings = value.get("coding") if "coding" in value else [value]
    shown = ", ".join(f"{c.get('system', '')}|{c.get('code', '')}" for c in codings or ())
    return f"'{shown[:200]}'" if shown.strip("|, ") else "a text without a code"
