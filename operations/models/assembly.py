"""The models of a server: registry, runtime and what people do with them, put together once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fhir_server.access.engine import Engine
from fhir_server.access.gate import system_session
from fhir_server.access.session import Session
from fhir_server.config import Settings, SettingsError

from .administration import Administration
from .intake.signing import Keys
from .monitoring.monitor import Monitor
from .monitoring.outcomes import Index
from .monitoring.rounds import Rounds
from .registry import SHIPPED, TEXT, Registry
from .runtime import Limits, Runtime
from .shelf import Shelf
from .state import ModelState


@dataclass(frozen=True, slots=True)
class Models:
    """``own``: the session in whose name the server writes about them."""

    registry: Registry
    administration: Administration
    own: Session
    shelf: Shelf
    monitor: Monitor
    rounds: Rounds

    async def close(self) -> None:
        """Ends the workers, and removes the files of this process."""
        await self.monitor.close()
        await self.registry.runtime.close()
        self.shelf.close()


def models_of(settings: Settings, engine: Engine, index: Index) -> Models:
    """Use inside one event loop, then ``close``. ``index``: (resource type, search parameter) ->
    names of its indexes. Raises SettingsError."""
    own = system_session(engine, "models")
    shelf = Shelf(ModelState(engine.store.ledger), own)
    limits = Limits(
        seconds=settings.model_seconds,
        memory=settings.model_memory,
        providers=settings.model_providers,
    )
    roots = (SHIPPED, TEXT, *((settings.models,) if settings.models else ()))
    runtime = Runtime(limits, settings.model_workers)
    monitor = Monitor(engine.store.ledger, engine.now)
    registry = Registry.of(runtime, roots, shelf, _keys(settings.model_keys), monitor)
    administration = Administration(registry, shelf, engine.now, lambda: Runtime(limits))
    rounds = Rounds(registry, monitor, own, index, settings.model_watch_seconds)
    return Models(registry, administration, own, shelf, monitor, rounds)


def _keys(path: Path | None) -> Keys:
    try:
        return Keys.of(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(f"VEHR_MODEL_KEYS: {path}: {reason}") from None
