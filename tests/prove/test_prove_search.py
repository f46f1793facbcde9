"""Searches against a naive reading of every parameter, on the whole Synthea and clinosim sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fhir_server.cli.loading import Loader
from fhir_server.cli.sources import documents
from fhir_server.definitions.registry import load
from fhir_server.formats.json import loads
from tests.conformance.naive import Question, questions
from tests.conformance.searching import ids, walk
from tests.conformance.test_search_laws import LAWS, broken
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


def asked(held: dict[str, list[Any]]) -> Iterator[Question]:
    for type_, resources in sorted(held.items()):
        yield from questions(type_, resources, load().search_parameters(type_))


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


def test_searches_answer_as_a_naive_reading(tmp_path: Path, proven: Row, shared: Path) -> None:
    synthea = sorted((shared / "synthea").glob("*.ndjson.gz"))
    clinosim = sorted((shared / "clinosim").glob("*/*.ndjson.gz"))
    with served("sqlite", tmp_path) as server:
        held = server.run(filled(server, [*synthea[: scaled(len(synthea))], *clinosim]))
        found: Counter[bool | None] = Counter()
        wrong: list[str] = []
        for question in asked(held):
            differs = disagrees(server, question)
            found[differs] += 1
            if differs:
                wrong.append(question.query)
        assert not wrong, wrong[:20]
        laws = [broken(law, server) for law in LAWS]
        assert not [what for some, _ in laws for what in some]
    resources = sum(map(len, held.values()))
    proven(
        "searches",
        "every parameter with its modifiers and prefixes against a naive evaluation of its "
        f"expression over {resources:,} Synthea and clinosim resources; metamorphic laws",
        f"{found.total():,} searches, {sum(n for _, n in laws):,} relations",
        f"0 differ; {found[None]:,} refused as too costly",
    )
