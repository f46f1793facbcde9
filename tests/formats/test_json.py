"""FHIR JSON read strictly, written without loss."""

from __future__ import annotations

import contextlib
import copy
import json as stdlib
import pickle
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.formats.json import (
    Lexeme,
    Limits,
    dumps,
    dumps_pretty,
    loads,
    number_text,
    recalled,
    same,
    stored_form,
)
from fhir_server.model.problem import BadRequest, Problem, TooLarge

REFUSED: list[tuple[str, bytes]] = [
    ("empty", b""),
    ("white space", b" \n"),
    ("truncated", b'{"a":1'),
    ("trailing garbage", b'{"a":1} x'),
    ("second value", b"{}{}"),
    ("byte order mark", b"\xef\xbb\xbf{}"),
    ("UTF-16", '{"a":1}'.encode("utf-16")),
    ("not an object", b"[]"),
    ("a string", b'"a"'),
    ("null", b"null"),
    ("NaN", b'{"a":NaN}'),
    ("Infinity", b'{"a":-Infinity}'),
    ("leading zero", b'{"a":01}'),
    ("plus sign", b'{"a":+1}'),
    ("bare point", b'{"a":1.}'),
    ("no integer part", b'{"a":.5}'),
    ("hexadecimal", b'{"a":0x1}'),
    ("trailing comma", b'{"a":1,}'),
    ("comment", b'{"a":1/*x*/}'),
    ("single quotes", b"{'a':1}"),
    ("raw control character", b'{"a":"\n"}'),
    ("raw NUL", b'{"a":"\x00"}'),
    ("escaped NUL", b'{"a":"x\\u0000"}'),
    ("escaped NUL in a key", b'{"a\\u0000":1}'),
    ("NUL after an escaped backslash", b'{"a":"\\\\\\u0000"}'),
    ("lone high surrogate", b'{"a":"\\ud83d"}'),
    ("lone low surrogate", b'{"a":"\\ude00"}'),
    ("surrogate in UTF-8", b'{"a":"\xed\xa0\x80"}'),
    ("overlong UTF-8", b'{"a":"\xc0\x80"}'),
    ("Latin-1", b'{"a":"\xe9"}'),
    ("Latin-1 key", b'{"a\xe9":1}'),
    ("bad escape", b'{"a":"\\x"}'),
    ("duplicate key", b'{"a":1,"a":2}'),
    ("duplicate key, equal values", b'{"a":"x","a":"x"}'),
    ("duplicate key, empty values", b'{"a":{},"a":{}}'),
    ("duplicate empty key", b'{"":1,"":1}'),
    ("duplicate by escape", b'{"a":1,"\\u0061":1}'),
    ("duplicate deep in an array", b'{"a":[1,{"b":[{"c":null,"d":1,"c":null}]}]}'),
    ("duplicate beside escaped quotes", b'{"a":"\\"\\\\","b":"\\\\\\"","a":"\\""}'),
    ("huge exponent", b'{"a":1e999999999}'),
    ("exponent past the decimal library", b'{"a":1e99999999999999999999}'),
    ("tiny exponent", b'{"a":1E-5000}'),
    ("long integer", b'{"a":' + b"1" * 1001 + b"}"),
    ("integer past the interpreter's limit", b'{"a":' + b"7" * 5000 + b"}"),
    ("long decimal", b'{"a":0.' + b"1" * 1001 + b"}"),
    ("deep objects", b'{"a":' * 65 + b"1" + b"}" * 65),
    ("deep arrays", b'{"a":' + b"[" * 64 + b"]" * 64 + b"}"),
    ("depth hidden by brackets in strings", b'{"]":' + b'["]",' * 64 + b"1" + b"]" * 64 + b"}"),
    ("unclosed arrays", b"[" * 100_000),
    ("unclosed objects", b'{"a":' * 100_000),
]


