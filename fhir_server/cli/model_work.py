"""The models of a data directory, for the length of a command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fhir_server.app import Domain, opened
from fhir_server.config import Settings, SettingsError
from fhir_server.model.problem import Problem
from operations.models.assembly import Models, models_of

T = TypeVar("T")


def with_models(settings: Settings, work: Callable[[Models, Domain], Awaitable[T]]) -> T:
    """What ``work`` gives. Raises SettingsError for whatever it refuses."""

    async def worked() -> T:
        async with opened(settings) as domain:
            models = models_of(settings, domain.engine, domain.indexes)
            try:
                return await work(models, domain)
            finally:
                await models.close()

    try:
        return asyncio.run(worked())
    except Problem as problem:
        raise SettingsError(str(problem)) from None
