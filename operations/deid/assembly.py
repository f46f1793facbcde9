"""What de-identification needs, put together: profiles, keys, vault, cleaning of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fhir_server.model.exchange import Json
from operations.deid.cohort.judging import Cohort
from operations.deid.engine import Deidentifier
from operations.deid.keys import KeyRing
from operations.deid.run import Codes, Run
from operations.deid.shelf import Shelf
from operations.deid.text.contract import TextCleaner
from operations.deid.vault import Vault

DEFAULT_PROFILE: Final = "safe-harbor"


@dataclass(slots=True)
class Deidentification:
    """Of one server. ``cleaner``: set when the server starts; None: free text is dropped."""

    shelf: Shelf
    keys: KeyRing
    vault: Vault
    cleaner: TextCleaner | None = None

    def begin(self, name: str, project: str, now: int, base: str) -> Work:
        """``name``: of the profile, by code or canonical; ``project``: "" for none; ``now``:
        microseconds. NotFound: no such profile. BadRequest: it needs a project. Unprocessable: it
        does not load, or the project has no key."""
        return Work(self, self.shelf.find(name), project, now, base)


class Work:
    """One answer, or one export of many pages, under one profile and project."""

    def __init__(
        self, by: Deidentification, profile: Deidentifier, project: str, now: int, base: str
    ) -> None:
        self.profile = profile
        self._by, self._now, self._base = by, now, base
        wanted = profile.keyed or profile.profile.foreign
        self.key = by.keys.project(project) if project and wanted else None
        if profile.keyed:
            self.run().require_project()

    @property
    def cleans(self) -> bool:
        """Free text is cleaned, so the people of the record have to be known."""
        return self.profile.cleans and self._by.cleaner is not None

    def cohort(self) -> Cohort | None:
        """A set that is to be judged as a whole; None: the profile asks nothing of sets."""
        asked = self.profile.profile.cohort
        return None if asked is None else Cohort(asked)

    def run(self, codes: Codes | None = None, relative: bool = False) -> Run:
        """A new run. With a project's key all runs agree; else they do if ``codes`` do."""
        year = datetime.fromtimestamp(self._now / 1e6, UTC).year
        return Run(year, self._base, key=self.key, codes=codes, relative=relative)

    async def prepare(self, resources: Sequence[Json], run: Run) -> None:
        """Before the first resource: free text is read, with the people in ``resources``."""
        await self.profile.prepare(resources, run, self._by.cleaner)

    async def settle(self, run: Run) -> None:
        """After the last resource, before anything leaves: the vault knows its pseudonyms."""
        if self.key is not None:
            await self._by.vault.keep(self.key, run.issued, self._now)