@pytest.mark.parametrize("body", [b for _, b in REFUSED], ids=[n for n, _ in REFUSED])
def test_refused(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        loads(body)
    (issue,) = caught.value.issues
    assert issue.code in ("structure", "too-long")
    assert "byte " not in issue.diagnostics and "Error" not in issue.diagnostics


ACCEPTED = [
    b"{}",
    b'{"a":"\\"","b":"\\\\","c":"\\\\\\"","d":"{[\\"","\\\\":1}',
    b'{"a":"\\\\u0000"}',
    b'{"a":' + b"[" * 63 + b"]" * 63 + b"}",
    b'{"a":"' + b"[" * 1000 + b'"}',
    b'{"a":"' + b"1" * 2000 + b'"}',
    b'{"a":' + b"9" * 1000 + b"}",
    b'{"a":[{"b":1},{"b":1}],"b":1}',
    '{"a":"Київ \U0001f600 \u2028","ї":true}'.encode(),
    b'{"a":[null,1,-1,0,1.50,-0.0,0.0000001,1e2,1E+2,-0,1.10e-7,100000000000000000000.0]}',
    b'{"a":"-0, ","b":-0}',
    b'{"a":-0}',
    b'{"a":" -0 ","b":0}',
]


@pytest.mark.parametrize("body", ACCEPTED, ids=range(len(ACCEPTED)))
def test_accepted_and_given_back(body: bytes) -> None:
    kept = body.replace(b"\\u2028", "\u2028".encode())
    assert dumps(loads(body)) == kept
    assert recalled(kept) == loads(body)


def test_numbers_are_exact() -> None:
    values = loads(b'{"a":[1,1.50,1e2,-0,1E5]}')["a"]
    assert [type(v) for v in values] == [int, Decimal, Lexeme, Lexeme, Lexeme]
    assert values == [1, Decimal("1.5"), 100, 0, 100000]
    assert [number_text(v) for v in values] == ["1", "1.50", "1e2", "-0", "1E5"]


def test_a_lexeme_survives_copies() -> None:
    lexeme = Lexeme("1e2")
    for twin in (copy.copy(lexeme), copy.deepcopy(lexeme), pickle.loads(pickle.dumps(lexeme))):
        assert twin == lexeme and number_text(twin) == "1e2"


def test_the_diagnostic_names_the_duplicate() -> None:
    with pytest.raises(BadRequest, match='"family"'):
        loads(b'{"given":["A"],"name":[{"family":"A","use":"usual","family":"B"}]}')


def test_body_limit_is_413() -> None:
    with pytest.raises(TooLarge):
        loads(b'{"a":"' + b"x" * 100 + b'"}', Limits(body=100))


SIZES = [
    (b'{"a":"' + b"x" * 101 + b'"}', False),
    (b'{"a":["' + b"x" * 101 + b'"]}', False),
    (b'{"' + b"x" * 101 + b'":1}', False),
    ('{"a":"' + "ї" * 100 + '"}', True),
    (b'{"a":"' + b"x" * 100 + b'"}' + b" " * 100, True),
    (b'{"data":"' + b"x" * 101 + b'"}', True),
    (b'{"a":[' + b"1," * 50 + b"1]}" + b" " * 99, False),
    (b'{"a":[' + b"1," * 49 + b"1]}" + b" " * 99, True),
    (b'{"a":[' + b"1," * 30 + b'1],"b":[' + b"1," * 30 + b"1]}", True),
    (b'{"a":"' + b"," * 90 + b'","b":"' + b"," * 90 + b"," * 9 + b'"}', True),
    (b'{"a":[' + b"1," * 40 + b'1],"b":[' + b"1," * 40 + b"1]," + b'"c":[1,{"d":[1,2,3]}]}', True),
]


@pytest.mark.parametrize(("body", "good"), SIZES, ids=range(len(SIZES)))
def test_limits_of_strings_arrays_and_values(body: bytes | str, good: bool) -> None:
    data = body if isinstance(body, bytes) else body.encode()
    padded = data.ljust(1100)
    limits = Limits(string=100, array=50, values=100)
    if good:
        assert loads(padded, limits)
    else:
        with pytest.raises(BadRequest):
            loads(padded, limits)


def test_too_many_values() -> None:
    loads(b'{"a":[' + b"{}," * 48 + b"{}]}", Limits(values=99))
    with pytest.raises(BadRequest, match="99 values"):
        loads(b'{"a":[' + b"{}," * 49 + b"{}]}", Limits(values=99))


HOSTILE: dict[str, bytes] = {
    "arrays of nothing": b'{"a":[' + b"[]," * 3_300_000 + b"[]]}",
    "arrays, just under the limit of values": b'{"a":[' + b"[],\n" * 299_000 + b"[]]}",
    "objects, just under": b'{"a":[' + b'[{"a":1}],' * 199_000 + b"[]]}",
    "distinct keys": b"{" + b",".join(b'"%d":1' % i for i in range(590_000)) + b"}",
    "one key many times": b"{" + b'"a":1,' * 599_000 + b'"a":1}',
    "backslashes": b'{"a":"' + b"\\\\" * 4_990_000 + b'"}',
    "quotes": b'{"a":"' + b'\\"' * 4_990_000 + b'"}',
    "quotes and commas": b'{"a":"' + b'\\",' * 3_300_000 + b'"}',
    "empty strings": b'{"a":[' + b'"",' * 3_300_000 + b'""]}',
    "brackets in a string": b'{"a":"' + b"[" * 9_990_000 + b'"}',
    "nested": b'{"a":[' + b",".join([b"[" * 500 + b"]" * 500] * 1900) + b"]}",
    "nested to the limit": b'{"a":[' + b",".join([b"[" * 62 + b"]" * 62] * 9_500) + b"]}",
    "a million digits": b'{"a":' + b"1" * 1_000_000 + b"}",
    "a million decimals": b'{"a":0.' + b"1" * 1_000_000 + b"}",
    "long integers": b'{"a":[' + b",".join([b"1" * 1000] * 9_900) + b"]}",
    "longer integers": b'{"a":[' + b",".join([b"1" * 4200] * 2_300) + b"]}",
    "exponents": b'{"a":[' + b"1e9," * 99_000 + b"1]}",
    "minus zeros": b'{"a":[' + b"-0," * 99_999 + b"-0]}",
    "minus zeros in objects": b'{"a":[' + b'{"a":-0,"b":-0},' * 33_000 + b"-0]}",
    "minus zeros in strings": b'{"a":"' + b"-0," * 3_300_000 + b'"}',
    "escaped NULs": b'{"a":"' + b"\\u0000" * 1_660_000 + b'"}',
    "a bad byte at the end": b'{"a":"' + b"x" * 9_990_000 + b'\xff"}',
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bodies_cost_little_more_than_good_ones(name: str) -> None:
    """About half a second for 10 MB; the bound is a ratio, so that a busy machine passes."""
    body = HOSTILE[name]
    assert len(body) <= 10_000_000
    assert min(_cost(body), _cost(body)) < 60 * _unit()


def _unit() -> float:
    """CPU seconds of one good body of 10 MB with long strings."""
    body = b'{"a":[' + b",".join([b'"' + b"x" * 99_990 + b'"'] * 99) + b"]}"
    return max(min(_cost(body) for _ in range(3)), 0.05)


def _cost(body: bytes) -> float:
    start = time.process_time()
    with contextlib.suppress(Problem):
        loads(body)
    return time.process_time() - start


def test_pretty_keeps_number_lexemes() -> None:
    assert dumps_pretty(loads(b'{"a":1.50,"b":[1e2]}')) == (
        b'{\n  "a": 1.50,\n  "b": [\n    1e2\n  ]\n}'
    )


def test_stored_form_leads_with_type_id_and_meta() -> None:
    resource = loads(
        b'{"active":true,"meta":{"tag":[{"code":"x"}],"versionId":"9","profile":["p"],'
        b'"lastUpdated":"2001"},"id":"mine","resourceType":"Patient","multipleBirthInteger":2}'
    )
    before = copy.deepcopy(resource)
    assert stored_form(resource, "1", "2", "2026-01-01T00:00:00.000Z") == (
        b'{"resourceType":"Patient","id":"1","meta":{"versionId":"2",'
        b'"lastUpdated":"2026-01-01T00:00:00.000Z","tag":[{"code":"x"}],"profile":["p"]},'
        b'"active":true,"multipleBirthInteger":2}'
    )
    assert resource == before


def test_every_official_example_comes_back(shared: Path) -> None:
    files = sorted((shared / "conformance" / "examples").glob("*.json"))
    assert len(files) > 300
    for file in files:
        body = file.read_bytes()
        if body.startswith(b"\xef\xbb\xbf"):
            body = body[3:]
        resource = loads(body)
        again = stored_form(resource, "1", "1", "2026-01-01T00:00:00.000Z")
        assert _oracle(dumps(resource)) == _oracle(body), file.name
        sent, back = _oracle(body), _oracle(again)
        for members in (sent, back):
            members.pop("id", None)
            meta = members.pop("meta", {})
            members["meta"] = {k: v for k, v in meta.items() if k in ("tag", "profile", "security")}
        assert back == sent, file.name


def _oracle(body: bytes) -> dict[str, Any]:
    """The standard library's reading, every number as its text."""
    value = stdlib.loads(body, parse_float=lambda s: ("#", s), parse_int=lambda s: ("#", s))
    assert isinstance(value, dict)
    return value


_NAMES = st.sampled_from(["a", "b", "", '"', "\\", '\\"', "[", "}", ",", "\\u0061", "ї", "-0"])
_TEXTS = st.one_of(_NAMES, st.text(st.characters(exclude_categories=["Cs"]), max_size=6))
_NUMBERS = st.one_of(
    st.integers().map(str),
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,4})?([eE][-+]?[0-9]{1,2})?\Z"),
)


