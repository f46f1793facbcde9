"""Opaque page links: a query, its place and its owner, encrypted and authenticated.

A link carries everything that the next page needs, so that no search value appears in it.
AES-256-GCM; one changed character is a BadRequest, the link of another principal NotFound.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhir_server.access.ports import Ledger
from fhir_server.access.principal import Principal
from fhir_server.model.problem import BadRequest, NotFound
from fhir_server.search.plan import Cursor, Rest

PARAMETER: Final = "_cursor"
WIDEST: Final = 9
"""Bytes of a packed number at most."""
_KIND, _NAME, _NONCE = "key", "cursor", 12


class _Sealed(msgspec.Struct, array_like=True):
    owner: tuple[str, str, str]
    place: str
    query: tuple[tuple[str, str], ...]
    after: tuple[int | float | str | None, ...]
    until: tuple[int | float | str | None, ...] = ()
    behind: int = 0
    even: bytes = b""


@dataclass(frozen=True, slots=True)
class Position:
    """``query`` without the cursor; ``after``: where the page begins, (): at the beginning.
    ``rest``: of that page only what is still to be included; one without ``until``: of its first
    match only what is behind so many.
    """

    query: tuple[tuple[str, str], ...]
    after: Cursor
    rest: Rest | None = None


class Cursors:
    """Seals and opens page links with one key (32 bytes)."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(
        self,
        principal: Principal,
        place: str,
        query: Sequence[tuple[str, str]],
        after: Cursor,
        rest: Rest | None = None,
    ) -> str:
        """``place``: the path that the link belongs to (``Patient``)."""
        sealed = _Sealed(_owner(principal), place, tuple(query), after)
        if rest is not None:
            sealed.until, sealed.behind = rest.until, rest.behind
        sealed.even = _evened((*sealed.after, *sealed.until, sealed.behind))
        nonce = secrets.token_bytes(_NONCE)
        data = nonce + self._cipher.encrypt(nonce, msgspec.msgpack.encode(sealed), None)
        return urlsafe_b64encode(data).rstrip(b"=").decode()

    def open(self, principal: Principal, place: str, text: str) -> Position:
        try:
            data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
            if urlsafe_b64encode(data).rstrip(b"=").decode() != text:
                raise _invalid()
            packed = self._cipher.decrypt(data[:_NONCE], data[_NONCE:], None)
        except (InvalidTag, Base64Error, ValueError):
            raise _invalid() from None
        sealed = msgspec.msgpack.decode(packed, type=_Sealed)
        if sealed.owner != _owner(principal):
            raise NotFound("this page is not known")
        if sealed.place != place:
            raise _invalid()
        rest = Rest(sealed.until, sealed.behind) if sealed.until or sealed.behind else None
        return Position(sealed.query, sealed.after, rest)


def _evened(values: Sequence[int | float | str | None]) -> bytes:
    """What makes a link as long as with the widest numbers: how many resources there are besides,
    which numbers of creation tell, does not show in its length."""
    return bytes(sum(WIDEST - len(msgspec.msgpack.encode(n)) for n in values if type(n) is int))


def _owner(principal: Principal) -> tuple[str, str, str]:
    return principal.id, principal.client, principal.patient or ""


def _invalid() -> BadRequest:
    return BadRequest(f"{PARAMETER} is not a page link of this server")


async def cursor_key(ledger: Ledger) -> bytes:
    """The key of this data directory, made at first use."""
    row = await ledger.get(_KIND, _NAME)
    if row is None:
        await ledger.insert_unique(_KIND, _NAME, {"hex": secrets.token_hex(32)})
        row = await ledger.get(_KIND, _NAME)
    assert row is not None
    return bytes.fromhex(row.value["hex"])
