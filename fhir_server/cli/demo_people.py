"""The people of the demo: users of the demo record, with passwords made on this machine."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Final

from fhir_server.auth.identities import Identities
from fhir_server.auth.relations import Relation

FILE: Final = "demo-logins.json"
"""In the data directory, for its owner only: the passwords, so that they can be shown again."""

PEOPLE: Final = (
    ("doctor", "family-doctor", "Practitioner/DR-PC-001"),
    ("nurse", "nurse", "Practitioner/NS-PC-001"),
    ("patient", "patient", "Patient/pt-9f499e932ad8"),
    ("admin", "admin", "Practitioner/PH-001"),
)
CARE: Final = {
    "doctor": ("pt-9f499e932ad8", "pt-007accf5bfd1", "pt-00ddd5bb1c41", "pt-0612cf63eb84"),
    "nurse": ("pt-9f499e932ad8", "pt-007accf5bfd1"),
}


async def add_people(identities: Identities, folder: Path) -> None:
    """Users and relationships, once."""
    passwords = {name: secrets.token_urlsafe(9) for name, _, _ in PEOPLE}
    place = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(place, "w") as file:
        json.dump(passwords, file)
    for name, role, person in PEOPLE:
        await identities.users.add(name, role, fhir_user=person, password=passwords[name])
    now = identities.records.now()
    for name, patients in CARE.items():
        for patient in patients:
            await identities.relations.add(Relation(name, patient, "registration", now))


def logins(folder: Path) -> list[tuple[str, str]]:
    """(user, password) of the demo people; none if this is not a demo."""
    try:
        known: dict[str, str] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return list(known.items())