def _spell(text: str, escaped: bool) -> str:
    return stdlib.dumps(text, ensure_ascii=escaped)


def _object(members: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{name}:{value}" for name, value in members) + "}"


_STRINGS = st.builds(_spell, _TEXTS, st.booleans())
_VALUES = st.recursive(
    st.one_of(_STRINGS, _NUMBERS, st.sampled_from(["true", "null", "{}", "[]", '""'])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: "[ " + " , ".join(items) + "]"),
        st.lists(st.tuples(_STRINGS, inner), max_size=4).map(_object),
    ),
    max_leaves=12,
)
_BODIES = st.lists(st.tuples(_STRINGS, _VALUES), max_size=5).map(_object)


def _has_duplicates(body: str) -> bool:
    found = False

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        found = found or len({name for name, _ in members}) < len(members)
        return dict(members)

    stdlib.loads(body, object_pairs_hook=pairs)
    return found


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(_BODIES)
def test_agrees_with_the_standard_library(body: str) -> None:
    """Duplicate keys are refused exactly; everything else comes back with its lexemes."""
    data = body.encode()
    plain = stdlib.loads(body, parse_float=str, parse_int=str)
    nul = "\x00" in repr(plain) or "\\x00" in repr(plain)
    if nul:
        return
    try:
        resource = loads(data)
    except BadRequest as problem:
        assert _has_duplicates(body), problem
        return
    assert not _has_duplicates(body)
    assert _oracle(dumps(resource)) == _oracle(data)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(_BODIES, st.data())
def test_damaged_bodies_are_refused_or_read_as_the_standard_library_does(
    body: str, data: st.DataObject
) -> None:
    damaged = bytearray(body.encode())
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        resource = loads(damaged)
    except BadRequest:
        return
    assert _oracle(dumps(resource)) == _oracle(bytes(damaged))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (b'{"a":1,"b":[{"c":2,"d":"x"}]}', b'{"b":[{"d":"x","c":2}],"a":1}', True),
        (b'{"a":1.50}', b'{"a":1.50}', True),
        (b'{"a":1.50,"b":1}', b'{"b":1,"a":1.05}', False),
        (b'{"a":100.0,"b":1}', b'{"b":1,"a":10e1 }', False),
        (b'{"a":[1,2],"b":1}', b'{"b":1,"a":[2,1]}', False),
        (b'{"a":1}', b'{"a":1,"b":2}', False),
    ],
)
def test_same_in_whatever_order(one: bytes, other: bytes, expected: bool) -> None:
    assert same(one, other) is expected
