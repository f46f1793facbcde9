"""The form of the index: which values the same resource gives to search.

A database that was filled by an older program is indexed anew before anything is asked of it, so
that a search finds what it should or is not answered at all.
"""

from __future__ import annotations

from typing import Final

import structlog

from fhir_server.access.engine import Engine
from fhir_server.access.reindexing import Reindexing
from fhir_server.model.problem import Unavailable
from fhir_server.store.base import ChangeSet
from fhir_server.store.ledger import LedgerWrite

log = structlog.get_logger("vehr.search")

FORM: Final = 2
"""2: codes with capitals have a second, folded token."""
KIND: Final = "index"
KEY: Final = "form"


async def renew_index(engine: Engine, labels: str = "") -> None:
    """Indexes everything anew if the database has an older form, or was labelled by other rules
    than those that ``labels`` names.

    It goes on from the beginning after a crash. Raises Unavailable for a newer form.
    """
    row = await engine.store.ledger.get(KIND, KEY)
    found = 1 if row is None else int(row.value["form"])
    known = "" if row is None else row.value.get("labels", "")
    if found == FORM and known == labels:
        return
    if found > FORM:
        raise Unavailable(
            f"the index has the form {found}, this program knows {FORM}: use the newer program"
        )
    if await engine.store.position():
        await _reindex(engine)
    write = LedgerWrite(KIND, KEY, {"form": FORM, "labels": labels})
    await engine.store.apply(ChangeSet(ledger=(write,)))


async def _reindex(engine: Engine) -> None:
    reindexing = Reindexing(engine)
    state = await reindexing.begin()
    log.info("everything is indexed anew for this program", resources=state.total)
    while not state.finished:
        state = await reindexing.step(state)
    log.info("indexed anew", resources=state.done, renewed=state.renewed)
