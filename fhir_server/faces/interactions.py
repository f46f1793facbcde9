"""What a face does with each interaction of the route table."""

from __future__ import annotations

from fhir_server.auth.assembly import rules_of
from fhir_server.auth.endpoints.discovery import oauth_uris, smart_configuration
from fhir_server.interactions.batch import batch
from fhir_server.interactions.binary import (
    create_binary,
    read_binary,
    update_binary,
    vread_binary,
)
from fhir_server.interactions.capabilities import Abilities, capabilities, named
from fhir_server.interactions.create import create
from fhir_server.interactions.delete import MOST, conditional_delete, delete
from fhir_server.interactions.history import history
from fhir_server.interactions.informed import informed
from fhir_server.interactions.operation import asking, operation
from fhir_server.interactions.patch import conditional_patch, patch
from fhir_server.interactions.ports import Handler, Perform
from fhir_server.interactions.published import document, published
from fhir_server.interactions.read import read
from fhir_server.interactions.search import search
from fhir_server.interactions.submit import submit
from fhir_server.interactions.subset import Subsets
from fhir_server.interactions.transaction import transaction
from fhir_server.interactions.update import conditional_update, update
from fhir_server.interactions.vread import vread
from fhir_server.model.datatypes import format_instant
from fhir_server.model.software import software_version
from operations.registry import Operations, definition

from .face import Face
from .research import RESEARCH


def interactions(
    face: Face, rows: Operations, perform: Perform, *, open_: bool
) -> dict[str, Handler]:
    """Interaction -> handler. What is not here answers 501 and is not in the statement."""
    searching, most = face.searching, face.settings.max_entries
    criteria, deletes = searching.criteria(), MOST[face.settings.conditional_delete]
    subsets = Subsets(face.definitions)
    versions = history(searching.cursors, searching.sizes, searching.context, subsets)
    handlers: dict[str, Handler] = {
        "read": published(read(subsets), (definition(row, face.base) for row in rows.rows)),
        "read-binary": read_binary,
        "vread": vread(subsets),
        "vread-binary": vread_binary,
        "update": update,
        "update-binary": update_binary,
        "delete": delete,
        "patch": patch(face.definitions),
        "conditional-update": conditional_update(criteria),
        "conditional-patch": conditional_patch(criteria, face.definitions),
        "conditional-delete": conditional_delete(criteria, deletes),
        "create": create(criteria),
        "create-binary": create_binary(create(criteria), criteria),
        "history-instance": versions,
        "history-type": versions,
        "history-system": versions,
        "search-type": search(searching, subsets),
        "search-system": search(searching, subsets),
        "search-compartment": search(searching, subsets),
        "transaction": submit(
            batch(perform, face.definitions, most),
            transaction(perform, criteria, face.definitions, asking(rows), most, deletes),
        ),
        "operation": operation(rows, face.engine.now),
    }
    handlers = face.shape(handlers)
    bundles = {"batch"} if "transaction" in handlers else set()
    abilities = Abilities(
        interactions=frozenset({*handlers, *bundles}),
        schema=searching.schema,
        operations=tuple(named(rows, face.base)),
        started=format_instant(face.engine.now()),
        version=software_version(),
        open=open_,
        conditional_delete=face.settings.conditional_delete,
        oauth=oauth_uris(rules_of(face.settings, face.path)),
        engine="Elasticsearch" if face.settings.search else "",
    )
    conformance = face.engine.conformance
    assert conformance is not None
    handlers["capabilities"] = capabilities(lambda: abilities, conformance, subsets)
    if not open_:
        rules = rules_of(face.settings, face.path)
        handlers["smart-configuration"] = document(
            smart_configuration(rules, people=face.path == RESEARCH)
        )
    parameters = face.engine.parameters
    assert parameters is not None
    return informed(handlers, parameters.refresh)
