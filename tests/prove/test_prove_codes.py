"""A code system of many concepts: what it costs to make, to keep and to ask."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fhir_server.jobs.compute import compute
from terminology.expansion import expand
from terminology.filed import Filed
from terminology.filing import write_file
from terminology.importers.formats import build
from terminology.importers.release import Wanted
from terminology.local import Local
from terminology.service import Coded, Expanding, Json
from tests.prove.conftest import Row, scaled
from tests.sole import Sole

pytestmark = pytest.mark.prove

SYSTEM = "urn:example:many"
MOST_MEMORY = 400_000_000
WORDS = (
    "acute",
    "chronic",
    "severe",
    "mild",
    "infection",
    "disease",
    "lung",
    "heart",
    "bone",
    "skin",
)
RESOURCE = {
    "resourceType": "CodeSystem",
    "url": SYSTEM,
    "hierarchyMeaning": "is-a",
    "content": "not-present",
}


def concepts(count: int) -> Iterator[Json]:
    chance = random.Random(1)
    for number in range(count):
        name = " ".join(chance.sample(WORDS, 5))
        other = [{"language": "en", "value": " ".join(chance.sample(WORDS, 4))}]
        parents = [{"code": "parent", "valueCode": str(number // 8)}] if number else []
        found = {"code": str(number), "display": f"{name} {number}", "designation": other}
        yield {**found, "property": parents} if parents else found


def value_set(*filters: Json) -> Json:
    part: Json = {"system": SYSTEM, **({"filter": list(filters)} if filters else {})}
    return {"resourceType": "ValueSet", "url": "urn:example:set", "compose": {"include": [part]}}


def milliseconds(asked: Callable[[], Awaitable[Any]], times: int = 20) -> str:
    started = time.process_time()
    for _ in range(times):
        asyncio.run(_once(asked))
    return f"{(time.process_time() - started) / times * 1000:.2f} ms"


async def _once(asked: Callable[[], Awaitable[Any]]) -> Any:
    return await asked()


def reading(path: Path, last: str) -> tuple[dict[str, str], int]:
    """In a process of its own: CPU time of each question, and the memory at most (bytes)."""
    filed = Filed(path)
    whole, below = value_set(), value_set({"property": "concept", "op": "is-a", "value": "5"})

    def expanding(resource_: Json, **how: Any) -> Callable[[], Awaitable[Any]]:
        return lambda: expand(Local(Sole(RESOURCE, filed)).work, resource_, "set", Expanding(**how))

    coded = Coded(SYSTEM, last)
    times = {
        "$validate-code": milliseconds(
            lambda: Local(Sole(RESOURCE, filed)).is_member(below, "set", coded)
        ),
        "$subsumes": milliseconds(
            lambda: Local(Sole(RESOURCE, filed)).subsumes(Coded(SYSTEM, "5"), coded)
        ),
        "a page by two words": milliseconds(expanding(whole, filter="lung infec", count=20)),
        "a page of all": milliseconds(expanding(whole, offset=1000, count=20)),
    }
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return times, int(peak.split()[1]) * 1024


def test_a_code_system_of_many_concepts(tmp_path: Path, proven: Row) -> None:
    count = scaled(400_000)
    path = tmp_path / "concepts"
    started = time.process_time()
    assert write_file(path, RESOURCE, concepts(count)) == count
    made = time.process_time() - started
    times, memory = asyncio.run(compute(reading, path, str(count - 1)))
    assert memory < MOST_MEMORY
    told = ", ".join(f"{name} {cost}" for name, cost in times.items())
    proven(
        "codes",
        "a code system is written to its file, then asked by another process (CPU)",
        f"{count:,} concepts",
        f"{count / made:,.0f} concepts/s, {path.stat().st_size / 1e6:.0f} MB; {told}; "
        f"memory at most {memory / 2**20:.0f} MiB",
    )


def test_the_published_tabular_list_of_icd_10_cm(tmp_path: Path, proven: Row) -> None:
    """Of the CDC, as the package simple-icd-10-cm carries it beside a list of all codes."""
    simple = pytest.importorskip("simple_icd_10_cm", reason="needs pip install simple-icd-10-cm")
    data = Path(simple.__file__).parent / "data"
    [tabular], [listing] = data.glob("icd10c*-tabular-*.xml"), data.glob("code-list-*.txt")
    path = tmp_path / "concepts"
    resource, count = build("icd-10-cm", tabular, Wanted(), path, lambda _: None)
    filed = Filed(path)
    lines = listing.read_text(encoding="utf-8").split()
    listed = {one for one in lines if one[0].isalpha() and "-" not in one}
    assert {code.replace(".", "") for code in filed.by_code} == listed
    assert resource["version"] and count == len(listed)
    ended = {code for code in filed.by_code if simple.is_leaf(code)}
    assert ended == {code for code in filed.by_code if not filed.abstract(code)}
    chance = random.Random(10)
    for code in chance.sample(sorted(filed.by_code), 2000):
        assert filed.below(code) - {code} == set(simple.get_descendants(code)), code
    proven(
        "codes ICD-10-CM",
        "the tabular list that the CDC publishes, as the package simple-icd-10-cm carries it, is "
        "imported; codes, ends and descendants (of 2,000) against that package",
        f"{count:,} codes, version {resource['version']}",
        "0 differ",
    )
