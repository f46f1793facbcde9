"""Who is asking: the outcome of authentication, before any decision."""

from __future__ import annotations

from dataclasses import dataclass

from fhir_server.access.roles import Standing
from fhir_server.access.scopes import Scope


@dataclass(frozen=True, slots=True)
class Principal:
    """A user through a client, or a client alone (backend service), or the server itself.

    ``id``: stable name for audit and for binding cursors. ``system``: acts for the
    hospital as a whole (may create by PUT, sees its domain). ``patient``: the launch
    context of ``patient/`` scopes. ``grant``: by which later work of the same principal is
    authorised again; empty if there is none. ``standing``: of the user, if there is one.
    ``fhir_user``: the user's own resource (``Type/id``), if the token opens it. ``rights``: what
    goes beyond FHIR's interactions (``scopes.RIGHTS``). ``purpose``: why data is wanted, a code of
    v3-ActReason.
    """

    id: str
    scopes: tuple[Scope, ...] = ()
    client: str = ""
    user: str = ""
    patient: str | None = None
    system: bool = False
    grant: str = ""
    standing: Standing | None = None
    fhir_user: str = ""
    rights: frozenset[str] = frozenset()
    purpose: str = ""

    def is_for(self) -> tuple[frozenset[str], frozenset[str]]:
        """The patients who the principal is, and those for whom it acts."""
        standing = self.standing
        if standing is None:
            return frozenset({self.patient} if self.patient else ()), frozenset()
        if not standing.rights.own:
            return frozenset(), frozenset()
        type_, _, id_ = standing.fhir_user.partition("/")
        own = frozenset({id_} if type_ == "Patient" else ())
        return own, frozenset(standing.patients) - own
