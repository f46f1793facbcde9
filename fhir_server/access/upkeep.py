"""What a server does for its data beside all requests."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from fhir_server.access.contents import sweep
from fhir_server.access.engine import Engine
from fhir_server.access.erasing import settle
from fhir_server.access.propagating import settle_labels
from fhir_server.model.problem import Unavailable
from fhir_server.store.opening import following

log = structlog.get_logger("vehr")

EVERY: Final = 3600
"""Seconds."""
SOON: Final = 60
"""Seconds; how soon it is tried again to settle an erase."""
ORPHAN_AGE: Final = 86_400
"""Seconds; far longer than any request takes between its upload and its commit."""


async def upkeep(engine: Engine) -> None:
    """For ever: what erases have left to do is done, uploads that no commit named are removed
    a day later, and a search engine follows what is written.
    """
    async with following(engine.store):
        await _tidy(engine)


async def _tidy(engine: Engine) -> None:
    while True:
        for _ in range(EVERY // SOON):
            settled = False
            try:
                await settle_labels(engine)
                settled = await settle(engine)
            except Unavailable as problem:
                log.warning("not everything is settled", error=str(problem))
            await asyncio.sleep(EVERY if settled else SOON)
            if settled:
                break
        try:
            await sweep(engine, time.time() - ORPHAN_AGE)
        except (OSError, Unavailable) as error:
            log.warning("sweep of blobs failed", error=str(error))
