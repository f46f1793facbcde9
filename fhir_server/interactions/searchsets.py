"""What operations that answer with a searchset are handed."""

from __future__ import annotations

from fhir_server.interactions.search import Searching
from fhir_server.interactions.splice import bundle, search_entry
from operations.searchset import Searchsets


def searchsets(searching: Searching) -> Searchsets:
    """The parts of search that operations share."""
    return Searchsets(
        schema=searching.schema,
        context=searching.context,
        cursors=searching.cursors,
        bundle=bundle,
        entry=search_entry,
        parse=lambda type_, query: searching.parse((type_,), query, None, strict=True),
        most=searching.sizes.greatest,
    )
