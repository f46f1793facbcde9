"""Somebody is told: an alert is a draft RiskAssessment, which a clinician decides about by
``$review``, and beside it a Flag of the same id, active until then.

https://hl7.org/fhir/R4/flag.html, /riskassessment.html. One alert of a model is open for a patient
at a time; it is raised in place if the output rises. After a decision there is none again within
the refractory period of the card, unless the output is higher than it was.

The Flag says what is so now: it ends by itself when the model says less than the card's ``at``,
when it is not for the patient any more, or when no observation within its look-back is left to rest
on. The draft stays, for somebody to have looked; what comes back meanwhile is the same alert again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from fhir_server.access.drafts import Draft
from fhir_server.access.ports import Stale
from fhir_server.access.session import Session
from fhir_server.access.writing import resource_of
from fhir_server.model.datatypes import parse_datetime
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Conflict, Gone, NotFound, PreconditionFailed
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import All, Any, InPatient, Scan, Search, TokenIs

from .. import drafts
from ..inference import Inference
from ..manifest import Alert, Output
from ..session_record import IndexNames

ALERT: Final = f"{drafts.CANONICAL}:alert"
VALUE: Final = f"{drafts.CANONICAL}:StructureDefinition:alert-value"
RISK: Final = "RiskAssessment"
FLAG: Final = "Flag"
HOUR: Final = 3_600_000_000
SAFETY: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/flag-category",
    "code": "safety",
    "display": "Safety",
}
ATTEMPTS: Final = 5
MOST: Final = 20


def decided(resource: Json) -> str:
    """The id of an alert that nobody needs to decide about any more; "" of anything else."""
    if resource["resourceType"] != RISK or resource.get("status") == "preliminary":
        return ""
    named = any(one.get("system") == ALERT for one in resource.get("identifier", ()))
    return str(resource.get("id", "")) if named else ""


@dataclass(frozen=True, slots=True)
class _Former:
    """The last alert of a model for a patient. ``risk``: None where it is not there any more."""

    flag: tuple[Stored, Json]
    risk: tuple[Stored, Json] | None

    @property
    def open(self) -> bool:
        awaited = self.risk is not None and self.risk[1].get("status") == "preliminary"
        return awaited and self.flag[1].get("status") == "active"

    @property
    def over(self) -> int | None:
        """Since when, if nobody has decided and it ended by itself (microseconds)."""
        awaited = self.risk is not None and self.risk[1].get("status") == "preliminary"
        end = self.flag[1]["period"].get("end")
        return parse_datetime(end).lo if awaited and not self.open and end else None

    @property
    def begun(self) -> int:
        return parse_datetime(self.flag[1]["period"]["start"]).lo

    @property
    def value(self) -> Decimal:
        told = self.flag[1].get("extension", ())
        return max(
            (Decimal(e["valueDecimal"]) for e in told if e["url"] == VALUE), default=Decimal(0)
        )


@dataclass(frozen=True, slots=True)
class Alerting:
    """By the server's session. ``now``: an instant as written; ``requester``: a Reference, or what
    stands for one."""

    session: Session
    index: IndexNames
    now: str
    requester: Json

    async def tell(self, inference: Inference) -> Key | None:
        """The alert that was made, raised or ended; None where there is nothing to tell. Conflict:
        others write it all the time."""
        alert = inference.package.card.alert
        if alert is None:
            return None
        if inference.gaps:
            return await self._end(inference) if _unsupported(inference) else None
        value = Decimal(repr(inference.outputs[alert.output]))
        if value < alert.at:
            return await self._end(inference)
        for _ in range(ATTEMPTS):
            scan = self._scan(inference)
            guard = await self.session.find(scan, MOST)
            former = await self._former(scan)
            if former is not None and not self._again(former, value, alert):
                return None
            open_ = former if former is not None and self._same(former, alert) else None
            key = Key(RISK, open_.flag[0].key.id if open_ else self.session.new_id())
            flag = self._flag(inference, value, key.id, open_)
            risk = self._risk(inference, key.id)
            before = (
                (open_.risk[0].version, open_.flag[0].version) if open_ and open_.risk else (0, 0)
            )
            changes = [
                Draft("PUT", key, risk, _match(before[0])),
                Draft("PUT", Key(FLAG, key.id), flag, _match(before[1]), (guard,)),
                self._beside(inference, f"{key}/_history/{before[0] + 1}"),
            ]
            try:
                await self.session.attesting().write(changes)
            except (Stale, PreconditionFailed):
                continue
            return key
        raise Conflict("this alert is being changed by others")

    async def close(self, ids: Iterable[str]) -> None:
        """The Flags of alerts that were decided about."""
        for id_ in ids:
            found = await self._current(Key(FLAG, id_))
            if found is not None and found[1].get("status") == "active":
                await self._over(*found)

    async def _end(self, inference: Inference) -> Key | None:
        """The Flag of what is not so any more; None where there is none."""
        for _ in range(ATTEMPTS):
            former = await self._former(self._scan(inference))
            if former is None or former.flag[1].get("status") != "active":
                return None
            try:
                await self._over(*former.flag)
            except (Stale, PreconditionFailed):
                continue
            return former.flag[0].key
        raise Conflict("this alert is being changed by others")

    async def _over(self, stored: Stored, flag: Json) -> None:
        period = {**flag.get("period", {}), "end": self.now}
        over = {**flag, "status": "inactive", "period": period}
        await self.session.write([Draft("PUT", stored.key, over, _match(stored.version))])

    def _same(self, former: _Former, alert: Alert) -> bool:
        """Is what is told now that alert, going on?"""
        over = former.over
        if over is None:
            return former.open
        return parse_datetime(self.now).lo - over < alert.refractory * HOUR

    def _again(self, former: _Former, value: Decimal, alert: Alert) -> bool:
        """Is there more to tell than was told?"""
        if value > former.value or former.over is not None:
            return True
        quiet = parse_datetime(self.now).lo - former.begun < alert.refractory * HOUR
        return not (former.open or quiet)

    def _scan(self, inference: Inference) -> Scan:
        names = self.index(FLAG, "identifier")
        name = inference.package.card.name
        named = Any(tuple(TokenIs(index, ALERT, name) for index in names))
        return Scan(FLAG, All((InPatient((str(inference.patient.resource["id"]),)), named)))

    async def _former(self, scan: Scan) -> _Former | None:
        """That which began last."""
        page = await self.session.search(Search((scan,), count=MOST, total="none"))
        flags = [(stored, resource_of(stored)) for stored in page.matches]
        flags = [one for one in flags if "start" in one[1].get("period", {})]
        if not flags:
            return None
        last = max(flags, key=lambda one: parse_datetime(one[1]["period"]["start"]).lo)
        return _Former(last, await self._current(Key(RISK, last[0].key.id)))

    async def _current(self, key: Key) -> tuple[Stored, Json] | None:
        try:
            stored = await self.session.read(key)
        except (NotFound, Gone):
            return None
        return stored, resource_of(stored)

    def _risk(self, inference: Inference, id_: str) -> Json:
        """What is said, from what, for whom to decide."""
        package, output = inference.package, _output(inference)
        notes = [drafts.UNSIGNED, *drafts.cautions(inference), *package.card.limits]
        told = inference.level(output, Decimal(repr(inference.outputs[output.name])))
        return {
            "resourceType": RISK,
            "id": id_,
            "meta": drafts.meta(inference),
            "identifier": [{"system": ALERT, "value": package.card.name}],
            "status": "preliminary",
            "method": drafts.model_concept(package),
            "code": {"text": f"Alert by {package.card.title}"},
            "subject": drafts.subject(inference),
            **_encounter(inference),
            "occurrenceDateTime": self.now,
            "performer": drafts.performer(package),
            **drafts.listed("basis", drafts.basis(inference)),
            "prediction": [
                {
                    "outcome": drafts.outcome(output),
                    **({"qualitativeRisk": {"text": told}} if told else {}),
                    "rationale": _rationale(inference),
                }
            ],
            "note": [{"text": text} for text in notes],
        }

    def _flag(self, inference: Inference, value: Decimal, id_: str, open_: _Former | None) -> Json:
        """What a ward sees until somebody has decided."""
        package, output = inference.package, _output(inference)
        begun = {"start": open_.flag[1]["period"]["start"] if open_ else self.now}
        told = inference.level(output, value) or f"{output.title} {value:g}"
        return {
            "resourceType": FLAG,
            "id": id_,
            "meta": drafts.meta(inference),
            "extension": [{"url": VALUE, "valueDecimal": value}],
            "identifier": [{"system": ALERT, "value": package.card.name}],
            "status": "active",
            "category": [{"coding": [SAFETY], "text": "Safety"}],
            "code": {"text": f"{package.card.title}: {told}. {_rationale(inference)}"},
            "subject": drafts.subject(inference),
            "period": begun,
            **_encounter(inference),
            "author": drafts.performer(package),
        }

    def _beside(self, inference: Inference, place: str) -> Draft:
        made = drafts.provenance(inference, place, self.now, self.requester)
        return Draft("POST", Key("Provenance", self.session.new_id()), made)


def _unsupported(inference: Inference) -> bool:
    """Is the model not for the patient, or is there nothing left that it could rest on? A value
    that it cannot use ends nothing."""
    if any(gap.code == "business-rule" for gap in inference.gaps):
        return True
    observed = any(
        item.resource["resourceType"] == "Observation"
        for row in inference.rows
        for item in row.items
    )
    return not observed and all(gap.code == "required" for gap in inference.gaps)


def _match(version: int) -> str | None:
    return str(version) if version else None


def _output(inference: Inference) -> Output:
    alert = inference.package.card.alert
    assert alert is not None
    return next(o for o in inference.package.features.output if o.name == alert.output)


def _rationale(inference: Inference) -> str:
    return "; ".join(f"{output.name} {value:g}" for output, value in inference.results())


def _encounter(inference: Inference) -> Json:
    """That of the newest input which names one."""
    dated = [(row.date, item) for row in inference.rows for item in row.items]
    for _, item in sorted(dated, key=lambda one: one[0], reverse=True):
        encounter = item.resource.get("encounter", {}).get("reference")
        if isinstance(encounter, str):
            return {"encounter": {"reference": encounter}}
    return {}
