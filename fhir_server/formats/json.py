"""FHIR JSON: https://hl7.org/fhir/R4/json.html, read strictly and written without loss.

A body is parsed once by msgspec; what that accepts and FHIR or safety do not (duplicate
keys, NUL, depth, sizes) is found by counting and by linear passes, never by a second parse
of a good body. Decimals stay exact: a lexeme that ``decimal.Decimal`` would print
differently is a ``Lexeme``. Every refusal is a BadRequest or TooLarge with a fixed text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import chain
from typing import Any, Final

import msgspec

from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, TooLarge

NUMBER_DIGITS: Final = 1000
"""Digits of a number written out without an exponent."""

_BASE64_MEMBERS: Final = frozenset({"data", "valueBase64Binary"})
"""Members that the string limit spares: content as base64 (Attachment, Binary, Signature)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one body may hold. ``body``: bytes; ``string``: characters
    (https://hl7.org/fhir/R4/datatypes.html#string: 1 MB); ``array``: items;
    ``depth``: nested objects and arrays; ``values``: commas and opening brackets.
    """

    body: int = 10_000_000
    depth: int = 64
    string: int = 1_048_576
    array: int = 100_000
    values: int = 600_000


DEFAULT_LIMITS: Final = Limits()


class Lexeme(Decimal):
    """A decimal that keeps the client's digits where Decimal would print others (``1e2``)."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Lexeme:
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __reduce__(self) -> tuple[type[Lexeme], tuple[str]]:
        return Lexeme, (self.text,)

    def __copy__(self) -> Lexeme:
        return self

    def __deepcopy__(self, memo: Any) -> Lexeme:
        return self


def number_text(number: int | Decimal) -> str:
    """The digits of a JSON number as the client wrote them."""
    return number.text if isinstance(number, Lexeme) else str(number)


def loads(body: bytes | bytearray | memoryview, limits: Limits = DEFAULT_LIMITS) -> Json:
    """The JSON object in ``body``: dict, list, str, bool, int, Decimal and None.

    Raises TooLarge (413) over ``limits.body``, BadRequest (400) for every other fault.
    """
    data = body if isinstance(body, bytes) else bytes(body)
    if len(data) > limits.body:
        raise TooLarge(f"The body is larger than {limits.body} bytes")
    _refuse_crowds(data, limits)
    _refuse_long_numbers(data)
    try:
        resource = _DECODER.decode(data)
        written = _ENCODER.encode(resource)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise _syntax(error) from None
    except RecursionError:
        raise _limit(f"nests deeper than {limits.depth} levels") from None
    if type(resource) is not dict:
        raise BadRequest("The body is not a JSON object", code="structure")
    _refuse_shape(written, resource, limits)
    if b"\\u0000" in written and b"\\u0000" in _neutral(written):
        raise BadRequest("The body has a NUL character (\\u0000)", code="structure")
    if written == data:
        return resource
    if _quotes(data) != _quotes(written):
        raise BadRequest(_name_duplicate(data), code="structure")
    return _keep_minus_zero(data, written, resource)


def recalled(body: bytes) -> Json:
    """The resource of a store's body, which was judged when it came in (-0 is read as 0): a third
    of the time of ``loads``."""
    resource: Json = _DECODER.decode(body)
    return resource


def same(one: bytes, other: bytes) -> bool:
    """Whether two bodies of the store say the same, in whatever order their members are."""
    return one == other or (
        len(one) == len(other)
        and _SORTING.encode(_DECODER.decode(one)) == _SORTING.encode(_DECODER.decode(other))
    )


def dumps_pretty(value: Any) -> bytes:
    """The same with two spaces of indentation."""
    return msgspec.json.format(_ENCODER.encode(value), indent=2)


def stored_form(resource: Json, id_: str, version_id: str, last_updated: str) -> bytes:
    """The minified bytes that a store keeps: resourceType, id and meta first.

    ``version_id`` and ``last_updated`` (an instant, as text) are the server's; the client's
    other members of meta follow them. ``resource`` is left as it is.
    """
    meta = resource.get("meta")
    kept = meta if isinstance(meta, dict) else {}
    head = {
        "resourceType": resource["resourceType"],
        "id": id_,
        "meta": {
            "versionId": version_id,
            "lastUpdated": last_updated,
            **_without(kept, _SERVER_META),
        },
    }
    return _ENCODER.encode({**head, **_without(resource, head)})


# https://hl7.org/fhir/R4/resource.html#Meta: these two are the server's.
_SERVER_META: Final = frozenset({"versionId", "lastUpdated", "_versionId", "_lastUpdated"})


def _without(source: Json, names: Iterable[str]) -> Json:
    return {name: value for name, value in source.items() if name not in names}


def _number(text: str) -> Decimal:
    if len(text) > NUMBER_DIGITS:
        raise _limit(f"has a number of more than {NUMBER_DIGITS} digits")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise _limit(f"has a number of more than {NUMBER_DIGITS} digits") from None
    if str(number) == text and "E" not in text:
        return number
    if abs(number.adjusted()) > NUMBER_DIGITS:
        raise _limit(f"has a number of more than {NUMBER_DIGITS} digits")
    return Lexeme(text)


def _lexeme(value: Any) -> msgspec.Raw:
    if isinstance(value, Lexeme):
        return msgspec.Raw(value.text.encode())
    raise TypeError(f"{type(value).__name__} is not a JSON value")


_DECODER: Final = msgspec.json.Decoder(float_hook=_number)
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number", enc_hook=_lexeme)
dumps: Final[Callable[[Any], bytes]] = _ENCODER.encode
"""Minified JSON in the order of the dict, number lexemes kept."""
_SORTING: Final = msgspec.json.Encoder(
    decimal_format="number", enc_hook=_lexeme, order="deterministic"
)


def _syntax(error: Exception) -> BadRequest:
    if isinstance(error, UnicodeError):
        return BadRequest("The body is not valid UTF-8", code="structure")
    if isinstance(error, msgspec.ValidationError):
        return _limit(f"has a number of more than {NUMBER_DIGITS} digits")
    return BadRequest("The body is not valid JSON", code="structure")


def _limit(fault: str) -> BadRequest:
    return BadRequest(f"The body {fault}", code="too-long")


def _neutral(data: bytes) -> bytes:
    """``data`` with every escaped backslash and quote replaced by as many bytes.

    A run of backslashes begins outside an escape, so pairs taken from its left end are
    escapes, and one that is left over escapes the next character.
    """
    escapes = data.count(b"\\")
    if not escapes:
        return data
    if escapes * _SELDOM < len(data):  # then most of the time goes into looking for them
        return _ESCAPED.sub(b"__", data)
    return data.replace(b"\\\\", b"__").replace(b'\\"', b"__")


_ESCAPED: Final = re.compile(rb'\\[\\"]')
_SELDOM: Final = 32


def _quotes(data: bytes) -> int:
    """How many quotes delimit strings.

    Every key and every string has two. The parser keeps one member of each name, so the
    count after writing equals the one before exactly when no member was dropped.
    """
    return _neutral(data).count(b'"')


def _outside(data: bytes) -> bytes:
    """What stands outside the strings of valid JSON."""
    return b"".join(_neutral(data).split(b'"')[::2])


def _crowd(data: bytes) -> int:
    return data.count(b",") + data.count(b"{") + data.count(b"[")


def _refuse_crowds(data: bytes, limits: Limits) -> None:
    """Before parsing: more values than memory should be spent on.

    A value has at most one name and is at most one string, so that many quotes alone
    convict, and the exact count meets only as many strings.
    """
    if len(data) <= limits.values or _crowd(data) <= limits.values:
        return
    if _quotes(data) > 4 * limits.values + 4 or _crowd(_outside(data)) > limits.values:
        raise _limit(f"has more than {limits.values} values")


_BRACES: Final = bytes.maketrans(b"[]", b"{}")
_NOT_BRACES: Final = bytes(set(range(256)) - set(b"[]{}"))
_NOT_MARKS: Final = bytes(set(_NOT_BRACES) - set(b'"'))


def _refuse_shape(written: bytes, resource: Json, limits: Limits) -> None:
    """Depth and sizes. Small bodies are told by counts alone, most large ones by what stands
    between their quotes; the rest are walked.
    """
    size = len(written)
    large = size > limits.string or (size > limits.array and written.count(b",") >= limits.array)
    if not large and written.count(b"{") + written.count(b"[") <= limits.depth:
        return
    if not large:
        _refuse_depth(_brackets(written), limits.depth)
        return
    pieces = _neutral(written).split(b'"')
    outside = b"".join(pieces[::2])
    _refuse_depth(outside, limits.depth)
    if max(map(len, pieces)) > limits.string or outside.count(b",") >= limits.array:
        check_sizes(resource, limits)


def _brackets(data: bytes) -> bytes:
    """The brackets outside the strings of valid JSON, written as braces.

    Of quotes and brackets alone, a string without brackets is two quotes that follow each other.
    Pairs can go: how many quotes stand before a bracket stays odd or even.
    """
    left = _neutral(data).translate(_BRACES, _NOT_MARKS).replace(b'""', b"")
    return b"".join(left.split(b'"')[::2])


def _refuse_depth(outside: bytes, depth: int) -> None:
    """Of the brackets alone, each round takes the innermost level away."""
    left = outside.translate(_BRACES, _NOT_BRACES)
    for _ in range(depth):
        left = left.replace(b"{}", b"")
        if not left:
            return
    raise _limit(f"nests deeper than {depth} levels")


def _levels(resource: Json) -> Iterator[tuple[list[Json], list[list[Any]]]]:
    """The objects and the arrays of each level of nesting, from the outermost."""
    objects: list[Json] = [resource]
    arrays: list[list[Any]] = []
    while objects or arrays:
        yield objects, arrays
        children = [*chain.from_iterable(map(dict.values, objects)), *chain.from_iterable(arrays)]
        objects = [child for child in children if type(child) is dict]
        arrays = [child for child in children if type(child) is list]


_DIGITS: Final = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_NUMBER: Final = b"0" * (NUMBER_DIGITS + 1)


def _refuse_long_numbers(data: bytes) -> None:
    """Integers; decimals are measured as they are parsed.

    A run of over 1,000 digits covers four of the bytes 250 apart, so most bodies need a
    look at one byte in 250.
    """
    if b"0000" not in data[::250].translate(_DIGITS):
        return
    if _LONG_NUMBER in data.translate(_DIGITS) and _LONG_NUMBER in _outside(data).translate(
        _DIGITS
    ):
        raise _limit(f"has a number of more than {NUMBER_DIGITS} digits")


def check_sizes(resource: Json, limits: Limits) -> None:
    for objects, arrays in _levels(resource):
        for members in objects:
            _refuse_members(members, limits)
        for items in arrays:
            _refuse_array(items, limits)


def _refuse_array(items: list[Any], limits: Limits) -> None:
    if len(items) > limits.array:
        raise _limit(f"has an array of more than {limits.array} items")
    for item in items:
        if type(item) is str and len(item) > limits.string:
            raise _limit(f"has a string of more than {limits.string} characters")


def _refuse_members(members: Json, limits: Limits) -> None:
    for name, value in members.items():
        long = type(value) is str and len(value) > limits.string and name not in _BASE64_MEMBERS
        if long or len(name) > limits.string:
            raise _limit(f"has a string of more than {limits.string} characters")


_MINUS_ZERO: Final = re.compile(rb"-0[,}\]\s]")


def _keep_minus_zero(data: bytes, written: bytes, resource: Json) -> Json:
    """The parser reads ``-0`` as the integer 0: a body that has one is parsed again.

    Only that takes a minus sign away, and only an escape (``\\u002d``) adds one.
    """
    if data.count(b"-") == written.count(b"-") and b"\\u002" not in data:
        return resource
    if not _MINUS_ZERO.search(_outside(data)):
        return resource
    again: Json = json.loads(data, parse_float=_number, parse_int=_integer)
    return again


def number(text: str) -> int | Decimal:
    """The value of a JSON number, digits kept."""
    return _number(text) if any(mark in text for mark in ".eE") else _integer(text)


def _integer(text: str) -> int | Decimal:
    return Lexeme(text) if text == "-0" else int(text)


def _name_duplicate(data: bytes) -> str:
    """Parse a body with a duplicate key again, slowly, for a diagnostic that names it."""
    found: list[str] = []

    def pairs(members: list[tuple[str, Any]]) -> None:
        if not found and len(dict(members)) < len(members):
            seen: set[str] = set()
            for name, _ in members:
                if name in seen:
                    found.append(name)
                    return
                seen.add(name)

    json.loads(data, object_pairs_hook=pairs, parse_float=len, parse_int=len)
    return f"The body has the key {json.dumps(found[0][:80])} twice in one object"
