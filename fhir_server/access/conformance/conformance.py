"""Validation by the definitions that are in force: stored ones, then those of installed packages,
then those of FHIR and of this server's own guide.

They are the server's own rules, the same for everybody: read for the server, not for a caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

from fhir_server.access.conformance.epoch import EPOCH, KIND
from fhir_server.access.conformance.packages import Packages
from fhir_server.access.conformance.policy import ProfilePolicy
from fhir_server.definitions.guide import own, own_maps
from fhir_server.definitions.structures import Archive, structure
from fhir_server.fhirpath.node import root
from fhir_server.formats.json import dumps, loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Issue, Unprocessable
from fhir_server.search.plan import (
    TRUE,
    Cursor,
    Scan,
    Search,
    SortKey,
)
from fhir_server.search.schema import SearchSchema
from fhir_server.store.base import Store
from fhir_server.validation.profile.asking import judged
from fhir_server.validation.profile.judging import Question
from fhir_server.validation.profile.profiles import Profiles, claimed
from fhir_server.validation.profile.terms import is_in, members
from fhir_server.validation.validate import Validator, is_large
from terminology.compose import Composing
from terminology.concepts import Concepts, Recent
from terminology.service import Source

_NEWEST: Final = (SortKey("_lastUpdated", "updated", descending=True),)
PAGE: Final = 200
MAX_STORED: Final = 5000
"""Stored StructureDefinitions that are in force."""
MAX_ANSWERS: Final = 20_000
"""About codes and value sets, kept of one epoch."""
STRUCTURE: Final = "StructureDefinition"
STATEMENT: Final = "CapabilityStatement"

Resolve = Callable[[str], Awaitable[Json | None]]
"""A resource by a reference; None where there is none that may be seen."""


async def nowhere(text: str) -> Json | None:
    """References are not followed."""
    return None


class Remembering:
    """A source of which every answer is kept."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._found: dict[tuple[str, str, str], Mapping[str, Any] | None] = {}

    async def find(self, type_: str, url: str, version: str) -> Mapping[str, Any] | None:
        key = type_, url, version
        if key not in self._found:
            self._found[key] = await self._source.find(*key)
        return self._found[key]

    async def maps(self, system: str, reverse: bool) -> Sequence[Mapping[str, Any]]:
        return await self._source.maps(system, reverse)

    async def filed(self, code_system: Mapping[str, Any]) -> Concepts | None:
        return await self._source.filed(code_system)


