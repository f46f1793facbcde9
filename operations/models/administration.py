"""What people decide about models: push, activate, roll back, retire.

Each act is one change set: the rows of the ledger that all processes follow, and a Provenance
that says who decided it and why. It is done in the name of the server, which alone may write
Devices that nobody wears and Binaries without an owner, for whom ``allowed`` lets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Final

from fhir_server.access.drafts import Draft, resource_of
from fhir_server.access.ports import LedgerWrite
from fhir_server.access.principal import Principal
from fhir_server.access.scopes import MODELS
from fhir_server.access.session import Session
from fhir_server.model.datatypes import format_instant
from fhir_server.model.problem import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    Unavailable,
)
from fhir_server.model.resource import ID_PATTERN, Key

from .gate import gate_fault
from .intake.receiving import receive, refused
from .intake.signing import SIGNATURE, SignatureError
from .package import ModelPackage, digests
from .publishing import PACKAGE, decision, described, present
from .registry import Registry, golden_fault
from .runtime import Runtime
from .shelf import Shelf
from .state import ALIASES, CHALLENGER, CHAMPION, Alias, Kept, ModelState

LONGEST_REASON: Final = 1000
ADMIN: Final = "admin"


def allowed(session: Session) -> None:
    """Raises Forbidden for who may not decide about models: that takes the role admin and a scope
    with ``user/Device.u``; of a system ``system/Device.u`` and ``__models``."""
    principal = session.principal
    if principal.standing is not None:
        may = principal.standing.role == ADMIN and _updates(principal, "user")
    elif principal.scopes:
        may = MODELS in principal.rights and principal.system and _updates(principal, "system")
    else:
        may = principal.system
    if not may:
        raise Forbidden("not permitted: to decide about models")


def _updates(principal: Principal, context: str) -> bool:
    return any(s.context == context and s.covers("Device", "u") for s in principal.scopes)


@dataclass(frozen=True, slots=True)
class By:
    """Who decides, and why. ``own``: the session of the server, in whose name it is written."""

    principal: Principal
    own: Session
    reason: str = ""

    def required(self) -> None:
        """Raises BadRequest without a reason."""
        if not self.reason.strip():
            raise BadRequest("reason: say why", code="required")


class Administration:
    """``now``: microseconds since the epoch; ``trial``: makes the runtime that a package is
    tried in, apart from the one that serves."""

    def __init__(
        self, registry: Registry, shelf: Shelf, now: Callable[[], int], trial: Callable[[], Runtime]
    ) -> None:
        self.registry = registry
        self._shelf = shelf
        self._now = now
        self._trial = trial

    @property
    def own(self) -> Session:
        """The server's session for models."""
        return self._shelf.own

    @property
    def _state(self) -> ModelState:
        return self._shelf.state

    async def push(self, archive: bytes, signature: str, by: By) -> ModelPackage:
        """A version more, which serves nobody yet. Raises Unprocessable for a package that is
        refused, Conflict if there is another of this version. The same again changes nothing."""
        files = await receive(archive)
        signature = signature or files.get(SIGNATURE, b"").decode("ascii", "replace")
        try:
            signer = self.registry.keys.signer(digests(files), signature)
        except SignatureError as error:
            raise refused(str(error)) from None
        await self.registry.refresh()
        with self._shelf.incoming(files) as package:
            if self._here(package):
                return package
            await self._prove(package)
        kept = Kept(
            name=package.card.name,
            version=package.card.version,
            files=dict(package.files),
            binary=package.id + PACKAGE,
            signer=signer,
            pushed=format_instant(self._now()),
            by=by.principal.user or by.principal.client or by.principal.id,
        )
        await self._keep(package, kept, archive, by)
        self.registry.include(self._shelf.placed(package.id, files))
        await self.registry.refresh()
        return package

    async def _prove(self, package: ModelPackage) -> None:
        """Raises Unprocessable unless its golden vectors pass, in a worker of their own."""
        runtime = self._trial()
        try:
            fault = await golden_fault(runtime, package)
        except Unavailable as problem:
            fault = str(problem)
        finally:
            await runtime.close()
        if fault:
            raise refused(fault)

    def _here(self, package: ModelPackage) -> bool:
        """Is the same pushed already? Raises Conflict for another one of this version."""
        if ID_PATTERN.fullmatch(package.id + PACKAGE) is None:
            raise refused(f"{package.id}{PACKAGE} is longer than an id")
        known = self._known_files(package)
        if known is not None and known != dict(package.files):
            raise Conflict(f"{package.id} is here already: versions are immutable")
        return known is not None

    def _known_files(self, package: ModelPackage) -> dict[str, str] | None:
        kept = self.registry.known.kept.get(package.id)
        if kept is not None and kept.retired:
            raise Conflict(f"{package.id} was retired: give it another version")
        loaded = self.registry.versions.get(package.id)
        if loaded is not None:
            return dict(loaded.package.files)
        return kept.files if kept is not None else None

    async def _keep(self, package: ModelPackage, kept: Kept, archive: bytes, by: By) -> None:
        async def whole() -> AsyncIterator[bytes]:
            yield archive

        key = Key("Binary", kept.binary)
        media = "application/zip" if archive[:2] == b"PK" else "application/x-tar"
        if await present(self.own, key):
            raise Conflict(f"{key} is here already")
        blob = await self.own.upload("c", whole())
        binary = {"resourceType": "Binary", "id": key.id, "contentType": media}
        drafts = [
            *described(package, signer=kept.signer),
            Draft("PUT", key, binary, blob=blob),
        ]
        await self._write(by, "push", drafts, await self._state.keeping(kept))

    async def activate(self, name: str, version: str, alias: str, by: By) -> None:
        """Put a version behind an alias. Raises NotFound, Unavailable, BadRequest, Conflict."""
        by.required()
        name = await self._known(name, alias)
        package = await self.registry.verified(name, version)
        if alias == CHAMPION:
            stopped = gate_fault(package)
            if stopped:
                raise Conflict(f"{package.id} has not passed its gate: {stopped}")
        former = self._current(name, alias)
        if former == version:
            raise Conflict(f"{package.id} is {alias} already")
        turned = self._alias(name).turned(alias, version, former)
        if alias == CHAMPION and self._current(name, CHALLENGER) == version:
            turned = replace(turned, current={**turned.current, CHALLENGER: ""})
        await self._turn(name, turned, f"activate as {alias}", package, by)

    async def rollback(self, name: str, alias: str, by: By) -> str:
        """The version before is behind the alias again; which it is. For a challenger it may be
        none. Raises Conflict where there was none before."""
        by.required()
        name = await self._known(name, alias)
        current, former = self._alias(name), self._current(name, alias)
        if alias == CHALLENGER and former and not current.before.get(alias):
            current = replace(current, before={**current.before, alias: [""]})
        if not current.before.get(alias):
            raise Conflict(f"no other version of {name} was {alias} before")
        returned = current.returned(alias)
        version = returned.current[alias]
        package = await self.registry.verified(name, version or former)
        await self._turn(name, returned, f"roll back of {alias}", package, by)
        return version

    async def retire(self, name: str, version: str, by: By) -> None:
        """Nobody is answered by this version any more, under no alias. Raises NotFound."""
        by.required()
        await self.registry.refresh()
        id_ = f"{name}-{version}"
        found, pushed = self.registry.versions.get(id_), self.registry.known.kept.get(id_)
        if (found is None and pushed is None) or id_ in self.registry.retired:
            raise NotFound(f"Model {name} has no version {version}")
        kept = pushed or Kept(name, version)
        alias = self._alias(name)
        for word in ALIASES:
            if self._current(name, word) == version:
                alias = replace(alias, current={**alias.current, word: version})
        rows = (
            *await self._state.keeping(replace(kept, retired=True)),
            *(await self._state.turning(name, alias.without(version)))[:1],
        )
        if found is not None:
            drafts = described(found.package, retired=True, signer=kept.signer)
        else:  # it cannot be loaded any more
            drafts = await self._inactive(Key("Device", id_))
        await self._write(by, "retire", drafts, rows, id_)
        await self.registry.refresh()

    async def _inactive(self, device: Key) -> list[Draft]:
        if not await present(self.own, device):
            return []
        kept = resource_of(await self.own.read(device))
        return [Draft("PUT", device, {**kept, "status": "inactive"})]

    async def _known(self, name: str, alias: str) -> str:
        if alias not in ALIASES:
            raise BadRequest(f"alias: it is {' or '.join(ALIASES)}", code="value")
        await self.registry.refresh()
        known = self.registry.aliases.get(name.lower())
        if known is None:
            raise NotFound(f"Unknown model {name!r}")
        return known

    def _alias(self, name: str) -> Alias:
        return self.registry.known.aliases.get(name) or Alias()

    def _current(self, name: str, alias: str) -> str:
        found = self.registry.champions if alias == CHAMPION else self.registry.challengers
        return found.get(name, "")

    async def _turn(self, name: str, alias: Alias, act: str, package: ModelPackage, by: By) -> None:
        drafts = []
        if not await present(self.own, Key("Device", package.id)):
            drafts = described(package)
        rows = await self._state.turning(name, alias)
        await self._write(by, act, drafts, rows, package.id)
        await self.registry.refresh()

    async def _write(
        self,
        by: By,
        act: str,
        drafts: list[Draft],
        rows: tuple[LedgerWrite, ...],
        id_: str = "",
    ) -> None:
        if len(by.reason) > LONGEST_REASON:
            raise BadRequest(f"reason: it is longer than {LONGEST_REASON} characters", code="value")
        targets = [draft.key for draft in drafts] or [Key("Device", id_)]
        told = decision(act, targets, by.principal, by.reason, format_instant(self._now()))
        note = Draft("POST", Key("Provenance", by.own.new_id()), told)
        await by.own.write([*drafts, note], rows)
