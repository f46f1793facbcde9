"""Targets and aggregation of references: https://hl7.org/fhir/R4/references.html,
https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.type.aggregation
"""

from __future__ import annotations

from collections.abc import Iterable

from fhir_server.definitions.snapshot import BASE
from fhir_server.fhirpath import Node
from fhir_server.model.exchange import Json

from ..rules.fault import Fault
from ..rules.references import CONDITIONAL, CONTAINED, References
from .judging import Check, Judging


def referring(types: Iterable[Json], references: References) -> Check | None:
    """The check of a Reference with these types; None where anything will do."""
    rows = [one for one in types if one.get("code") == "Reference"]
    targets = tuple(url.partition("|")[0] for one in rows for url in one.get("targetProfile", ()))
    ways = {way for one in rows for way in one.get("aggregation", ())}
    if not ways and (not targets or f"{BASE}Resource" in targets):
        return None

    def check(node: Node, judging: Judging) -> None:
        text = (node.value or {}).get("reference") if isinstance(node.value, dict) else None
        if not isinstance(text, str):
            _typed(node, judging, targets)
            return
        target = judging.surroundings.resolve(text, node)
        if ways:
            _aggregated(node, judging, ways, text, target)
        if targets:
            kind = _kind(text, node, target, references)
            fitting = _aimed(node, judging, targets, kind)
            if fitting and not any(is_type(url, judging) for url in fitting):
                _conforming(node, judging, fitting, target or judging.resolve(text, node))

    return check


def _kind(text: str, node: Node, target: Node | None, references: References) -> str:
    """The type of the target, "" if it cannot be told."""
    if target is not None:
        return target.type
    kind = references.kind(text)
    if isinstance(kind, Fault) or kind in (CONTAINED, CONDITIONAL):
        return ""
    said: str = node.value.get("type", "")
    return kind or said


def _typed(node: Node, judging: Judging, targets: tuple[str, ...]) -> None:
    """A Reference without a literal one may still say its type."""
    if isinstance(node.value, dict) and "type" in node.value:
        _aimed(node, judging, targets, node.value["type"])


def _aimed(node: Node, judging: Judging, targets: tuple[str, ...], kind: str) -> list[str]:
    """The targets that are of this type."""
    if not kind:
        return []
    fitting = [url for url in targets if type_of(url, judging) in (kind, "Resource", "")]
    if not fitting:
        wanted = " or ".join(targets)
        text = f"must refer to {wanted}, not to a {kind[:64]}"
        judging.add(node, "value", text, "reference" if "reference" in node.value else "type")
    return fitting


def is_type(url: str, judging: Judging) -> bool:
    """Is it a type itself, not a profile on it?"""
    found = judging.definitions.structure(url)
    return found is not None and found.get("derivation") != "constraint"


def _conforming(node: Node, judging: Judging, fitting: list[str], target: Node | None) -> None:
    if target is None or any(judging.conforms(target, url) for url in fitting):
        return
    inside = target.parent is not None or judging.surroundings.bundled(target)
    faults = judging.faults(target, fitting[0])
    why = f": {faults[0].expression}: {faults[0].diagnostics}" if faults and inside else ""
    text = f"refers to a {target.type} that does not conform to {' or '.join(fitting)}{why}"
    judging.add(node, "value", text, "reference", "error" if inside else judging.outside)


def type_of(url: str, judging: Judging) -> str:
    """The type that a target profile is about, "" if the profile is not known here."""
    found = judging.definitions.structure(url)
    return found.get("type", "") if found is not None else ""


def _aggregated(
    node: Node, judging: Judging, ways: set[str], text: str, target: Node | None
) -> None:
    """contained, referenced or bundled: how it may be referred to."""
    if text.startswith("#"):
        way = "contained"
    elif target is not None and judging.surroundings.bundled(target):
        way = "bundled"
    else:
        way = "referenced"
    if way in ways or (way == "bundled" and "referenced" in ways):
        return
    if way == "referenced" and "bundled" in ways and not judging.surroundings.bundled(node):
        return  # outside of a Bundle that cannot be told
    judging.add(node, "value", f"must be {' or '.join(sorted(ways))}, not {way}", "reference")
