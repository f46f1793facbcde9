"""``$predict``: what the models say about a patient, as drafts for a clinician to sign.

On ``Patient/[id]`` over the stored record (or ``data``), on ``Patient`` over ``data`` alone.
Results are returned; only ``store`` by POST writes them, through the session like any write.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from fhir_server.access.drafts import Draft
from fhir_server.access.session import Session
from fhir_server.access.writing import resource_of
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import (
    BadRequest,
    Issue,
    MethodNotAllowed,
    Unavailable,
    Unprocessable,
    outcome,
)
from fhir_server.model.resource import Key

from .models import drafts
from .models.evidence import Moment, collect
from .models.inference import Inference, Question, infer, needed
from .models.kinds import Gap
from .models.overrides import resolve
from .models.package import ModelPackage
from .models.publishing import device, publish
from .models.record import BundleRecord, Item, RecordReader
from .models.registry import Registry
from .models.session_record import IndexNames, SessionRecord
from .parameters import Arguments, Parameter, Value
from .registry import Invocation, Operation

T = TypeVar("T")

INPUTS: Final = (
    Parameter("model", "code", "Model name, or name|version; none: every model", max=None),
    Parameter(
        "override",
        "",
        "A what-if value in place of what the record shows",
        max=None,
        parts=(
            Parameter("feature", "code", "Feature name, or one of its codes", min=1),
            Parameter("value", "value", "Quantity, decimal, integer, boolean or code", min=1),
        ),
    ),
    Parameter("data", "Bundle", "The patient's resources, instead of the stored record"),
    Parameter("asOf", "instant", "Nothing after this moment is used; default: now"),
    Parameter("missing", "code", "report (default), or request: add a Task per missing feature"),
    Parameter("store", "boolean", "Write the drafts into the record (POST only); default false"),
)
OUTPUTS: Final = (
    Parameter(
        "return",
        "Bundle",
        "A collection: per model its RiskAssessment or Observation, Device and Provenance; "
        "an OperationOutcome with what a reader must know",
        min=1,
    ),
)
EXAMPLE: Final = "GET /fhir/Patient/example/$predict?model=score2"


def predict_operation(models: Registry, index: IndexNames, own: Session) -> Operation:
    """The row. ``index``: (resource type, search parameter) -> names of its indexes.

    ``own``: the server's session, by which the Devices are stored that drafts refer to.
    """

    async def handler(arguments: Arguments, session: Session, call: Invocation) -> Json:
        return await Prediction(models, index, own, arguments, session, call).run()

    return Operation(
        code="predict",
        levels=frozenset({"type", "instance"}),
        types=("Patient",),
        affects_state=False,
        inputs=INPUTS,
        outputs=OUTPUTS,
        scope="patient/Patient.r patient/Observation.rs patient/Condition.rs "
        "patient/MedicationRequest.rs patient/MedicationStatement.rs",
        description="Predicts risks of a patient by registered models",
        example=EXAMPLE,
        handler=handler,
        body="data",
    )


@dataclass(slots=True)
class Prediction:
    """One call of ``$predict``."""

    models: Registry
    index: IndexNames
    own: Session
    arguments: Arguments
    session: Session
    call: Invocation
    failures: list[Issue] = field(default_factory=list)

    async def run(self) -> Json:
        """The collection Bundle. Raises NotFound, Unprocessable, Unavailable, BadRequest."""
        store, missing = self._modes()
        moment = self._moment()
        reader = await self._reader()
        packages = await self._packages()
        pairs = self._overrides()
        wanted = await needed(self.models, packages)
        overrides = resolve(pairs, wanted)
        evidence = await collect(reader, wanted, moment)
        asked = len(self.arguments.all("model"))
        question = Question(self.models, evidence, moment, overrides, asked > 0)
        found = await self._infer(packages, question)
        if asked == 1 and missing == "report":
            _refuse(found)
        answer = Answer(self.call, moment.text, self.session.principal.id)
        for inference in found:
            if inference.gaps:
                answer.refused(inference, evidence.patient, missing == "request", asked > 0)
            else:
                answer.add(inference, store, self.session)
        answer.issues += self.failures
        if store:
            answer.permitted(self.session)
            await publish(self.models, self.own)
            await answer.write(self.session)
        return answer.bundle()

    def _modes(self) -> tuple[bool, str]:
        store = self.arguments.one("store", False)
        if store and self.call.method != "POST":
            raise MethodNotAllowed("store=true needs POST", headers={"Allow": "POST"})
        if store and self.arguments.one("data"):
            raise Unprocessable("store: results of data are not stored", code="business-rule")
        missing = self.arguments.one("missing", "report")
        if missing not in ("report", "request"):
            raise BadRequest("missing: it is report or request", code="value")
        return store, missing

    def _moment(self) -> Moment:
        text = self.arguments.one("asOf") or format_instant(self.call.now)
        try:
            return Moment.of(text)
        except (ValueError, OverflowError) as error:
            raise BadRequest(f"asOf: {error}", code="value") from error

    def _overrides(self) -> list[tuple[str, Value]]:
        """Feature and value."""
        return [(o.one("feature"), o.one("value")) for o in self.arguments.all("override")]

    async def _reader(self) -> RecordReader:
        data = self.arguments.one("data")
        if self.call.level == "type":
            if data is None:
                raise BadRequest("Parameter 'data' is required on type level", code="required")
            return BundleRecord(data)
        stored = SessionRecord(self.session, self.call.id, self.index)
        if data is None:
            return stored
        return BundleRecord(data, await stored.patient())

    async def _packages(self) -> list[ModelPackage]:
        """Those asked for, each once."""
        await self.models.refresh()
        names = self.arguments.all("model") or self.models.names()
        found = [await self._tried(self.models.champion(name), len(names)) for name in names]
        return list({package.id: package for package in found if package}.values())

    async def _infer(self, packages: Sequence[ModelPackage], question: Question) -> list[Inference]:
        found = [await self._tried(infer(p, question), len(packages)) for p in packages]
        if self.failures and not any(found):
            raise Unavailable(self.failures)
        return [inference for inference in found if inference]

    async def _tried(self, step: Awaitable[T], models: int) -> T | None:
        """A failing model is 503 where it is the only one, else a warning beside the others."""
        try:
            return await step
        except Unavailable as problem:
            if models == 1:
                raise
            self.failures += [replace(issue, severity="warning") for issue in problem.issues]
            return None


def _refuse(found: Sequence[Inference]) -> None:
    """Raises Unprocessable that names every gap of the one model asked for."""
    issues = [_issue(inference, gap, "error") for inference in found for gap in inference.gaps]
    if issues:
        raise Unprocessable(issues)


def _issue(inference: Inference, gap: Gap, severity: str) -> Issue:
    text = f"{inference.package.card.name}: {drafts.describe(gap)}"
    return Issue(gap.code, text, severity=severity)


class Answer:
    """The entries of the collection, gathered model by model."""

    def __init__(self, call: Invocation, moment: str, requester: str) -> None:
        self._call = call
        self._moment = moment
        self._now = format_instant(call.now)
        self._requester = requester
        self._entries: dict[str, Json] = {}
        self._new: list[Key] = []
        self.issues: list[Issue] = []

    def add(self, inference: Inference, store: bool, session: Session) -> None:
        """One result with its Device and Provenance."""
        resource = drafts.result(inference, self._moment)
        target = self._place(resource, store, session)
        for package in (inference.package, *(d.package for d in inference.derived)):
            full_url = f"{self._call.base}/Device/{package.id}"
            self._entries[full_url] = device(package)
        made = drafts.provenance(inference, target, self._now, self._requester)
        self._place(made, store, session)
        name = inference.package.card.name
        self.issues += [
            Issue("informational", f"{name}: {text}", severity="warning")
            for text in drafts.cautions(inference)
        ]

    def refused(self, inference: Inference, patient: Item, tasks: bool, asked: bool) -> None:
        """The gaps of a model without result, as issues and, if wanted, as Tasks."""
        severity = "warning" if asked else "information"
        self.issues += [_issue(inference, gap, severity) for gap in inference.gaps]
        if not tasks:
            return
        who = drafts.subject_of(patient)
        for gap in inference.gaps:
            if gap.feature is not None and gap.code in ("required", "value"):
                self._place(drafts.request(gap, who, self._now))

    def _place(self, resource: Json, store: bool = False, session: Session | None = None) -> str:
        """Add an entry; the reference by which others name it."""
        if store and session is not None:
            key = Key(resource["resourceType"], session.new_id())
            self._new.append(key)
            self._entries[f"{self._call.base}/{key}"] = {**resource, "id": key.id}
            return str(key)
        full_url = uuid.uuid4().urn
        self._entries[full_url] = resource
        return full_url

    def permitted(self, session: Session) -> None:
        """Raises Forbidden before anything is written for a caller who may not."""
        for key in self._new:
            session.allow("c", key.type)

    async def write(self, session: Session) -> None:
        """All drafts in one change set; the entries become what was stored."""
        urls = [f"{self._call.base}/{key}" for key in self._new]
        written = await session.write(
            [Draft("POST", k, self._entries[u]) for k, u in zip(self._new, urls, strict=True)]
        )
        for url, one in zip(urls, written, strict=True):
            if one.stored is not None:
                self._entries[url] = resource_of(one.stored)

    def bundle(self) -> Json:
        entries: list[dict[str, Any]] = [
            {"fullUrl": url, "resource": resource} for url, resource in self._entries.items()
        ]
        if self.issues:
            unique = list(dict.fromkeys(self.issues))
            entries.append({"fullUrl": uuid.uuid4().urn, "resource": outcome(unique)})
        bundle: Json = {"resourceType": "Bundle", "type": "collection", "timestamp": self._now}
        return bundle | ({"entry": entries} if entries else {})
