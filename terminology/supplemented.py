"""A code system with what supplements say of its codes.

https://hl7.org/fhir/R4/codesystem.html#supplements: designations and properties, never codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from terminology.concepts import ALL, Concepts, Json, Listed, meanings


class Supplemented(Concepts):
    """``base`` for everything but what the supplements add to a code."""

    def __init__(self, base: Concepts, supplements: Sequence[Listed]) -> None:
        super().__init__(base.resource)
        self.content = base.content
        self._base = base
        self._supplements = supplements
        for one in supplements:
            self._meaning = {**meanings(one.resource), **self._meaning}
        self.by_code = _Merged(base.by_code, supplements)

    def find(self, code: str) -> str | None:
        return self._base.find(code)

    def children(self, code: str) -> tuple[str, ...]:
        return self._base.children(code)

    def parents(self, code: str) -> tuple[str, ...]:
        return self._base.parents(code)

    def below(self, code: str, most: int = ALL) -> set[str]:
        return self._base.below(code, most)

    def above(self, code: str) -> set[str]:
        return self._base.above(code)

    def ordered(self, codes: Set[str]) -> list[str]:
        return self._base.ordered(codes)

    def bearing(self, name: str, value: str | None = None) -> set[str]:
        added = (one.bearing(name, value) for one in self._supplements)
        return self._base.bearing(name, value) | set(self.ordered(set().union(*added)))

    def defines(self, name: str) -> bool:
        return any(one.defines(name) for one in (self._base, *self._supplements))

    def sought(self, beginnings: Sequence[str]) -> Iterable[str]:
        found = set(self._base.sought(beginnings))
        for one in self._supplements:
            known = (code for code in one.by_code if code in self._base.by_code)
            found |= {code for code in known if self._fits(code, beginnings)}
        return self.ordered(found)

    def _fits(self, code: str, beginnings: Sequence[str]) -> bool:
        words = self.words(code)
        return all(f" {one}" in words for one in beginnings)

    def page(self, offset: int, count: int) -> list[str]:
        return self._base.page(offset, count)

    def some_inactive(self) -> bool:
        return self._base.some_inactive() or any(
            self.inactive(code)
            for one in self._supplements
            for code in one.by_code
            if code in self._base.by_code
        )


class _Merged(Mapping[str, Json]):
    def __init__(self, base: Mapping[str, Json], supplements: Sequence[Listed]) -> None:
        self._base = base
        self._supplements = supplements

    def __getitem__(self, code: str) -> Json:
        found = dict(self._base[code])
        for one in self._supplements:
            added = one.by_code.get(code)
            for name in ("designation", "property") if added is not None else ():
                if added is not None and name in added:
                    found[name] = [*found.get(name, ()), *added[name]]
        return found

    def __contains__(self, code: object) -> bool:
        return code in self._base

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)
