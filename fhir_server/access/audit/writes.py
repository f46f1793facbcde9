"""The audit row of a write: it commits with the write, and the line of the request names it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from fhir_server.access.audit.entry import Recording, named_in, ordered
from fhir_server.access.principal import Principal
from fhir_server.model.resource import Stored
from fhir_server.store.base import Change
from fhir_server.store.ledger import LedgerWrite

KIND: Final = "audit"

_ENCODE = msgspec.json.Encoder(order="sorted").encode


class WriteRecord:
    """Of one write of a request. Its row is made anew whenever the write looks again."""

    def __init__(self, recording: Recording, principal: Principal) -> None:
        self.recording = recording
        self._principal = principal
        recording.rows += 1
        self._key = f"{recording.name}/{recording.rows}"
        self._value: dict[str, Any] = {}
        self._content = b""

    def row(
        self, changes: Iterable[Change], current: Sequence[Stored | None], now: int
    ) -> LedgerWrite:
        """``current``: what was there before."""
        made = [*changes]
        patients = {id_ for c in made if c.values is not None for id_ in c.values.patients}
        keys = {change.key for change in made}
        for stored in current:
            if stored is not None and stored.key in keys:
                patients |= named_in(stored.body)
        patients |= {key.id for key in keys if key.type == "Patient"}
        self._value = {
            "at": now,
            "request": self.recording.request,
            "client": self._principal.client,
            "user": self._principal.user,
            "patients": ordered(patients),
            "what": [f"{c.method} {c.key}/_history/{c.version}" for c in made],
        }
        self._content = _ENCODE(self._value)
        return LedgerWrite(KIND, self._key, self._value, fresh=self._content)

    def committed(self) -> None:
        """The line of the request will name the row as it is."""
        recording = self.recording
        recording.writes.append((self._key, sha256(self._content).hexdigest()))
        recording.patients.update(self._value["patients"])
        recording.what += [text.partition(" ")[2] for text in self._value["what"]]


def digest(value: dict[str, Any]) -> str:
    """SHA-256 of a row's value, its members in order of their names."""
    return sha256(_ENCODE(value)).hexdigest()
