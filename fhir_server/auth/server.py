"""The authorization server: its parts, and the addresses that it has.

SMART App Launch 2.2, OAuth 2.0 (RFC 6749) with PKCE (RFC 7636) always, OpenID Connect Core.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fhir_server.auth.approvals import Approvals
from fhir_server.auth.assertions import Assertions
from fhir_server.auth.identities import Identities
from fhir_server.auth.keys import Keys
from fhir_server.auth.negotiation import Negotiation
from fhir_server.auth.provider import External
from fhir_server.auth.rates import Rates
from fhir_server.auth.websessions import WebSessions

AUTH: Final = "/auth"


@dataclass(frozen=True, slots=True)
class Chart:
    """How a patient stands in the picker. ``born``: a FHIR date, or empty."""

    id: str
    name: str
    born: str


@dataclass(frozen=True, slots=True)
class Visit:
    """How an encounter stands in the picker. ``when``: a FHIR dateTime, or empty."""

    id: str
    when: str
    what: str


FindVisits = Callable[[str, str], Awaitable[list[Visit]]]
"""(Patient id, user): the newest encounters of a patient that the user may see."""
FindCharts = Callable[[tuple[str, ...]], Awaitable[list[Chart]]]
"""The patients of these ids that are there."""
InChart = Callable[[str, str, str], Awaitable[bool]]
"""(Encounter id, patient id, user): does the user see it as one of the patient?"""


@dataclass(frozen=True, slots=True)
class Record:
    """What the authorization server may know of the record."""

    charts: FindCharts
    has_encounter: InChart
    visits: FindVisits


@dataclass(frozen=True, slots=True)
class Rules:
    """``required``: clinicians and administrators sign in with a second factor.
    ``registration``: apps may register themselves with an initial access token. ``face``: the
    path of the base that tokens are for, ``further``: those of others that they may be for.
    """

    domain: str
    base_url: str
    face: str
    required: bool
    registration: bool = False
    time_zone: str = "UTC"
    further: tuple[str, ...] = ()

    @property
    def issuer(self) -> str:
        return self.base_url + AUTH

    @property
    def fhir(self) -> str:
        return self.base_url + self.face

    def face_of(self, audience: str) -> str | None:
        """The path of the base with this URL; None for no base of this server."""
        for face in (self.face, *self.further):
            if audience.rstrip("/") == self.base_url + face:
                return face
        return None

    def url(self, path: str) -> str:
        return f"{self.issuer}/{path}"

    @property
    def secure(self) -> bool:
        return self.base_url.startswith("https:")


@dataclass(frozen=True, slots=True)
class Server:
    """Handed to every endpoint."""

    rules: Rules
    identities: Identities
    keys: Keys
    sessions: WebSessions
    approvals: Approvals
    assertions: Assertions
    negotiation: Negotiation
    record: Record
    rates: Rates
    external: External | None = None

    @property
    def now(self) -> float:
        return self.identities.records.now()
