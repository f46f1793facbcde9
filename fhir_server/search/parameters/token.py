"""token: https://hl7.org/fhir/R4/search.html#token"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any as Value

from fhir_server.search.parameters.escape import split, unescape
from fhir_server.search.parameters.kind import Criterion, Emit, Kind
from fhir_server.search.plan import FALSE, Any, Not, Predicate, TokenIs
from fhir_server.search.values import IndexValues, TokenValue


def _reader(tokens: Callable[[str, Value], list[TokenValue]]) -> Callable[[str, str], Emit]:
    def of(index: str, _base: str) -> Emit:
        def emit(value: Value, out: IndexValues) -> None:
            out.tokens += tokens(index, value)

        return emit

    return of


def _coding(index: str, value: Value) -> list[TokenValue]:
    system, code = value.get("system", ""), value.get("code", "")
    return [TokenValue(index, system, code)] if system or code else []


def _concept(index: str, value: Value) -> list[TokenValue]:
    return [token for coding in value.get("coding", ()) for token in _coding(index, coding)]


def _identifier(index: str, value: Value) -> list[TokenValue]:
    system, code = value.get("system", ""), value.get("value", "")
    return [TokenValue(index, system, code)] if system or code else []


def _contact(index: str, value: Value) -> list[TokenValue]:
    """ContactPoint.system is a kind of contact, not a namespace."""
    return [TokenValue(index, "", value["value"])] if "value" in value else []


def _plain(index: str, value: Value) -> list[TokenValue]:
    return [TokenValue(index, "", value)]


def _boolean(index: str, value: Value) -> list[TokenValue]:
    return [TokenValue(index, "", "true" if value else "false")]


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
        "Coding": _reader(_coding),
        "CodeableConcept": _reader(_concept),
        "Identifier": _reader(_identifier),
        "ContactPoint": _reader(_contact),
        "boolean": _reader(_boolean),
    }
    | {name: _reader(_plain) for name in ("code", "string", "id", "uri", "url", "canonical")},
)
