"""token: https://hl7.org/fhir/R4/search.html#token"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any as Value
from typing import Final

from fhir_server.search.parameters.escape import split, unescape
from fhir_server.search.parameters.kind import Criterion, Emit, Kind, Site
from fhir_server.search.plan import FALSE, Any, Not, Predicate, StringIs, TextHas, TokenIs
from fhir_server.search.textual import parse_text
from fhir_server.search.values import (
    FOLDED,
    IndexValues,
    StringValue,
    TokenValue,
    fold,
    tokens_of,
)
from terminology.codes import Code

_SYSTEMATIC: Final = frozenset({"Coding", "CodeableConcept"})


def _coding(index: str, _site: Site) -> Emit:
    text, remembered = f"{index}:text", _Remembered(index)

    def emit(value: Value, out: IndexValues) -> None:
        system, code = value.get("system", ""), value.get("code", "")
        if system or code:
            out.tokens += remembered[system, code]
        if "display" in value:
            out.strings.append(StringValue(text, value["display"]))

    return emit


class _Remembered(dict[tuple[str, str], tuple[TokenValue, ...]]):
    """The tokens of codes: the same ones come again and again. (Identifiers do not.)"""

    def __init__(self, index: str) -> None:
        self._index = index

    def __missing__(self, coded: tuple[str, str]) -> tuple[TokenValue, ...]:
        if len(self) >= _MOST:
            self.clear()
        found = self[coded] = tokens_of(self._index, *coded)
        return found


_MOST: Final = 4096


def _concept(index: str, site: Site) -> Emit:
    coding = _coding(index, site)
    text = f"{index}:text"

    def emit(value: Value, out: IndexValues) -> None:
        for one in value.get("coding", ()):
            coding(one, out)
        if "text" in value:
            out.strings.append(StringValue(text, value["text"]))

    return emit


def _identifier(index: str, _site: Site) -> Emit:
    text, of_type = f"{index}:text", f"{index}:of-type"

    def emit(value: Value, out: IndexValues) -> None:
        system, code = value.get("system", ""), value.get("value", "")
        if system or code:
            out.tokens += tokens_of(index, system, code)
        kind = value.get("type")
        if kind is None:
            return
        if "text" in kind:
            out.strings.append(StringValue(text, kind["text"]))
        for one in kind.get("coding", ()) if code else ():
            typed = _typed(one.get("code", ""), code)
            out.tokens += tokens_of(of_type, one.get("system", ""), typed)

    return emit


def _typed(type_code: str, value: str) -> str:
    """Type and value of an identifier as one code; no text of a resource has a NUL."""
    return f"{type_code}\0{value}"


def _contact(index: str, _site: Site) -> Emit:
    """ContactPoint.system is a kind of contact, not a namespace."""

    def emit(value: Value, out: IndexValues) -> None:
        if "value" in value:
            out.tokens += tokens_of(index, "", value["value"])

    return emit


def _plain(index: str, _site: Site) -> Emit:
    base, remembered = f"{index}:base", _Remembered(index)

    def emit(value: Value, out: IndexValues) -> None:
        out.tokens += remembered["", value]
        if ";" in value:
            # Of a mime type, what is before its parameters.
            out.tokens += tokens_of(base, "", value.partition(";")[0].rstrip())

    return emit


def _exact(index: str, _site: Site) -> Emit:
    """An id or a uri: case always matters."""

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
    read = _READ[criterion.modifier]
    found = Any(tuple(read(criterion, value) for value in criterion.values))
    predicate = found.parts[0] if len(found.parts) == 1 else found
    return Not(predicate) if criterion.modifier in ("not", "not-in") else predicate


def _token(criterion: Criterion, value: str) -> Predicate:
    parts = [unescape(part) for part in split(value, "|")]
    if len(parts) == 1:
        return code_is(criterion, None, parts[0])
    if len(parts) > 2 or parts == ["", ""]:
        raise criterion.bad(value, "is not code, system|code, |code or system|")
    system, code = parts
    implied = criterion.parameter.systems
    if implied and system:
        # The element holds bare codes: the system is the one that its definition implies.
        return code_is(criterion, "", code) if system in implied else FALSE
    return code_is(criterion, system, code)


def code_is(criterion: Criterion, system: str | None, code: str, index: str = "") -> Predicate:
    """The code in any case, unless it is known that case matters in its system. No code is any.

    A scope (``bodies`` False) is not widened by doubt.
    """
    index = index or criterion.index
    folded = code.casefold()
    if folded == code == code.upper() or _case_matters(criterion, system or ""):
        return TokenIs(index, system, code or None)
    return Any((TokenIs(index, system, folded), TokenIs(index, system, folded + FOLDED)))


def _case_matters(criterion: Criterion, system: str) -> bool:
    parameter, context = criterion.parameter, criterion.context
    if parameter.types and parameter.types <= _LITERAL:
        return True
    systems = parameter.systems or ({system} if system else frozenset[str]())
    if not systems or not all(map(context.case_matters, systems)):
        return not context.bodies and not criterion.modifier.startswith("not")
    return True


def _text(criterion: Criterion, value: str) -> Predicate:
    """The text of the concept, a display or the text of an identifier's type."""
    folded = fold(unescape(value))
    if not folded:
        raise criterion.bad(value, "has nothing to search for")
    return StringIs(f"{criterion.index}:text", folded)


