"""Who decides, and who is named in a decision."""

from __future__ import annotations

from typing import Any

from fhir_server.access.ceremony import require_own
from fhir_server.access.session import Session
from fhir_server.access.writing import resource_of
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Gone, NotFound, Unprocessable
from fhir_server.model.resource import Key


async def require_decider(session: Session, patient: str) -> None:
    """The patient, who acts for the patient, or the hospital's own client. Forbidden for others,
    by what they are alone; NotFound for a patient who is not theirs."""
    if not session.policy.whole:
        require_own(session.principal, patient)
    await session.read(Key("Patient", patient))


async def named(session: Session, reference: str) -> Json:
    """The resource that a reference leads to. Unprocessable, the same for hidden and unused ids."""
    type_, _, id_ = reference.partition("/")
    if session.policy.allows("r", type_):
        try:
            return resource_of(await session.read(Key(type_, id_)))
        except (NotFound, Gone):
            pass
    raise Unprocessable(f"the reference to {reference} does not resolve", code="not-found")


async def shown(session: Session, reference: str) -> Json:
    """A Reference with the name of who it is."""
    resource = await named(session, reference)
    if resource["resourceType"] == "PractitionerRole":
        inner = resource.get("practitioner", {})
        name = inner.get("display", "")
        if not name and str(inner.get("reference", "")).startswith("Practitioner/"):
            name = name_of(await named(session, inner["reference"]))
    else:
        name = name_of(resource)
    return {"reference": reference, **({"display": name} if name else {})}


def name_of(resource: Json) -> str:
    """How people call who or what this is; empty if it has no name."""
    name: Any = resource.get("name") or ""
    if isinstance(name, str):
        return name
    human = name[0] if isinstance(name, list) else name
    whole = [*human.get("prefix", ()), *human.get("given", ()), human.get("family", "")]
    return str(human.get("text") or " ".join(part for part in whole if part))


def performer(session: Session, patient: str) -> Json:
    """Who decides: the patient, or the user who acts for the patient."""
    principal = session.principal
    own, acts_for = principal.is_for()
    standing = principal.standing
    if patient in acts_for - own and standing is not None:
        if standing.fhir_user:
            return {"reference": standing.fhir_user}
        return {"display": principal.user}
    return {"reference": f"Patient/{patient}"}
