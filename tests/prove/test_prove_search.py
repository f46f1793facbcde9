"""Searches against a naive reading of every parameter, on the whole Synthea and clinosim sets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fhir_server.cli.loading import Loader
from fhir_server.cli.sources import documents
from fhir_server.definitions.registry import load
from fhir_server.formats.json import loads
from tests.conformance.naive import Question, questions
from tests.conformance.searching import ids, walk
from tests.conformance.test_search_laws import LAWS, Matter, broken
from tests.prove.conftest import Row, scaled
from tests.serving import Server, served

pytestmark = pytest.mark.prove

DOWNLOADED = 3000
"""Larger answers are counted, and their first page is compared."""


async def filled(server: Server, files: list[Path]) -> dict[str, list[Any]]:
    """What the server holds after it has loaded the files, by type."""
    loader = Loader(server.domain, strict=False)
    for path in files:
        for document in documents(path, lambda _: None):
            await loader.take(document)
    await loader.finish()
    held: dict[str, dict[str, Any]] = {}
    async for stored in server.domain.store.changes(0):
        of_type = held.setdefault(stored.key.type, {})
        of_type.pop(stored.key.id, None)
        if not stored.deleted:
            of_type[stored.key.id] = loads(stored.body)
    return {type_: list(found.values()) for type_, found in held.items()}


def disagrees(server: Server, question: Question) -> bool | None:
    """None: refused as too costly, which a search outside of the flat set may be."""
    counted = server.get(f"{question.query}&_summary=count")
    if counted.status_code == 400:
        assert counted.json()["issue"][0]["code"] in ("too-costly", "not-supported"), question.query
        return None
    if counted.json()["total"] != len(question.expected):
        return True
    if len(question.expected) > DOWNLOADED:
        page = ids(server.get(f"{question.query}&_count=500").json())
        return not set(page) <= question.expected
    found = {i for page in walk(server, f"{question.query}&_count=1000") for i in ids(page)}
    return found != question.expected


def matter_of(observations: list[Any]) -> Matter:
    """Three codes, and a year, of which there are neither few nor very many."""
    codes = Counter(one["code"]["coding"][0]["code"] for one in observations)
    years = Counter(one["effectiveDateTime"][:4] for one in observations)
    middle = [code for code, _ in codes.most_common()][len(codes) // 4 :]
    return Matter(tuple(middle[:3]), int(years.most_common(3)[-1][0]))


SETS = {"Synthea": "synthea/*.ndjson.gz", "clinosim": "clinosim/*/*.ndjson.gz"}


@pytest.mark.parametrize("name", SETS)
def test_searches_answer_as_a_naive_reading(
    tmp_path: Path, proven: Row, shared: Path, name: str
) -> None:
    """Synthea is taken file by file, as many as the scale says; clinosim is one record."""
    files = sorted(shared.glob(SETS[name]))
    if name == "Synthea":
        files = files[: scaled(len(files))]
    with served("sqlite", tmp_path) as server:
        held = server.run(filled(server, files))
        found: Counter[bool | None] = Counter()
        wrong: list[str] = []
        for type_, resources in sorted(held.items()):
            for question in questions(type_, resources, load().search_parameters(type_)):
                differs = disagrees(server, question)
                found[differs] += 1
                if differs:
                    wrong.append(question.query)
            print(f"{name} {type_}: {len(resources):,}", dict(found), wrong, flush=True)
        assert not wrong, wrong[:20]
        laws = []
        if name == "Synthea":
            matter = matter_of(held["Observation"])
            laws = [broken(law, server, matter=matter) for law in LAWS]
        assert not [what for some, _ in laws for what in some]
    resources_ = sum(map(len, held.values()))
    related = f", {sum(n for _, n in laws):,} relations" if laws else ""
    proven(
        f"searches {name}",
        "every parameter with its modifiers and prefixes against a naive evaluation of its "
        f"expression over {resources_:,} {name} resources{'; metamorphic laws' if laws else ''}",
        f"{found.total():,} searches{related}",
        f"0 differ; {found[None]:,} refused as too costly",
    )
