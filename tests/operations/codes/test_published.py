"""The terminology that comes with FHIR R4: everything in it can be asked for, and the engine
agrees with the lists that the definitions were compiled to by other code."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from fhir_server.definitions.registry import load
from terminology import published
from terminology.expansion import expand
from terminology.local import Local
from terminology.service import Expanding, Json, Refused


class OnlyPublished:
    """A source without a record."""

    async def find(self, type_: str, url: str, version: str) -> Json | None:
        return published.published(type_, url, version)

    async def filed(self, code_system: Json) -> None:
        return None

    async def maps(self, system: str, reverse: bool) -> Sequence[Json]:
        return published.published_maps()


async def expansion(url: str) -> dict[str, Any]:
    found = published.published("ValueSet", url)
    assert found is not None
    return await expand(Local(OnlyPublished()).work, found, url, Expanding(count=50_000))


@pytest.mark.slow
def test_every_value_set_expands_or_is_refused_by_name() -> None:
    reasons: Counter[str] = Counter()

    async def all_of_them() -> None:
        for url in published.published_urls("ValueSet"):
            try:
                found = await expansion(url)
                reasons["expanded" if found["total"] else "empty"] += 1
            except Refused as refused:
                assert refused.code in ("not-supported", "not-found", "too-costly"), url
                reasons[refused.code] += 1

    asyncio.run(all_of_them())
    assert reasons.total() == 1316
    assert reasons["expanded"] >= 1100, reasons
    assert reasons["empty"] <= 12, reasons


@pytest.mark.slow
def test_the_engine_agrees_with_the_compiled_definitions() -> None:
    """Required bindings were expanded when the artefact was made, by ``definitions/compile``."""
    definitions, compared = load(), 0

    async def all_of_them() -> int:
        compared = 0
        for url in published.published_urls("ValueSet"):
            systems = definitions.value_set_systems(url)
            if systems is None:
                continue
            found = await expansion(url)
            codes = {(c.get("system", ""), c["code"]) for c in found.get("contains", ())}
            assert codes == {(s, c) for s, some in systems.items() for c in some}, url
            compared += 1
        return compared

    compared = asyncio.run(all_of_them())
    assert compared >= 200


def test_versions_and_what_is_not_there() -> None:
    url = "http://hl7.org/fhir/issue-type"
    found = published.published("CodeSystem", url, "4.0.1")
    assert found is not None and found is published.published("CodeSystem", url)
    assert published.published("CodeSystem", url, "3.0.1") is None
    assert published.published("CodeSystem", "../../etc/passwd") is None
    assert len(published.published_maps()) == 80


def test_the_archive_depends_on_its_input_alone() -> None:
    rows = [{"resourceType": "CodeSystem", "url": f"urn:{n}", "text": {}} for n in "ba"]
    assert published.pack(rows) == published.pack(rows[::-1])


@pytest.mark.slow
def test_a_code_is_in_the_value_set_if_and_only_if_it_is_in_the_expansion() -> None:
    """Judged one by one, without the expansion: members, and codes of the same systems."""
    judged: Counter[bool] = Counter()

    async def one_of(url: str) -> None:
        try:
            found = await expansion(url)
        except Refused:
            return
        value_set = published.published("ValueSet", url)
        assert value_set is not None
        members = {(c.get("system", ""), c["code"]) for c in found.get("contains", ())}
        work = Local(OnlyPublished()).work
        asked = sorted(members)[:: max(1, len(members) // 4)]
        for system in sorted({system for system, _ in members}):
            concepts = await work.concepts(system)
            others = (
                set(concepts.by_code) - {c for s, c in members if s == system} if concepts else ()
            )
            asked += [(system, code) for code in sorted(others)[:3]]
        for system, code in asked:
            said = await work.member(value_set, url, system, code)
            assert (said is not None) == ((system, code) in members), (url, system, code)
            judged[said is not None] += 1

    async def all_of_them() -> None:
        for url in published.published_urls("ValueSet"):
            await one_of(url)

    asyncio.run(all_of_them())
    assert judged[True] > 4000 and judged[False] > 300, judged
