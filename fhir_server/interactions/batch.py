"""batch: https://hl7.org/fhir/R4/http.html#brules

Every entry runs alone, with its own permission check and its own outcome; the batch is 200.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fhir_server.access.session import Session
from fhir_server.definitions.registry import Definitions
from fhir_server.interactions.entries import (
    Entry,
    answered,
    entry_problems,
    failed,
    parse_entry,
    raw_entries,
    refuse_form,
)
from fhir_server.interactions.links import Links
from fhir_server.interactions.ports import Handler, Perform
from fhir_server.interactions.splice import bundle
from fhir_server.model.exchange import Request, Response
from fhir_server.model.problem import BadRequest, Problem

PAUSE = 16
"""After so many entries other requests get a turn."""


def batch(perform: Perform, definitions: Definitions, most: int) -> Handler:
    """The handler of batch; ``most``: entries."""
    # "References within a Bundle.entry.resource to another Bundle.entry.resource that is being
    # created within the batch are considered to be non-conformant": no fullUrl is known.
    unlinked = Links({}, definitions)

    async def batch_(request: Request, session: Session) -> Response:
        assert request.body is not None
        answers = []
        for index, raw in enumerate(raw_entries(request.body, most)):
            answers.append(await one(index, raw, request, session))
            if index % PAUSE == PAUSE - 1:
                await asyncio.sleep(0)
        return Response(200, bundle("batch-response", answers))

    async def one(index: int, raw: Any, request: Request, session: Session) -> bytes:
        try:
            entry = parse_entry(index, raw, request.base)
            if entry.method in ("POST", "PUT", "PATCH") and not entry.operates:
                with entry_problems(entry):
                    _check(entry)
            call = entry.call(request.headers.get("prefer", "return=minimal"))
            return answered(await perform(call, request, session), request)
        except Problem as problem:
            return failed(problem)

    def _check(entry: Entry) -> None:
        if entry.searches:
            refuse_form(entry)
        elif entry.resource is None:
            raise BadRequest("a resource is needed")
        else:
            unlinked.sites(entry.resource, None)

    return batch_
