"""What a patient may see of a request as it was asked: nothing that names anybody else."""

from __future__ import annotations

import re
from typing import Final

_TELLING: Final = """
    _count _elements _format _include _lastUpdated _profile _revinclude _security _since _sort
    _summary _tag _total _type asOf category class clinical-status code code-value-quantity
    component-code date end format intent issued language model onset-date performed period
    profile purpose recorded-date start status store type value-quantity"""
TELLING: Final = frozenset(_TELLING.split())
"""Parameters whose values name codes, dates and forms, never people."""
HIDDEN: Final = b"..."
_PATIENT: Final = re.compile(rb"Patient(/|%2F)([A-Za-z0-9\-.]{1,64})", re.IGNORECASE)


def shown(asked: bytes, patient: str | None) -> bytes:
    """``METHOD URL``, and the form if there is one, without what may name another person: values
    of parameters that are not known to be codes or dates, and ids of other patients.
    """
    own = (patient or "").encode()
    head, gap, form = asked.partition(b"\n\n")
    url, mark, query = head.partition(b"?")
    url = _PATIENT.sub(lambda found: _only(found, own), url)
    return url + mark + _pairs(query, own) + gap + _pairs(form, own)


def _only(found: re.Match[bytes], own: bytes) -> bytes:
    return found[0] if found[2] == own else b"Patient" + found[1] + HIDDEN


def _pairs(query: bytes, own: bytes) -> bytes:
    return b"&".join(_pair(pair, own) for pair in query.split(b"&")) if query else b""


def _pair(pair: bytes, own: bytes) -> bytes:
    name, equals, value = pair.partition(b"=")
    plain = name.decode("ascii", "replace").partition(":")[0]
    if plain in TELLING and b"." not in name and not name.startswith(b"_has"):
        return pair
    found = _PATIENT.fullmatch(value)
    if own and (value == own or (found is not None and found[2] == own)):
        return pair
    return _name(name) + equals + (HIDDEN if equals else b"")


def _name(name: bytes) -> bytes:
    """The name of a parameter is not free text; what is no name is not shown."""
    return name if re.fullmatch(rb"[A-Za-z0-9_.:\-]{1,80}", name) else HIDDEN
