"""Users: people (and AI services) who sign in, each with one role."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.access.ports import LedgerWrite, Row
from fhir_server.access.roles import ROLES
from fhir_server.auth.passwords import Passwords
from fhir_server.auth.records import ATTEMPTS, Records, digest
from fhir_server.model.problem import BadRequest, Conflict, NotFound, Unavailable
from fhir_server.model.resource import ID_PATTERN

KIND: Final = "user"
IDENTITY: Final = "identity"
"""Rows that lead from an external identity to its user."""
USED_CODE: Final = "totp-used"
CODE_KEPT: Final = 180
"""Seconds for which a one-time code is remembered as used; longer than it could be valid."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
PERSONS: Final = ("Patient", "Practitioner", "PractitionerRole", "RelatedPerson", "Person")
"""https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#scopes-for-requesting-identity-data"""


@dataclass(frozen=True, slots=True)
class User:
    """``subject``: the opaque name for apps (``sub``), which is never used again.

    ``totp``: key of the second factor, empty without one. ``password``: its argon2id hash.
    ``recovery``: hashes of codes that replace the second factor, once each. ``identity``: by
    which an external provider knows the user.
    """

    name: str
    subject: str
    role: str
    fhir_user: str
    password: str
    totp: str
    disabled: bool
    revision: int
    recovery: tuple[str, ...] = ()
    identity: str = ""

    @property
    def patient(self) -> str:
        """The id of the patient that this user is, else empty."""
        type_, _, id_ = self.fhir_user.partition("/")
        return id_ if type_ == "Patient" and ROLES[self.role].own else ""


class Users:
    """User rows, by name."""

    def __init__(self, records: Records, passwords: Passwords) -> None:
        self._records = records
        self._passwords = passwords

    async def add(self, name: str, role: str, *, fhir_user: str = "", password: str = "") -> User:
        """BadRequest for what cannot be a user, Conflict if the name was ever used.

        Without a password nobody signs in by that name.
        """
        if NAME.fullmatch(name) is None:
            raise BadRequest(f"{name!r} cannot be a user name")
        if role not in ROLES:
            raise BadRequest(f"{role!r} is not a role: {', '.join(ROLES)}")
        check_person(fhir_user)
        value = {
            "subject": secrets.token_hex(16),
            "role": role,
            "fhirUser": fhir_user,
            "password": await self._passwords.hashed(password) if password else "",
            "totp": "",
            "disabled": False,
        }
        if not await self._records.commit_policy(LedgerWrite(KIND, name, value, expect=0)):
            raise Conflict(f"the user {name} exists")
        return await self.named(name)

    async def find(self, name: str) -> User | None:
        row = await self._records.get(KIND, name) if NAME.fullmatch(name) else None
        return None if row is None else _user(row)

    async def named(self, name: str) -> User:
        """NotFound if there is none."""
        found = await self.find(name)
        if found is None:
            raise NotFound(f"the user {name!r} is not known")
        return found

    async def all(self) -> list[User]:
        return [_user(row) for row in await self._records.scan(KIND)]

    async def change(self, name: str, **values: Any) -> User:
        """Replace members of a user's row; what the user may do changes with it at once."""
        for _ in range(ATTEMPTS):
            row = await self._records.get(KIND, name) if NAME.fullmatch(name) else None
            if row is None:
                raise NotFound(f"the user {name!r} is not known")
            write = LedgerWrite(KIND, name, row.value | values, row.revision)
            if await self._records.commit_policy(write):
                return await self.named(name)
        raise Unavailable("the user is being changed by others")

    async def set_password(self, name: str, password: str) -> User:
        return await self.change(name, password=await self._passwords.hashed(password))

    async def link(self, name: str, identity: str) -> User:
        """Sign in by an external identity from now on; empty: no more. Conflict if it is another
        user's.
        """
        row = await self._records.get(KIND, name) if NAME.fullmatch(name) else None
        if row is None:
            raise NotFound(f"the user {name!r} is not known")
        before = row.value.get("identity", "")
        if identity == before:
            return _user(row)
        writes = [LedgerWrite(KIND, name, row.value | {"identity": identity}, row.revision)]
        if before:
            writes.append(LedgerWrite(IDENTITY, digest(before), None))
        if identity:
            writes.append(LedgerWrite(IDENTITY, digest(identity), {"user": name}, expect=0))
        if not await self._records.commit_policy(*writes):
            raise Conflict("the identity is linked to another user, or the user is being changed")
        return await self.named(name)

    async def by_identity(self, identity: str) -> User | None:
        """Who is linked to it, also if disabled."""
        row = await self._records.get(IDENTITY, digest(identity))
        return None if row is None else await self.find(row.value["user"])

    async def authenticate(self, name: str, password: str) -> User | None:
        """The user whose password this is; None, after the same time, in every other case."""
        user = await self.find(name)
        known = user.password if user is not None and not user.disabled else ""
        return user if await self._passwords.verify(known, password) and known else None

    async def spend_recovery(self, user: User, hashed: str) -> bool:
        """True once for each recovery code, by its hash."""
        row = await self._records.get(KIND, user.name)
        codes = row.value.get("recovery", []) if row is not None else []
        if row is None or hashed not in codes:
            return False
        left = [code for code in codes if code != hashed]
        write = LedgerWrite(KIND, user.name, row.value | {"recovery": left}, row.revision)
        return await self._records.commit(write)

    async def spend_code(self, user: User, key: str, step: int) -> bool:
        """True once for each step of the one-time codes of a key."""
        expires = self._records.now() + CODE_KEPT
        name = f"{user.name}/{digest(key)}/{step}"
        return await self._records.commit(
            LedgerWrite(USED_CODE, name, {}, expect=0, expires=expires)
        )


def check_person(reference: str) -> None:
    """BadRequest unless it is empty or names somebody as ``Type/id``."""
    type_, _, id_ = reference.partition("/")
    if reference and (type_ not in PERSONS or ID_PATTERN.fullmatch(id_) is None):
        raise BadRequest(f"{reference!r} is not {'/id, '.join(PERSONS)}/id")


def _user(row: Row) -> User:
    value = row.value
    return User(
        name=row.key,
        subject=value["subject"],
        role=value["role"],
        fhir_user=value["fhirUser"],
        password=value["password"],
        totp=value["totp"],
        disabled=value["disabled"],
        revision=row.revision,
        recovery=tuple(value.get("recovery", ())),
        identity=value.get("identity", ""),
    )
