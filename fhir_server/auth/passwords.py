"""Passwords: argon2id (RFC 9106), computed beside the loop, few at a time.

A login with an unknown name costs the same as one with a wrong password.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from fhir_server.model.problem import BadRequest, Unavailable

T = TypeVar("T")

SHORTEST: Final = 10
LONGEST: Final = 256
"""Characters."""
AT_ONCE: Final = 2
"""Each takes 64 MiB and a core for some 50 ms."""
WAITING: Final = 64
"""Beyond, logins are refused with 503."""


class Passwords:
    """Hashes and verifies."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=4)
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._nobody = ""

    async def hashed(self, password: str) -> str:
        """BadRequest if it cannot be a password."""
        if not SHORTEST <= len(password) <= LONGEST:
            raise BadRequest(f"a password has {SHORTEST} to {LONGEST} characters")
        return await self._beside(lambda: self._hasher.hash(password))

    async def verify(self, known: str, password: str) -> bool:
        """``known``: a hash, or empty if there is no such user: False after the same time."""
        if not known:
            if not self._nobody:
                chance = secrets.token_urlsafe()
                self._nobody = await self._beside(lambda: self._hasher.hash(chance))
            known = self._nobody
        return await self._beside(lambda: self._verified(known, password[: LONGEST + 1]))

    def _verified(self, known: str, password: str) -> bool:
        try:
            return self._hasher.verify(known, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _beside(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING:
            raise Unavailable("too many logins at a time", headers={"Retry-After": "5"})
        self._waiting += 1
        try:
            async with self._places:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1
