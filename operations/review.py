"""RiskAssessment/[id]/$review, Observation/[id]/$review: a clinician decides about a draft.

What a model has said becomes part of the record by a person: accepted (final), edited (amended)
or rejected (entered-in-error), as a new version with its Provenance. The decision is feedback on
the model (``models/feedback``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from fhir_server.access.drafts import Draft
from fhir_server.access.gate import OPEN
from fhir_server.access.session import Session
from fhir_server.access.writing import resource_of
from fhir_server.definitions.guide import profile
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import (
    BadRequest,
    Conflict,
    Forbidden,
    PreconditionFailed,
    Unprocessable,
)
from fhir_server.model.resource import Key, Stored

from .models.answer import requester_of
from .models.drafts import AI_LABEL, CANONICAL, MODEL_SYSTEM, REPORTED, UNSIGNED
from .models.feedback import DECISIONS, Feedback
from .parameters import Arguments, Parameter, Value
from .registry import Invocation, Operation

TYPES: Final = ("RiskAssessment", "Observation")
STATUS: Final = {"accept": "final", "edit": "amended", "reject": "entered-in-error"}
REVIEW: Final = f"{CANONICAL}:CodeSystem:review"
SAID: Final = {
    "accept": "Accepted by a clinician",
    "edit": "Edited by a clinician",
    "reject": "Rejected by a clinician",
}
_TERMS: Final = "http://terminology.hl7.org/CodeSystem"

INPUTS: Final = (
    Parameter("decision", "code", "accept, edit or reject", min=1),
    Parameter("reason", "string", "Why; needed to edit or reject"),
    Parameter(
        "edit",
        "",
        "The value in place of the model's",
        max=None,
        parts=(
            Parameter("output", "code", "Which output of the model; default: the first"),
            Parameter(
                "value", "value", "Probability (decimal), Quantity, or a level (code)", min=1
            ),
        ),
    ),
)


async def review(arguments: Arguments, session: Session, call: Invocation) -> Json:
    """The new version. Forbidden: not a clinician. NotFound: absent or hidden. Conflict: decided
    already. PreconditionFailed: If-Match. Unprocessable: no draft, or no such value."""
    session.allow("u", call.type)
    if session.principal.standing is None and session.principal is not OPEN:
        raise Forbidden("a draft is reviewed by a person")
    decision, reason, edits = _asked(arguments)
    stored = await session.read(Key(call.type, call.id))
    match = call.request.header("if-match")
    deciding = Deciding(session, call, stored, decision, reason)
    return await deciding.decide(edits, match.strip('W/"') if match else None)


ROW: Final = Operation(
    code="review",
    levels=frozenset(("instance",)),
    types=TYPES,
    affects_state=True,
    inputs=INPUTS,
    outputs=(Parameter("return", "Resource", "The new version of the draft", min=1),),
    scope="user/RiskAssessment.ru user/Observation.ru user/Provenance.c",
    description="A clinician accepts, edits or rejects what a model has drafted",
    example="POST RiskAssessment/example/$review",
    handler=review,
)


def _asked(arguments: Arguments) -> tuple[str, str, list[Arguments]]:
    decision = arguments.one("decision")
    if decision not in DECISIONS:
        raise BadRequest(f"decision: one of {', '.join(DECISIONS)}", code="value")
    reason, edits = arguments.one("reason", "").strip(), arguments.all("edit")
    if edits and decision != "edit":
        raise BadRequest("edit: goes with decision=edit only", code="invalid")
    if decision == "edit" and not edits:
        raise Unprocessable("edit: the value is missing", code="required")
    if decision != "accept" and not reason:
        raise Unprocessable(f"reason: needed to {decision}", code="required")
    return decision, reason, edits


@dataclass(frozen=True, slots=True)
class Deciding:
    """One decision about one draft."""

    session: Session
    call: Invocation
    stored: Stored
    decision: str
    reason: str

    async def decide(self, edits: list[Arguments], match: str | None) -> Json:
        """``match``: the version that the clinician has seen, if that was said."""
        draft = resource_of(self.stored)
        model, seen = _model(draft), str(self.stored.version)
        if match not in (None, seen):
            raise PreconditionFailed(f"{self.stored.key}: the version is not {match}")
        if draft.get("status") != "preliminary":
            raise Conflict(f"this draft is {draft.get('status')}: it has been decided about")
        resource = self._signed(draft)
        told = [self._edit(model, resource, edit) for edit in edits]
        told = told or [self._feedback(model, "", _value(draft, ""))]
        drafts = [Draft("PUT", self.stored.key, resource, seen), self._provenance(draft)]
        rows = tuple(one.row(self.session.new_id()) for one in told)
        try:
            written = await self.session.attesting().write(drafts, rows)
        except PreconditionFailed:
            if match is not None:
                raise
            raise Conflict("somebody else has decided about this draft meanwhile") from None
        assert written[0].stored is not None
        return resource_of(written[0].stored)

    def _edit(self, model: str, resource: Json, edit: Arguments) -> Feedback:
        output = edit.one("output", "")
        before = _value(resource, output)
        _edited(resource, output, edit.one("value"))
        return self._feedback(model, output, before, _value(resource, output))

    def _feedback(
        self, model: str, output: str, before: float | None, after: float | None = None
    ) -> Feedback:
        standing = self.session.principal.standing
        role = standing.role if standing is not None else ""
        return Feedback(model, self.decision, self.call.now, role, output, before, after)

    def _signed(self, draft: Json) -> Json:
        """With its new status and who gave it."""
        note: Json = {"time": format_instant(self.call.now)}
        who = requester_of(self.session)
        if "reference" in who:
            note["authorReference"] = who
        else:
            note["authorString"] = who["display"]
        note["text"] = f"{SAID[self.decision]}{f': {self.reason}' if self.reason else '.'}"
        kept = [one for one in draft.get("note", []) if one.get("text") != UNSIGNED]
        copied: Json = {
            **draft,
            "status": STATUS[self.decision],
            "note": [note, *kept],
        }
        for name in ("prediction", "component"):
            if name in draft:
                copied[name] = [dict(one) for one in draft[name]]
        return copied

    def _provenance(self, draft: Json) -> Draft:
        """Who verified what the model assembled: https://hl7.org/fhir/R4/provenance.html"""
        key, version = self.stored.key, self.stored.version
        agents: list[Json] = [{"type": _agent("verifier"), "who": requester_of(self.session)}]
        device = draft.get("performer") or draft.get("device")
        if device:
            agents.append({"type": _agent("assembler"), "who": device})
        body: Json = {
            "resourceType": "Provenance",
            "meta": profile("review-provenance") | {"security": draft["meta"]["security"]},
            "target": [{"reference": f"{key}/_history/{version + 1}"}],
            "recorded": format_instant(self.call.now),
            "activity": {
                "coding": [
                    {"system": REVIEW, "code": self.decision},
                    {"system": f"{_TERMS}/v3-DataOperation", "code": "UPDATE"},
                ]
            },
            **({"reason": [{"text": self.reason}]} if self.reason else {}),
            "agent": agents,
            "entity": [{"role": "revision", "what": {"reference": f"{key}/_history/{version}"}}],
        }
        return Draft("POST", Key("Provenance", self.session.new_id()), body)


