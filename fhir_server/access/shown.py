"""A condition on what a mask may take is judged on what is left.

Words, identifiers beside references and the codes of elements that go with a reference stand in
the index as they were written. So what such a leaf finds is looked up first and judged again on
what is shown of it; what does not hold there is excepted in the plan.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fhir_server.access.engine import Engine
from fhir_server.access.judging import holds
from fhir_server.access.masking import Masking
from fhir_server.access.policy import Policy
from fhir_server.formats.json import loads
from fhir_server.search.plan import (
    TRUE,
    All,
    Any,
    Chain,
    Has,
    IdIn,
    Not,
    Predicate,
    Scan,
    Search,
    TokenIs,
)

PAGE: Final = 500


async def as_shown(engine: Engine, policy: Policy, scan: Scan) -> Scan:
    """The same scan, without what it finds only in what is masked."""
    if policy.whole:
        return scan
    return await _Shown(engine, policy).scan(scan)


class _Shown:
    def __init__(self, engine: Engine, policy: Policy) -> None:
        self._engine = engine
        self._policy = policy

    async def scan(self, scan: Scan) -> Scan:
        maskable = self._policy.maskable(scan.type)
        if not maskable or scan.where == TRUE:
            return scan
        return Scan(scan.type, await self._where(scan.where, scan.type, maskable))

    async def _where(self, where: Predicate, type_: str, maskable: frozenset[str]) -> Predicate:
        match where:
            case All(parts):
                return All(tuple([await self._where(part, type_, maskable) for part in parts]))
            case Any(parts):
                return Any(tuple([await self._where(part, type_, maskable) for part in parts]))
            case Not(part):
                return Not(await self._where(part, type_, maskable))
            case Chain(targets=targets):
                return replace(where, targets=tuple([await self.scan(one) for one in targets]))
            case Has(source):
                return replace(where, source=await self.scan(source))
            case _ if _is_maskable(where, maskable):
                wrong = await self._wrong(where, type_)
                return All((where, Not(IdIn(wrong)))) if wrong else where
            case _:
                return where

    async def _wrong(self, leaf: Predicate, type_: str) -> tuple[str, ...]:
        """What the leaf finds of a type, but not in what is shown."""
        scan = Scan(type_, All((leaf, self._policy.exists(type_))))
        search: Search | None = Search((scan,), count=PAGE, total="none")
        masking, found = Masking(self._engine, self._policy), list[str]()
        while search is not None:
            page = await self._engine.store.run(search)
            for row, shown in zip(page.matches, await masking.masked(page.matches), strict=True):
                if shown is not row and not holds(
                    self._engine, leaf, loads(shown.body), shown.updated
                ):
                    found.append(row.key.id)
            search = replace(search, after=page.next) if page.next else None
        return tuple(sorted(found))


def _is_maskable(leaf: Predicate, maskable: frozenset[str]) -> bool:
    match leaf:
        case TokenIs(param=param) if param.endswith(":identifier"):
            return True
        case _:
            # The words of a code have an index of their own beside it (``format:text``).
            return getattr(leaf, "param", "").partition(":")[0] in maskable
