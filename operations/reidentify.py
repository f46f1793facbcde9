"""$reidentify: what pseudonyms of a project stand for.

For users of the role ``custodian`` alone, by POST, with a reason. The reason is in the audit trail
with every answer, and each patient who is named finds it in ``Patient/[id]/$access-log``. Nobody
else learns of any pseudonym that it exists: what the vault does not know is ``unknown``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Forbidden, Gone, NotFound
from fhir_server.model.resource import Key

from .deid.assembly import Deidentification
from .deid.run import Run
from .deid.subjects import subject_of
from .deid.vault import Original
from .parameters import Arguments, Parameter
from .registry import Invocation, Operation

MOST: Final = 100
URN: Final = "urn:uuid:"
"""As fullUrls, references and their identifiers name it."""
LONGEST: Final = 500
"""Characters of a reason."""

INPUTS: Final = (
    Parameter("project", "string", "The project that the pseudonyms were made for", min=1),
    Parameter(
        "pseudonym",
        "string",
        f"An id in its data, or urn:uuid: and an id (at most {MOST})",
        min=1,
        max=None,
    ),
    Parameter(
        "reason", "string", "Why; it is recorded, and the patients are told who asked", min=1
    ),
)
OUTPUTS: Final = (
    Parameter(
        "original",
        "",
        "One for each pseudonym that is known",
        max=None,
        parts=(
            Parameter("pseudonym", "string", "As it was asked", min=1),
            Parameter("resource", "Reference", "What it stands for", min=1),
            Parameter("patient", "Reference", "Whose that is, if it is a patient's"),
            Parameter("key", "positiveInt", "Version of the project's key that made it", min=1),
            Parameter("issued", "instant", "When it was first given out", min=1),
        ),
    ),
    Parameter("unknown", "string", "Pseudonyms that the vault does not know", max=None),
)


def reidentify_operation(deid: Deidentification, own: Session) -> Operation:
    """The row. ``own``: the server's, by which it finds whose a resource is."""

    async def handler(arguments: Arguments, session: Session, call: Invocation) -> Json:
        standing = session.principal.standing
        if standing is None or not standing.rights.reidentifies:
            raise Forbidden("$reidentify is for users of the role custodian")
        project, reason = arguments.one("project"), _reason(arguments.one("reason"))
        pseudonyms = {one: one.removeprefix(URN) for one in arguments.all("pseudonym")}
        if len(pseudonyms) > MOST:
            raise BadRequest(f"pseudonym: at most {MOST}", code="too-costly")
        known = await deid.vault.originals(project, sorted(set(pseudonyms.values())))
        found = {one: known[id_] for one, id_ in pseudonyms.items() if id_ in known}
        parts: list[Json] = []
        for pseudonym, original in found.items():
            patient = await _patient(original, own, call.base)
            if patient:
                session.told("reidentify", patient, reason)
            parts.append(_part(pseudonym, original, patient))
        return {"resourceType": "Parameters", "parameter": parts + _unknown(pseudonyms, found)}

    return Operation(
        code="reidentify",
        levels=frozenset(("system",)),
        types=(),
        affects_state=True,
        inputs=INPUTS,
        outputs=OUTPUTS,
        scope="user/Practitioner.r, role custodian",
        description="Tells what pseudonyms of a project stand for; recorded with its reason",
        example="POST $reidentify",
        handler=handler,
        needs=("Practitioner",),
    )


def _reason(text: str) -> str:
    reason = text.strip()
    if not reason or len(reason) > LONGEST or not reason.isprintable():
        raise BadRequest(f"reason says why, in up to {LONGEST} characters", code="value")
    return reason


async def _patient(original: Original, own: Session, base: str) -> str:
    """The id of the patient whose resource it is; "" if it is nobody's, or gone."""
    type_, _, id_ = original.key.partition("/")
    if type_ == "Patient":
        return id_
    try:
        stored = await own.read(Key(type_, id_))
    except (Gone, NotFound):
        return ""
    whose = subject_of(loads(stored.body), Run(0, base))
    return whose.removeprefix("Patient/") if whose.startswith("Patient/") else ""


def _part(pseudonym: str, original: Original, patient: str) -> Json:
    whose = [{"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}}]
    return {
        "name": "original",
        "part": [
            {"name": "pseudonym", "valueString": pseudonym},
            {"name": "resource", "valueReference": {"reference": original.key}},
            *(whose if patient else ()),
            {"name": "key", "valuePositiveInt": original.version},
            {"name": "issued", "valueInstant": format_instant(original.at)},
        ],
    }


def _unknown(asked: Iterable[str], found: dict[str, Original]) -> list[Json]:
    return [{"name": "unknown", "valueString": one} for one in asked if one not in found]
