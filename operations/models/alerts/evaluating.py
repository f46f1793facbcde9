"""The patients of an evaluation: those of a store, or of files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace

from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Gone, NotFound
from fhir_server.search.plan import All, Any, Scan, Search, TokenIs

from ..record import BundleRecord, RecordReader
from ..registry import Registry
from ..session_record import IndexNames, SessionRecord
from ..triggers import subject_of
from .replay import Replay, Stay
from .report import Evaluation
from .spec import Spec

PAGE = 500


async def evaluate(
    spec: Spec, registry: Registry, readers: AsyncIterator[RecordReader]
) -> Evaluation:
    """Raises Unprocessable, NotFound, Unavailable."""
    replay = await Replay.of(spec, registry)
    stays: list[Stay] = []
    async for reader in readers:
        try:
            stays += [stay async for stay in replay.stays(reader)]
        except (NotFound, Gone):
            continue  # erased meanwhile
    return Evaluation.of(replay, stays)


async def stored(spec: Spec, session: Session, index: IndexNames) -> AsyncIterator[RecordReader]:
    """The patients with a stay, by one session."""
    seen: set[str] = set()
    named = tuple(
        TokenIs(name, None, code)
        for name in index("Encounter", "class")
        for code in spec.stay.classes
    )
    search: Search | None = Search(
        (Scan("Encounter", All((Any(named),))),), count=PAGE, total="none"
    )
    while search is not None:
        page = await session.search(search)
        for one in page.matches:
            patient = subject_of(loads(one.body))
            if patient and patient not in seen:
                seen.add(patient)
                yield SessionRecord(session, patient, index)
        search = replace(search, after=page.next) if page.next else None


async def filed(resources: Iterable[Json]) -> AsyncIterator[RecordReader]:
    """The patients of these resources, in order of their ids."""
    found = _apart(resources)
    for patient in sorted(found):
        own = found[patient]
        if any(resource["resourceType"] == "Patient" for resource in own):
            yield BundleRecord({"entry": [{"resource": one} for one in own]})


def _apart(resources: Iterable[Json]) -> Mapping[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for resource in resources:
        patient = subject_of(resource)
        if patient:
            found.setdefault(patient, []).append(resource)
    return found
