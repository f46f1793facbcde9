r"""Splitting and unescaping of search values: ``\,`` ``\|`` ``\$`` ``\\``.

https://hl7.org/fhir/R4/search.html#escaping, applied after percent-decoding. A backslash
before any other character, or at the end, stands for itself here; a criterion refuses it.
"""

from __future__ import annotations

import re

_MEANT = re.compile(r"([,|$\\])")
_ESCAPED = re.compile(r"\\([,|$\\])")


def split(text: str, separator: str) -> list[str]:
    """Parts between separators that are not escaped; the parts stay escaped."""
    if "\\" not in text:
        return text.split(separator)
    parts, start, at = [], 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        if text[at] == separator:
            parts.append(text[start:at])
            start = at + 1
        at += 1
    parts.append(text[start:])
    return parts


def escape(text: str) -> str:
    return _MEANT.sub(r"\\\1", text)


def unescape(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text
