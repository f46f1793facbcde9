"""What is below or above a resource by ``partOf``, as far as a caller may see it.

https://hl7.org/fhir/R4/search.html#recursive: ``Procedure?location:below=A101`` finds what was done
at A101 and at the locations that are part of it, or of these.
"""

from __future__ import annotations

from typing import Final

from fhir_server.access.session import Session
from fhir_server.model.problem import BadRequest
from fhir_server.search.lineage import lineages
from fhir_server.search.plan import Chain, Has, IdIn, Predicate, Scan, Search
from fhir_server.search.schema import SearchSchema
from terminology.codes import Code
from terminology.stored import Question

MOST: Final = 1000
"""Resources of one lineage; a search by more references is refused."""


async def lineage(schema: SearchSchema, session: Session, question: Question) -> tuple[Code, ...]:
    """The resource asked about and all below or above it, as (type, id). A hidden one ends its
    line as one that is not there; a circle ends where it began.
    """
    type_, id_ = question.about, question.code
    index = schema.of(type_).parameters[lineages()[type_]].index
    found, edge = {id_: None}, [id_]
    while edge and session.policy.allows("s", type_):
        known = Scan(type_, IdIn(tuple(edge)))
        step: Predicate = Has(known, index)
        if question.kind == "under":
            step = Chain(index, (known,))
        search = Search((Scan(type_, step),), count=MOST, total="none")
        page = await session.search(search)
        edge = [match.key.id for match in page.matches if match.key.id not in found]
        found.update(dict.fromkeys(edge))
        if page.next is not None or len(found) > MOST:
            text = f"more than {MOST:,} resources are {question.kind} {type_}/{id_[:64]}"
            raise BadRequest(text, code="too-costly")
    return tuple(Code(type_, one) for one in found)
