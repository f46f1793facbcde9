"""Launch contexts: what an EHR has open when it starts an app.

https://hl7.org/fhir/smart-app-launch/app-launch.html#launch-app-ehr-launch. A handle is opaque,
lives five minutes, is for one user and one client, and is spent with the code that it leads to.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from fhir_server.access.ports import LedgerWrite, Row
from fhir_server.auth.records import Records, digest, new_secret

KIND: Final = "launch"
LIFE: Final = 300


@dataclass(frozen=True, slots=True)
class Launch:
    """``intent``: what the app is to do, an agreement between EHR and app. ``context``: as
    ``fhirContext``.
    """

    user: str
    client: str
    patient: str
    encounter: str = ""
    intent: str = ""
    context: list[dict[str, Any]] = field(default_factory=list)


class Launches:
    """Launch rows."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def begin(self, launch: Launch) -> str:
        handle, expires = new_secret(), self._records.now() + LIFE
        await self._records.commit(LedgerWrite(KIND, digest(handle), asdict(launch), 0, expires))
        return handle

    async def find(self, handle: str) -> tuple[Launch, Row] | None:
        row = await self._records.get(KIND, digest(handle))
        return None if row is None else (Launch(**row.value), row)

    def spending(self, row: Row) -> LedgerWrite:
        """What makes the handle useless, once."""
        return LedgerWrite(KIND, row.key, None, row.revision)
