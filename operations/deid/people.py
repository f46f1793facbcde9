"""The people of a record, whose names are looked for in its free text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.search.plan import IdIn, InPatient, Predicate, Scan, Search
from operations.deid.run import Run
from operations.deid.subjects import subject_of

TOGETHER: Final = 500
"""Ids that one search names."""
_OTHERS: Final = ("Practitioner", "RelatedPerson")


async def people_of(resources: Sequence[Json], session: Session, run: Run) -> list[Json]:
    """The patients whom these are about, the practitioners that they name, and the relatives: those
    of them that may be seen. Raises Forbidden where no patient may be."""
    subjects = {subject_of(resource, run) for resource in resources}
    patients = _ids(subjects, "Patient")
    named = {key for resource in resources for key in references_in(resource, run)}
    wanted: list[tuple[str, Predicate]] = [("Patient", IdIn(some)) for some in _some(patients)]
    for type_ in _OTHERS:
        wanted += [(type_, IdIn(some)) for some in _some(_ids(named, type_))]
    wanted += [("RelatedPerson", InPatient(some)) for some in _some(patients)]
    found: dict[str, Json] = {}
    for type_, where in wanted:
        if type_ != "Patient" and not session.policy.allows("s", type_):
            continue
        search: Search | None = Search((Scan(type_, where),), count=TOGETHER, total="none")
        while search is not None:
            page = await session.search(search)
            found |= {str(stored.key): loads(stored.body) for stored in page.matches}
            after = page.next
            search = None if after is None else replace(search, after=after)
    return list(found.values())


def _ids(keys: set[str], type_: str) -> list[str]:
    return sorted(key.partition("/")[2] for key in keys if key.startswith(f"{type_}/"))


def _some(ids: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(ids), TOGETHER):
        yield tuple(ids[start : start + TOGETHER])


def references_in(value: Any, run: Run) -> Iterator[str]:
    """What is referred to, at any depth, apart from contained resources."""
    if isinstance(value, list):
        for item in value:
            yield from references_in(item, run)
    elif isinstance(value, dict):
        literal = value.get("reference")
        if isinstance(literal, str) and not literal.startswith("#"):
            yield run.meant(literal)[0]
        for item in value.values():
            if isinstance(item, dict | list):
                yield from references_in(item, run)