def _agent(code: str) -> Json:
    return {"coding": [{"system": f"{_TERMS}/provenance-participant-type", "code": code}]}


def _model(draft: Json) -> str:
    """``name-version`` of the model. Unprocessable: it is no draft of a model."""
    labels = draft.get("meta", {}).get("security", [])
    own = [c for c in draft.get("method", {}).get("coding", []) if c.get("system") == MODEL_SYSTEM]
    if not own or not any(label.get("code") == AI_LABEL["code"] for label in labels):
        raise Unprocessable("this is no draft of a model", code="business-rule")
    return f"{own[0].get('code')}-{own[0].get('version')}"


def _parts(resource: Json) -> list[tuple[Json, Json]]:
    """What holds the value of each output, and the concept that names it."""
    if resource["resourceType"] == "RiskAssessment":
        return [(p, p.get("outcome", {})) for p in resource.get("prediction", [])]
    return [(p, p.get("code", {})) for p in (resource, *resource.get("component", []))]


def _part(resource: Json, output: str) -> Json:
    """Unprocessable: there is no such output."""
    for part, concept in _parts(resource):
        codes = {c.get("code") for c in concept.get("coding", []) if _own(c)}
        if not output or output in codes:
            return part
    raise Unprocessable(f"output: the draft has no {output!r}", code="value")


def _own(coding: Json) -> bool:
    return bool(coding.get("system") == f"{MODEL_SYSTEM}-output")


def _value(resource: Json, output: str) -> float | None:
    part = _part(resource, output)
    number = part.get("probabilityDecimal", part.get("valueQuantity", {}).get("value"))
    return None if number is None else float(number)


def _edited(resource: Json, output: str, value: Value) -> None:
    """Unprocessable: not a value of this kind."""
    part, of = _part(resource, output), resource["resourceType"]
    setter = _SETTERS.get((of, value.member))
    if setter is None:
        known = ", ".join(member for type_, member in _SETTERS if type_ == of)
        raise Unprocessable(f"edit: one of {known}", code="value")
    setter(part, value.json)


def _probability(part: Json, number: Any) -> None:
    """What is said in words goes with the number that it was said of."""
    if isinstance(number, bool) or not isinstance(number, int | Decimal) or not 0 <= number <= 1:
        raise Unprocessable("edit: a probability is a decimal from 0 to 1", code="value")
    part.pop("qualitativeRisk", None)
    part["probabilityDecimal"] = number


def _level(part: Json, text: Any) -> None:
    part["qualitativeRisk"] = {"text": text}


def _concept(part: Json, concept: Any) -> None:
    part["qualitativeRisk"] = concept


def _number(part: Json, number: Any) -> None:
    """In the unit of the draft."""
    _quantity(part, {**part.get("valueQuantity", {}), "value": number})


def _quantity(part: Json, quantity: Any) -> None:
    kept = [e for e in quantity.get("extension", []) if e.get("url") != REPORTED]
    plain = {name: value for name, value in quantity.items() if name != "extension"}
    part.pop("interpretation", None)
    part["valueQuantity"] = {**({"extension": kept} if kept else {}), **plain}


_SETTERS: Final[dict[tuple[str, str], Callable[[Json, Any], None]]] = {
    ("RiskAssessment", "valueDecimal"): _probability,
    ("RiskAssessment", "valueInteger"): _probability,
    ("RiskAssessment", "valueCode"): _level,
    ("RiskAssessment", "valueString"): _level,
    ("RiskAssessment", "valueCodeableConcept"): _concept,
    ("Observation", "valueDecimal"): _number,
    ("Observation", "valueInteger"): _number,
    ("Observation", "valueQuantity"): _quantity,
}
"""(resource type, member of the given value) -> how it is put in place."""
