"""One FHIR base as a value: where it is, what it serves, and by whose decisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fhir_server.access.consent.assembly import Patients
from fhir_server.access.engine import Engine
from fhir_server.access.gate import MakePolicy
from fhir_server.access.policy import ScopePolicy
from fhir_server.auth.tokens import Tokens
from fhir_server.config import Settings
from fhir_server.definitions.registry import Definitions
from fhir_server.interactions.ports import Handler
from fhir_server.interactions.search import Searching
from operations.terms import SourceOf


@dataclass(frozen=True, slots=True)
class Face:
    """``path``: of the base on this server (``/fhir``), which is the audience of its tokens.
    ``patients``: what patients have decided; None: nobody is asked here. ``policy``: what is
    permitted apart from that. ``shape``: the handlers of its interactions out of those of all.
    ``codes``: its terminology, for what it exports.
    """

    path: str
    settings: Settings
    engine: Engine
    searching: Searching
    tokens: Tokens
    patients: Patients | None
    policy: MakePolicy = ScopePolicy
    shape: Callable[[dict[str, Handler]], dict[str, Handler]] = dict
    codes: SourceOf | None = None

    @property
    def base(self) -> str:
        return self.settings.base_url + self.path

    @property
    def definitions(self) -> Definitions:
        return self.engine.definitions
