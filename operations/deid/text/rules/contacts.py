"""Telephone, fax, e-mail, web and network addresses, handles."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from operations.deid.text.numbers import digits
from operations.deid.text.spans import Span

_TOP: Final = (
    "com|org|net|edu|gov|mil|int|info|biz|io|co|me|health|care|clinic|online|site|app|dev|example|"
    "invalid|test|local|ua|укр|ru|рф|su|by|kz|uk|us|ca|au|de|fr|it|es|pl|cz|eu|jp|in|ch|at|nl|se|"
    "no|dk|fi|ie|il|tr|ge|md|lt|lv|ee|ro|hu|bg|gr|pt|be|br|mx|cn|kr|za|nz"
)

EMAIL: Final = re.compile(
    r"(?<![\w.+-])(?:mailto:)?[\w.!#$%&'*+/=?^`{|}~-]{1,64}\s?@\s?(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}\b"
)
URL: Final = re.compile(
    r"\b(?:https?|ftp|sftp|s3|file|wss?)://[^\s<>\"'«»]+"
    r"|\bwww\.[^\s<>\"'«»]+"
    rf"|(?<![\w@.-])(?:[a-z0-9][a-z0-9-]{{0,62}}\.){{1,6}}(?:{_TOP})(?:/[^\s<>\"'«»]*|(?![\w.-]))",
    re.IGNORECASE,
)
_TRAILING: Final = ".,;:!?)]}'\"»"

_IPV4: Final = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?(?![\d.]*\d)")
_IPV6: Final = re.compile(
    r"(?<![\w:])(?:[0-9a-f]{1,4}:){2,7}(?::?[0-9a-f]{1,4}){1,6}(?![\w:])"
    r"|(?<![\w:])(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}(?![\w:])|(?<![\w:])::1(?![\w:])",
    re.IGNORECASE,
)
_MAC: Final = re.compile(r"\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b", re.IGNORECASE)

_HANDLE: Final = re.compile(r"(?<![\w@.])@[A-Za-z][\w.]{2,31}\b")

PHONE: Final = re.compile(
    r"""(?<![\w+.,/-])(?:
      \(?(?:\+|00)\s?\d{1,3}\)?[\s.\-]?(?:\(\d{1,5}\)[\s.\-]?)?\d{1,4}(?:[\s.\-]?\d{1,4}){1,5}
    | (?:8|1|38|7|0)?[\s.\-]{0,2}\(\d{2,5}\)[\s.\-]{0,2}\d{1,4}(?:[\s.\-]?\d{1,4}){1,4}
    | (?:1[\s.\-])?[1-9]\d{2}[\s.\-]\d{3}[\s.\-]\d{4}
    | 8[\s\-]?\d{3}[\s\-]?\d{3}[\s\-]?\d{2}[\s\-]?\d{2}
    | 0\d{2}[\s.\-]?\d{3}[\s.\-]?\d{2}[\s.\-]?\d{2}
    | 0\d{3}\.\d{4}
    | 0\d{2,4}[\s.\-]\d{3,4}[\s.\-]\d{3,4}
    | 0\d{1,3}[\s.\-]\d{2,4}(?:[\s.\-]\d{2,4}){2,3}
    )(?:\s?(?:x|ext\.?|доб\.?|дод\.?|вн\.?)\s?\d{1,6})?(?![\w-]|[.,]\d)""",
    re.VERBOSE | re.IGNORECASE,
)
_GROUPS: Final = re.compile(
    r"(?<![\w+.,/:-])(?:1[ -])?\d{2,6}(?:[ \-]\d{2,7}){1,5}(?![\w-]|[.,/:]\d|\s?(?:%|мл|мг|ml|mg|mcg|IU|МО|МЕ|ОД|cells|кл|грн|руб|USD|\$|€))"
)
"""Any groups of digits that are as many as those of a telephone number."""
_YEARS: Final = re.compile(r"(?:(?:19|20)\d\d[ -]?){2,}")
_LABELLED: Final = re.compile(
    r"""\b(?:phone|tel|telephone|mobile|cell|fax|callback|pager|call|contact\ number|
    тел|телефон\w{0,4}|моб|мобільн\w+|мобильн\w+|факс|конт\.?\ ?тел|viber|whatsapp|telegram|вайбер|ватсап)
    (?:\s?(?:no|number|номер|is|at|on|№|моб|дом|роб|раб))*[\s.:№#\-]{0,4}
    (?P<number>\+?\(?\d[\d\s().\-]{3,18}\d)(?:\s?(?:x|ext\.?|доб\.?|дод\.?)\s?\d{1,6})?(?![\w%]|[.,]\d)""",
    re.VERBOSE | re.IGNORECASE,
)


def contacts(text: str) -> Iterator[Span]:
    """Every contact that has the form of one."""
    if "@" in text:
        yield from (Span(*m.span(), "EMAIL") for m in EMAIL.finditer(text))
        yield from (Span(*m.span(), "URL") for m in _HANDLE.finditer(text))
    if "." in text or "://" in text:
        yield from _urls(text)
    yield from _networks(text)
    for match in PHONE.finditer(text):
        if 9 <= len(digits(match[0])) <= 21:
            yield Span(*match.span(), "PHONE")
    for match in _GROUPS.finditer(text):
        if 7 <= len(digits(match[0])) <= 15 and not _YEARS.fullmatch(match[0]):
            yield Span(*match.span(), "PHONE")
    for match in _LABELLED.finditer(text):
        if 5 <= len(digits(match["number"])) <= 16:
            yield Span(match.start("number"), match.end(), "PHONE")


def _urls(text: str) -> Iterator[Span]:
    for match in URL.finditer(text):
        found = match[0].rstrip(_TRAILING)
        yield Span(match.start(), match.start() + len(found), "URL")


def _networks(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text):
        if all(int(part) < 256 for part in match[0].partition(":")[0].split(".")):
            yield Span(*match.span(), "IP")
    if text.count(":") > 1:
        for match in _IPV6.finditer(text):
            if _is_ip(match[0]):
                yield Span(*match.span(), "IP")
        yield from (Span(*m.span(), "IP") for m in _MAC.finditer(text))


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
