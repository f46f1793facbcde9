"""What a Session works with: the parts of one face of the server, handed in once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fhir_server.access.audit.trail import Trail
from fhir_server.access.conformance.conformance import Conformance
from fhir_server.access.parameters import PostedParameters
from fhir_server.definitions.registry import Definitions
from fhir_server.model.exchange import Json
from fhir_server.model.resource import Key
from fhir_server.search.match import Join
from fhir_server.search.plan import Predicate
from fhir_server.search.values import IndexValues
from fhir_server.store.base import Store
from fhir_server.store.blobs import Blobs
from fhir_server.store.erase_log import EraseLog
from fhir_server.validation.validate import is_large as is_large


@dataclass(slots=True)
class Unlabelled:
    """Resources that had no labels when ``epoch`` counted the writes that label."""

    epoch: int = -1
    keys: set[Key] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Engine:
    """``validate`` raises Unprocessable. ``matches`` is the leaf semantics of ``search/match``
    (for versions that are no longer current). ``now``: microseconds since the epoch.
    ``blobs``: where large content goes; without it raw content is refused. ``parameters``:
    the posted SearchParameters that ``extract`` follows. ``erase_log``: the file that
    erases are recorded in beside the store; None where the store does not outlive its process.
    ``conformance``: profiles, by what is installed and stored.
    ``trail``: what was recorded, as AuditEvents; None where nothing is.
    """

    store: Store
    definitions: Definitions
    validate: Callable[[Json], None]
    extract: Callable[[Json], IndexValues]
    matches: Callable[[Predicate, str, IndexValues, int, Join], bool]
    now: Callable[[], int]
    new_id: Callable[[], str]
    blobs: Blobs | None = None
    parameters: PostedParameters | None = None
    erase_log: EraseLog | None = None
    trail: Trail | None = None
    conformance: Conformance | None = None
    unlabelled: Unlabelled = field(default_factory=Unlabelled)
