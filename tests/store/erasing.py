"""What is erased by the tests of that."""

from __future__ import annotations

from fhir_server.search.values import StringValue
from fhir_server.store.base import EraseSet, Erasure
from tests.store.building import Bench, key


def erased(
    bench: Bench, *erasures: tuple[str, int, tuple[int, ...] | None], **other: object
) -> tuple[int, ...]:
    made = tuple(Erasure(key(name), expect, versions) for name, expect, versions in erasures)
    return bench.do(bench.store.erase(EraseSet(made, **other))).versions  # type: ignore[arg-type]


def named(*found: str) -> list[StringValue]:
    return [StringValue("name", name) for name in found]