class World:
    """The definitions of one epoch, and what was made of them."""

    def __init__(
        self,
        revision: int,
        schema: SearchSchema,
        stored: Mapping[str, Json],
        installed: Sequence[Archive],
    ) -> None:
        self.revision = revision
        self._stored = stored
        self._installed = installed
        self._kept: dict[tuple[int, str, str], Json | None] = {}
        self._recent = Recent()
        self.answers: dict[Question, Any] = {}
        self._source: Source | None = None
        self.profiles = Profiles(schema.definitions, self._structure)

    def _structure(self, url: str, version: str) -> Json | None:
        for found in (self._stored.get(url), self.installed(STRUCTURE, url), structure(url)):
            if found is not None and version in ("", found.get("version")):
                return found
        return None

    def installed(self, type_: str, url: str, version: str = "") -> Json | None:
        """Of the package that was installed last, or of the guide of this server."""
        for number, archive in enumerate(self._installed):
            key = number, type_, url
            if key not in self._kept:
                self._kept[key] = archive.find(type_, url)
            found = self._kept[key]
            if found is not None and version in ("", found.get("version")):
                return found
        mine = own(type_, url)
        return mine if mine is not None and version in ("", mine.get("version")) else None

    def maps(self, system: str, *, reverse: bool) -> list[Json]:
        """The ConceptMaps of packages that lead from this code system, or to it."""
        side = "target" if reverse else "source"
        found: dict[str, Json] = {}
        for archive in self._installed:
            for type_, url in archive.urls():
                one = self.installed(type_, url) if type_ == "ConceptMap" else None
                if one is not None:
                    found.setdefault(url, one)
        for url, mine in own_maps():
            found.setdefault(url, mine)
        return [
            one
            for one in found.values()
            if any(group.get(side) == system for group in one.get("group", ()))
        ]

    @cached_property
    def supported(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Type -> urls of the profiles on it that packages bring."""
        found: dict[str, set[str]] = {}
        for archive in self._installed:
            for _, url in (key for key in archive.urls() if key[0] == STRUCTURE):
                one = archive.find(STRUCTURE, url) or {}
                if _is_profile(one):
                    found.setdefault(one["type"], set()).add(url)
        return tuple((type_, tuple(sorted(urls))) for type_, urls in sorted(found.items()))

    @cached_property
    def required(self) -> tuple[bytes, ...]:
        """The statements of packages of what servers SHALL do, as JSON."""
        found = [
            archive.find(STATEMENT, url) or {}
            for archive in self._installed
            for type_, url in archive.urls()
            if type_ == STATEMENT
        ]
        return tuple(dumps(one) for one in found if one.get("kind") == "requirements")

    async def answer(self, question: Question, source: Source) -> Any:
        if question.kind in ("value-set", "code"):
            if question not in self.answers:
                if len(self.answers) > MAX_ANSWERS:
                    self.answers.clear()
                self.answers[question] = await self._composed(question, source)
            return self.answers[question]
        url, _, version = question.about.partition("|")
        found = await source.find("Questionnaire", url, version)
        return found or self.installed("Questionnaire", url, version)

    async def _composed(self, question: Question, source: Source) -> Any:
        work = Composing(self._remembering(source), self._recent)
        if question.kind == "value-set":
            return await members(work, question.about)
        return await is_in(work, question.about, question.system, question.code)

    def _remembering(self, source: Source) -> Source:
        """What was found under this epoch is not looked for again."""
        if self._source is None:
            self._source = Remembering(source)
        return self._source


def _is_profile(structure: Json) -> bool:
    """On a resource, and meant to be claimed by one."""
    return (
        structure.get("kind") == "resource"
        and structure.get("derivation") == "constraint"
        and structure.get("abstract") is not True
    )


class Conformance:
    """Of one store. ``policy``: what is judged when something is written."""

    def __init__(
        self,
        store: Store,
        schema: SearchSchema,
        packages: Packages,
        policy: ProfilePolicy,
        validator: Validator,
    ) -> None:
        self._store = store
        self._schema = schema
        self.packages = packages
        self.policy = policy
        self.validator = validator
        self.source: Source | None = None
        """Of value sets and code systems, as the server itself sees them."""
        self.base = ""
        """The base URL that references to this server may begin with."""
        self._world: World | None = None
        self._making = asyncio.Lock()

    async def current(self) -> World:
        """The definitions that are in force now."""
        revision = await self._revision()
        if self._world is not None and self._world.revision == revision:
            return self._world
        async with self._making:
            revision = await self._revision()
            if self._world is None or self._world.revision != revision:
                stored = await self._structures()
                archives = [archive for _, archive in await self.packages.archives()]
                self._world = World(revision, self._schema, stored, archives)
            return self._world

    async def installed(self, type_: str, url: str, version: str) -> Json | None:
        """Of the packages."""
        return (await self.current()).installed(type_, url, version)

    async def supported(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Type -> urls of the profiles on it that installed packages bring."""
        world = await self.current()
        return await asyncio.to_thread(lambda: world.supported)

    async def required(self) -> tuple[bytes, ...]:
        """What installed packages say that servers SHALL do: CapabilityStatements as JSON."""
        world = await self.current()
        return await asyncio.to_thread(lambda: world.required)

    async def maps(self, system: str, *, reverse: bool) -> list[Json]:
        """ConceptMaps of the packages."""
        return (await self.current()).maps(system, reverse=reverse)

    async def _revision(self) -> int:
        row = await self._store.ledger.get(KIND, EPOCH)
        return row.revision if row is not None else 0

    async def _structures(self) -> dict[str, Json]:
        found: dict[str, Json] = {}
        after: Cursor | None = None
        while True:
            search = Search(
                (Scan(STRUCTURE, TRUE),), _NEWEST, count=PAGE, total="none", after=after
            )
            page = await self._store.run(search)
            for stored in page.matches:
                resource = loads(bytes(stored.body))
                if "url" in resource and resource.get("status") != "retired":
                    found.setdefault(resource["url"], resource)
            after = page.next
            if after is None or len(found) >= MAX_STORED:
                return found

    async def issues(
        self, resource: Json, urls: Iterable[str] = (), resolve: Resolve = nowhere
    ) -> tuple[Issue, ...]:
        """What profiles find in a resource whose structure is sound. ``urls``: profiles that it
        is to conform to beside those that it claims.
        """
        world = await self.current()

        async def answer(question: Question) -> Any:
            if question.kind != "reference":
                assert self.source is not None
                return await world.answer(question, self.source)
            found = await resolve(question.about)
            return root(found) if found is not None else None

        return await judged(
            world.profiles,
            resource,
            urls,
            answer,
            world.answers,
            large=is_large(resource),
            following=resolve is not nowhere,
            outside="error" if self.policy.targets == "enforce" else "warning",
        )

    async def on_write(self, resource: Json, resolve: Resolve = nowhere) -> tuple[Issue, ...]:
        """What is to be told of a resource that is written. Unprocessable: it is refused.

        References are followed where the policy says so; what is found by that alone is an error
        only where it is enforced.
        """
        mode, targets = (
            self.policy.of(resource["resourceType"], claimed(resource)),
            self.policy.targets,
        )
        if mode == "off":
            return ()
        found = await self.issues(resource, (), resolve if targets == "enforce" else nowhere)
        if targets == "warn":
            more = await self.issues(resource, (), resolve)
            found += tuple(replace(one, severity="warning") for one in more if one not in found)
        if mode == "enforce" and any(issue.severity == "error" for issue in found):
            raise Unprocessable(found)
        return tuple(issue for issue in found if issue.severity in ("error", "warning"))
