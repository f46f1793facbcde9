"""What a user is at this moment: role, own record, patients in care."""

from __future__ import annotations

from fhir_server.access.roles import Standing
from fhir_server.auth.records import Records
from fhir_server.auth.relations import FOREVER, Relations
from fhir_server.auth.users import User, Users


class People:
    """Users with their relationships."""

    def __init__(self, records: Records, users: Users, relations: Relations) -> None:
        self._records = records
        self.users = users
        self.relations = relations

    async def standing(self, name: str) -> tuple[Standing | None, float]:
        """None for who may not come in; and the epoch second up to which it holds, unless the
        policy epoch moves before.
        """
        user = await self.users.find(name)
        if user is None or user.disabled:
            return None, FOREVER
        return await self._at(user, self._records.now())

    async def _at(self, user: User, now: float) -> tuple[Standing, float]:
        until = FOREVER
        patients = [user.patient] if user.patient else []
        for relation in await self.relations.of(user.name):
            if relation.holds(now):
                patients.append(relation.patient)
            until = min([until, *(t for t in (relation.start, relation.end) if t > now)])
        return Standing(user.role, user.fhir_user, tuple(dict.fromkeys(patients))), until

    async def behind(self, person: str, at: float) -> list[Standing]:
        """Of all users who are this person (``Type/id``), as it will be at an epoch second."""
        users = [u for u in await self.users.all() if u.fhir_user == person and not u.disabled]
        return [(await self._at(user, at))[0] for user in users]

    async def patients(self, user: User) -> tuple[str, ...]:
        """Whom a user may act for."""
        standing, _ = await self.standing(user.name)
        return standing.patients if standing is not None else ()
