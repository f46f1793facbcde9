"""Strings: http://hl7.org/fhirpath/N1/#string-manipulation (and those of 2.1, marked so)."""

from __future__ import annotations

import base64
import binascii
import html
import json
import re

from fhir_server.fhirpath.context import Run
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.functions.registry import Kind, function, scalar, value_of
from fhir_server.fhirpath.node import Collection, Node
from fhir_server.fhirpath.regex import Regex

_JSON_ESCAPE = re.compile(r'(?:\\u[0-9A-Fa-f]{4})+|\\["\\/bfnrt]')


def substring(text: str, start: int, length: int | None = None) -> str | None:
    if not 0 <= start < len(text):
        return None
    return text[start:] if length is None else text[start : start + max(length, 0)]


def matches(run: Run, items: Collection, pattern: Collection) -> Collection:
    return _match(run, "matches", items, pattern, whole=False)


def matches_full(run: Run, items: Collection, pattern: Collection) -> Collection:
    return _match(run, "matchesFull", items, pattern, whole=True)


def _match(
    run: Run, name: str, items: Collection, pattern: Collection, *, whole: bool
) -> Collection:
    text = value_of(name, Kind.TEXT, items)
    regex = value_of(name, Kind.TEXT, pattern)
    if text is None or regex is None:
        return []
    return [Regex.of(regex).matches(text, run.spend, whole=whole)]


def replace(run: Run, items: Collection, pattern: Collection, new: Collection) -> Collection:
    text = value_of("replace", Kind.TEXT, items)
    old = value_of("replace", Kind.TEXT, pattern)
    substitution = value_of("replace", Kind.TEXT, new)
    if text is None or old is None or substitution is None:
        return []
    run.fits(len(text) + text.count(old) * (len(substitution) - len(old)))
    return [text.replace(old, substitution)]


def replace_matches(
    run: Run, items: Collection, pattern: Collection, new: Collection
) -> Collection:
    text = value_of("replaceMatches", Kind.TEXT, items)
    regex = value_of("replaceMatches", Kind.TEXT, pattern)
    substitution = value_of("replaceMatches", Kind.TEXT, new)
    if text is None or regex is None or substitution is None:
        return []
    if not regex:
        return [text]
    return [run.text(Regex.of(regex).replace(text, substitution, run.spend))]


def split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def join(run: Run, items: Collection, separator: Collection | None = None) -> Collection:
    between = "" if separator is None else value_of("join", Kind.TEXT, separator) or ""
    texts = [item.system if isinstance(item, Node) else item for item in items]
    if any(not isinstance(text, str) for text in texts):
        raise FhirPathError("join() takes texts")
    # Of nothing an empty text, as the cases of SQL on FHIR have it ("string join").
    run.spend(len(texts))
    return [run.text(between.join(str(text) for text in texts))]


def encode(text: str, form: str) -> str | None:
    data = text.encode()
    match form:
        case "hex":
            return data.hex()
        case "base64":
            return base64.b64encode(data).decode()
        case "urlbase64":
            return base64.urlsafe_b64encode(data).decode()
    return None


def decode(text: str, form: str) -> str | None:
    try:
        match form:
            case "hex":
                return bytes.fromhex(text).decode()
            case "base64":
                return base64.b64decode(text, validate=True).decode()
            case "urlbase64":
                return base64.b64decode(text, altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise FhirPathError(f"decode() found no {form}") from None
    return None


def escape(text: str, form: str) -> str | None:
    match form:
        case "html":
            return html.escape(text)
        case "json":
            return json.dumps(text, ensure_ascii=False)[1:-1]
    return None


def unescape(text: str, form: str) -> str | None:
    match form:
        case "html":
            return html.unescape(text)
        case "json":
            return _unescape_json(text)
    return None


def _unescape_json(text: str) -> str:
    """Escapes only: quotes that are not escaped stay."""
    return _JSON_ESCAPE.sub(lambda escape: str(json.loads(f'"{escape[0]}"')), text)


TEXT, INTEGER, COLLECTION = Kind.TEXT, Kind.INTEGER, Kind.COLLECTION
FUNCTIONS = (
    scalar(
        "indexOf",
        str.find,
        TEXT,
        TEXT,
        doc="Where a text begins, -1 when nowhere",
        example=("'abc'.indexOf('c')", 2),
    ),
    scalar(
        "substring",
        substring,
        TEXT,
        INTEGER,
        INTEGER,
        optional=1,
        doc="From a position (for a length)",
        example=("'abcd'.substring(1, 2)", "bc"),
    ),
    scalar(
        "startsWith",
        str.startswith,
        TEXT,
        TEXT,
        doc="Does it begin so?",
        example=("'abc'.startsWith('ab')", True),
    ),
    scalar(
        "endsWith",
        str.endswith,
        TEXT,
        TEXT,
        doc="Does it end so?",
        example=("'abc'.endsWith('ab')", False),
    ),
    scalar(
        "contains",
        str.__contains__,
        TEXT,
        TEXT,
        doc="Is the text in it?",
        example=("'abc'.contains('b')", True),
    ),
    scalar("upper", str.upper, TEXT, doc="In capitals", example=("'aé'.upper()", "AÉ")),
    scalar("lower", str.lower, TEXT, doc="In small letters", example=("'AÉ'.lower()", "aé")),
    function(
        "replace",
        replace,
        COLLECTION,
        COLLECTION,
        doc="One text for another, everywhere",
        example=("'banana'.replace('an', 'x')", "bxxa"),
    ),
    function(
        "matches",
        matches,
        COLLECTION,
        doc="Is a part of it of the pattern?",
        example=("'a1b'.matches('[0-9]')", True),
    ),
    function(
        "matchesFull",
        matches_full,
        COLLECTION,
        doc="Is all of it of the pattern? (2.1)",
        example=("'a1b'.matchesFull('[0-9]')", False),
    ),
    function(
        "replaceMatches",
        replace_matches,
        COLLECTION,
        COLLECTION,
        doc="A text for what is of the pattern; $1 is a group",
        example=("'ab12'.replaceMatches('([a-z])([0-9])', '$2$1')", "a1b2"),
    ),
    scalar("length", len, TEXT, doc="How many characters", example=("'abc'.length()", 3)),
    scalar("toChars", list, TEXT, doc="Each character", example=("'ab'.toChars()", "a", "b")),
    scalar(
        "trim",
        str.strip,
        TEXT,
        doc="Without white space around (2.1)",
        example=("' a '.trim()", "a"),
    ),
    scalar(
        "split",
        split,
        TEXT,
        TEXT,
        doc="The parts between a separator (2.1)",
        example=("'a,b'.split(',')", "a", "b"),
    ),
    function(
        "join",
        join,
        COLLECTION,
        optional=1,
        doc="All texts as one (2.1)",
        example=("('a' | 'b').join('-')", "a-b"),
    ),
    scalar(
        "encode",
        encode,
        TEXT,
        TEXT,
        doc="As hex, base64 or urlbase64 (2.1)",
        example=("'a'.encode('hex')", "61"),
    ),
    scalar(
        "decode",
        decode,
        TEXT,
        TEXT,
        doc="From hex, base64 or urlbase64 (2.1)",
        example=("'61'.decode('hex')", "a"),
    ),
    scalar(
        "escape",
        escape,
        TEXT,
        TEXT,
        doc="For html or json (2.1)",
        example=("'<'.escape('html')", "&lt;"),
    ),
    scalar(
        "unescape",
        unescape,
        TEXT,
        TEXT,
        doc="From html or json (2.1)",
        example=("'&lt;'.unescape('html')", "<"),
    ),
)
