"""What exports are handed of searching."""

from __future__ import annotations

from fhir_server.interactions.search import Searching
from fhir_server.interactions.subset import Subsets, part
from operations.bulk.generalising import parents_of
from operations.bulk.wanted import Cut, Exports
from operations.deid.assembly import Deidentification
from operations.terms import SourceOf


def exports(
    searching: Searching,
    deid: Deidentification | None = None,
    codes: SourceOf | None = None,
) -> Exports:
    subsets = Subsets(searching.schema.definitions)

    def cut(types: tuple[str, ...], elements: str) -> Cut | None:
        return part(subsets, types, (("_elements", elements),))

    parents = None if codes is None else parents_of(codes)
    return Exports(searching.schema, searching.criteria(), cut, deid, parents)
