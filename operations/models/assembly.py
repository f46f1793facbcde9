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
from .registry import SHIPPED, Registry
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

    async def close(self) -> None:
        """Ends the workers, and removes the files of this process."""
        await self.registry.runtime.close()
        self.shelf.close()


def models_of(settings: Settings, engine: Engine) -> Models:
    """Use inside one event loop, then ``close``. Raises SettingsError."""
    own = system_session(engine, "models")
    shelf = Shelf(ModelState(engine.store.ledger), own)
    limits = Limits(
        seconds=settings.model_seconds,
        memory=settings.model_memory,
        providers=settings.model_providers,
    )
    roots = (SHIPPED, settings.models) if settings.models else (SHIPPED,)
    runtime = Runtime(limits, settings.model_workers)
    registry = Registry.of(runtime, roots, shelf, _keys(settings.model_keys))
    administration = Administration(registry, shelf, engine.now, lambda: Runtime(limits))
    return Models(registry, administration, own, shelf)


def _keys(path: Path | None) -> Keys:
    try:
        return Keys.of(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(f"VEHR_MODEL_KEYS: {path}: {reason}") from None