def _text_query(criterion: Criterion, value: str) -> Predicate:
    """The same texts, by words: https://hl7.org/fhir/R5/search.html#modifiertextadvanced"""
    index = f"{criterion.index}:text"
    return parse_text(criterion.name, value, lambda words, prefix: TextHas(index, words, prefix))


def _of_type(criterion: Criterion, value: str) -> Predicate:
    parts = [unescape(part) for part in split(value, "|")]
    if len(parts) != 3 or not all(parts):
        raise criterion.bad(value, "is not type system|type code|value")
    system, code, wanted = parts
    return code_is(criterion, system, _typed(code, wanted), f"{criterion.index}:of-type")


def _members(criterion: Criterion, value: str) -> Predicate:
    """``:in``: a code of this value set, by url, url|version or ValueSet/id."""
    return _any_of(criterion, criterion.context.terminology.members(unescape(value)))


def _related(criterion: Criterion, value: str) -> Predicate:
    """``:below``: the code or one that it subsumes; ``:above``: or one that subsumes it.

    Mime types have no system: https://hl7.org/fhir/R4/search.html#mimetype
    """
    parts = [unescape(part) for part in split(value, "|")]
    if criterion.modifier == "below" and criterion.parameter.mime:
        if len(parts) != 1:
            raise criterion.bad(value, "is not a mime type")
        found = code_is(criterion, None, parts[0])
        return Any((found, code_is(criterion, None, parts[0], f"{criterion.index}:base")))
    if len(parts) == 1 and len(criterion.parameter.systems) == 1:
        parts.insert(0, *criterion.parameter.systems)
    if len(parts) != 2 or not all(parts):
        raise criterion.bad(value, "is not system|code")
    terminology = criterion.context.terminology
    find = terminology.below if criterion.modifier == "below" else terminology.above
    return _any_of(criterion, find(parts[0], parts[1]))


def _any_of(criterion: Criterion, codes: tuple[Code, ...]) -> Predicate:
    parameter = criterion.parameter
    if parameter.systems:
        codes = tuple(Code("", c.code) for c in codes if c.system in parameter.systems)
    elif not parameter.types & _SYSTEMATIC:
        codes = tuple(Code("", c.code) for c in codes)
    found = (code_is(criterion, c.system, c.code or "") for c in dict.fromkeys(codes))
    return Any(tuple(found))


_READ: Final[Mapping[str, Callable[[Criterion, str], Predicate]]] = {
    "": _token,
    "not": _token,
    "text": _text,
    "text-advanced": _text_query,
    "of-type": _of_type,
    "in": _members,
    "not-in": _members,
    "below": _related,
    "above": _related,
}
"""How a value reads under each modifier."""

_CODES: Final = _SYSTEMATIC | {"code"}
_LITERAL: Final = frozenset({"boolean", "id", "uri", "url", "canonical"})
"""Case matters in these, whatever they stand for."""

TOKEN = Kind(
    name="token",
    description="A coded value or an identifier: code, system|code, |code or system|",
    example="Observation?code=http://loinc.org|8867-4",
    modifiers=tuple(modifier for modifier in _READ if modifier),
    modifier_types={
        "text": _SYSTEMATIC | {"Identifier"},
        "text-advanced": _SYSTEMATIC | {"Identifier"},
        "of-type": frozenset({"Identifier"}),
    }
    | dict.fromkeys(("in", "not-in", "below", "above"), _CODES),
    compile=compile_token,
    readers={
        "Coding": _coding,
        "CodeableConcept": _concept,
        "Identifier": _identifier,
        "ContactPoint": _contact,
        "boolean": _boolean,
    }
    | dict.fromkeys(("code", "string"), _plain)
    | dict.fromkeys(("id", "uri", "url", "canonical"), _exact),
)
