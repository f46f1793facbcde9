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
