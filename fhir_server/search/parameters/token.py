"""token: https://hl7.org/fhir/R4/search.html#token"""

from __future__ import annotations

from typing import Any as Value

from fhir_server.search.parameters.escape import split, unescape
from fhir_server.search.parameters.kind import Criterion, Emit, Kind, Site
from fhir_server.search.plan import FALSE, Any, Not, Predicate, TokenIs
from fhir_server.search.values import IndexValues, TokenValue


def _coding(index: str, _site: Site) -> Emit:
    def emit(value: Value, out: IndexValues) -> None:
        system, code = value.get("system", ""), value.get("code", "")
        if system or code:
            out.tokens.append(TokenValue(index, system, code))

    return emit


def _concept(index: str, site: Site) -> Emit:
    coding = _coding(index, site)

    def emit(value: Value, out: IndexValues) -> None:
        for one in value.get("coding", ()):
            coding(one, out)

    return emit


def _identifier(index: str, _site: Site) -> Emit:
    def emit(value: Value, out: IndexValues) -> None:
        system, code = value.get("system", ""), value.get("value", "")
        if system or code:
            out.tokens.append(TokenValue(index, system, code))

    return emit


def _contact(index: str, _site: Site) -> Emit:
    """ContactPoint.system is a kind of contact, not a namespace."""

    def emit(value: Value, out: IndexValues) -> None:
        if "value" in value:
            out.tokens.append(TokenValue(index, "", value["value"]))

    return emit


def _plain(index: str, _site: Site) -> Emit:
    def emit(value: Value, out: IndexValues) -> None:
        out.tokens.append(TokenValue(index, "", value))

    return emit


def _boolean(index: str, _site: Site) -> Emit:
    yes, no = TokenValue(index, "", "true"), TokenValue(index, "", "false")

    def emit(value: Value, out: IndexValues) -> None:
        out.tokens.append(yes if value else no)

    return emit


def compile_token(criterion: Criterion) -> Predicate:
    """``code``, ``system|code``, ``|code`` (no system), ``system|`` (any code of it)."""
    found = Any(tuple(_token(criterion, value) for value in criterion.values))
    predicate = found.parts[0] if len(found.parts) == 1 else found
    return Not(predicate) if criterion.modifier == "not" else predicate


def _token(criterion: Criterion, value: str) -> Predicate:
    parts = [unescape(part) for part in split(value, "|")]
    index = criterion.index
    if len(parts) == 1:
        return TokenIs(index, None, parts[0])
    if len(parts) > 2 or parts == ["", ""]:
        raise criterion.bad(value, "is not code, system|code, |code or system|")
    system, code = parts
    implied = criterion.parameter.systems
    if implied and system:
        # The element holds bare codes: the system is the one that its definition implies.
        return TokenIs(index, "", code or None) if system in implied else FALSE
    return TokenIs(index, system, code or None)


TOKEN = Kind(
    name="token",
    description="A coded value or an identifier: code, system|code, |code or system|",
    example="Observation?code=http://loinc.org|8867-4",
    modifiers=("not",),
    compile=compile_token,
    readers={
        "Coding": _coding,
        "CodeableConcept": _concept,
        "Identifier": _identifier,
        "ContactPoint": _contact,
        "boolean": _boolean,
    }
    | dict.fromkeys(("code", "string", "id", "uri", "url", "canonical"), _plain),
)
