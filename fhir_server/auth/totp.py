"""Time-based one-time passwords: https://www.rfc-editor.org/rfc/rfc6238 (SHA-1, 6 digits, 30 s).

The digest, the length and the step are those that every authenticator app takes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b32decode, b32encode
from typing import Final
from urllib.parse import quote, urlencode

STEP: Final = 30
DIGITS: Final = 6
DRIFT: Final = 1
"""Steps that a clock may be off, to either side."""


def new_key() -> str:
    """160 random bits in base32, as authenticator apps take them."""
    return b32encode(secrets.token_bytes(20)).decode()


def code_at(key: str, step: int) -> str:
    """The code of one step (RFC 4226, section 5.3)."""
    mac = hmac.digest(b32decode(key), step.to_bytes(8, "big"), hashlib.sha1)
    offset = mac[-1] & 15
    number = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def step_of(key: str, code: str, now: float) -> int | None:
    """The step whose code this is, around ``now`` (epoch seconds); None if it is wrong."""
    current, found = int(now // STEP), None
    given = code.replace(" ", "").encode()
    for step in range(current - DRIFT, current + DRIFT + 1):
        if hmac.compare_digest(code_at(key, step).encode(), given):
            found = step
    return found


def uri(key: str, user: str, issuer: str) -> str:
    """What an authenticator app scans."""
    query = urlencode({"secret": key, "issuer": issuer}, quote_via=quote)
    return f"otpauth://totp/{quote(f'{issuer}:{user}')}?{query}"
