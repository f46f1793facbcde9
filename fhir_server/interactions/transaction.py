"""transaction: https://hl7.org/fhir/R4/http.html#trules

All writes of the Bundle are one commit (``execution``); its reads come after it, among them
searches by POST and operations that cannot change anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from fhir_server.access.session import Session
from fhir_server.definitions.registry import Definitions
from fhir_server.interactions.answer import preference, stored_outcome
from fhir_server.interactions.entries import (
    Entry,
    answered,
    entry_problems,
    failed,
    parse_entry,
    raw_entries,
    refuse_form,
    status_line,
)
from fhir_server.interactions.execution import PAUSE, Result, execute
from fhir_server.interactions.ports import Criteria, Handler, Perform
from fhir_server.interactions.splice import bundle
from fhir_server.interactions.splice import entry as entry_bytes
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json, Request, Response
from fhir_server.model.problem import Problem

WRITES: Final = frozenset({"DELETE", "POST", "PUT", "PATCH"})


Asks = Callable[[tuple[str, ...]], bool]
"""Is the operation at a path of the base one that cannot change anything?"""


def transaction(
    perform: Perform,
    criteria: Criteria,
    definitions: Definitions,
    asks: Asks,
    most: int,
    deletes: int,
) -> Handler:
    """The handler of transaction; ``most``: entries; ``deletes``: resources that one
    conditional delete may remove.
    """

    async def transaction_(request: Request, session: Session) -> Response:
        assert request.body is not None
        entries = await parsed(raw_entries(request.body, most), request.base)
        writes = [entry for entry in entries if writing(entry)]
        reads = [entry for entry in entries if not writing(entry)]
        await probe(reads, writes, request, session)
        results = await execute(writes, session, criteria, definitions, deletes=deletes)
        wanted = preference(request, "return")
        answers: dict[int, bytes] = {}
        for turn, (index, result) in enumerate(results.items(), 1):
            answers[index] = _shown(result, wanted)
            if turn % (4 * PAUSE) == 0:
                await asyncio.sleep(0)
        for entry in reads:
            answers[entry.index] = await late(entry, request, session)
        shown = [answers[entry.index] for entry in entries]
        return Response(200, bundle("transaction-response", shown))

    def writing(entry: Entry) -> bool:
        if entry.searches:
            with entry_problems(entry):
                refuse_form(entry)
            return False
        asking = entry.method == "POST" and entry.operates and asks(entry.path)
        return entry.method in WRITES and not asking

    async def probe(
        reads: list[Entry], writes: list[Entry], request: Request, session: Session
    ) -> None:
        """A read that cannot succeed fails the whole before anything is written."""
        touched = {entry.path for entry in writes if entry.method != "POST"}
        for entry in reads:
            if entry.path[:2] not in touched:
                with entry_problems(entry):
                    await perform(entry.call(None), request, session)

    async def late(entry: Entry, request: Request, session: Session) -> bytes:
        """A read after the writes; by then only its own entry can tell of a failure."""
        try:
            return answered(await perform(entry.call(None), request, session), request)
        except Problem as problem:
            return failed(problem)

    return transaction_


async def parsed(raws: list[Any], base: str) -> list[Entry]:
    """The entries, with a turn for other requests now and then."""
    entries = []
    for index, raw in enumerate(raws):
        entries.append(parse_entry(index, raw, base))
        if index % PAUSE == 0:
            await asyncio.sleep(0)
    return entries


_ASKING: Final = frozenset({"representation", "OperationOutcome"})
"""Preferences for more than what became of an entry."""


def _shown(result: Result, wanted: str | None) -> bytes:
    """The response entry; the resource only if that is ``wanted``."""
    stored = result.stored
    if stored is not None and wanted not in _ASKING and not stored.deleted:
        return (
            f'{{"response":{{"status":"{status_line(result.status)}",'
            f'"location":"{stored.key}/_history/{stored.version}",'
            f'"etag":"W/\\"{stored.version}\\"",'
            f'"lastModified":"{format_instant(stored.updated)}"}}}}'
        ).encode()
    response: Json = {"status": status_line(result.status)}
    body = b""
    if stored is not None:
        if not stored.deleted:
            response["location"] = f"{stored.key}/_history/{stored.version}"
        response["etag"] = stored.etag
        response["lastModified"] = format_instant(stored.updated)
        if wanted == "representation" and not stored.deleted:
            body = stored.body
        elif wanted == "OperationOutcome" and not stored.deleted:
            response["outcome"] = stored_outcome(stored, result.issues)
    return entry_bytes(None, body, {"response": response})
