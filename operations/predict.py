"""``$predict``: what the models say about a patient, as drafts for a clinician to sign.

On ``Patient/[id]`` over the stored record (or ``data``), on ``Patient`` over ``data`` alone.
Results are returned; only ``store`` by POST writes them, through the session like any write.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from fhir_server.access.session import Session
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import (
    BadRequest,
    Issue,
    MethodNotAllowed,
    Unavailable,
    Unprocessable,
)

from .models.answer import Answer, issue, requester_of
from .models.evidence import Moment, collect
from .models.inference import Inference, Question, needed
from .models.monitoring.watching import watched
from .models.overrides import resolve
from .models.package import ModelPackage
from .models.publishing import publish
from .models.record import BundleRecord, RecordReader
from .models.registry import Registry
from .models.requesting import Requesting, lacking
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
    Parameter(
        "missing",
        "code",
        "report (default), or request: a Task names each missing feature (POST only)",
    ),
    Parameter(
        "store",
        "boolean",
        "Write the drafts into the record (POST only, not with override); default false",
    ),
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
        store, missing = modes(self.arguments, self.call)
        moment = moment_of(self.arguments, self.call)
        reader = await self._reader()
        packages = await self._packages()
        pairs = self._overrides()
        wanted = await needed(self.models, packages)
        overrides = resolve(pairs, wanted)
        evidence = await collect(reader, wanted, moment)
        asked = len(self.arguments.all("model"))
        given = bool(pairs) or self.arguments.one("data") is not None
        question = Question(self.models, evidence, moment, overrides, asked > 0, given)
        found = await self._infer(packages, question)
        if asked == 1 and missing == "report":
            _refuse(found)
        now = format_instant(self.call.now)
        answer = Answer(self.call.base, moment.text, now, requester_of(self.session))
        for inference in found:
            if inference.gaps:
                answer.refused(inference, "warning" if asked else "information")
            else:
                answer.add(inference, self.session if store else None)
        answer.issues += self.failures
        if store:
            writer = self.session.attesting()
            answer.permitted(writer)
            await publish(self.models, self.own)
            await answer.write(writer)
        if missing == "request":
            answer.tasks(await self._request(found))
        return answer.bundle()

    async def _request(self, found: Sequence[Inference]) -> list[Json]:
        """The open Tasks for what is missing."""
        wanted = lacking(one for one in found if one.gaps)
        if not wanted:
            return []
        requester, now = requester_of(self.session), format_instant(self.call.now)
        return await Requesting(self.session, self.index, self.call.id, requester, now).request(
            wanted
        )

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
        found = [await self._tried(watched(p, question), len(packages)) for p in packages]
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
    issues = [issue(inference, gap, "error") for inference in found for gap in inference.gaps]
    if issues:
        raise Unprocessable(issues)


def modes(arguments: Arguments, call: Invocation) -> tuple[bool, str]:
    """``store`` and ``missing``. MethodNotAllowed: what writes is not asked for by GET.
    BadRequest, Unprocessable: what is hypothetical is not stored."""
    store, missing = arguments.one("store", False), arguments.one("missing", "report")
    if missing not in ("report", "request"):
        raise BadRequest("missing: it is report or request", code="value")
    for wanted, name in ((store, "store=true"), (missing == "request", "missing=request")):
        if wanted and call.method != "POST":
            raise MethodNotAllowed(f"{name} needs POST", headers={"Allow": "POST"})
        if wanted and arguments.one("data"):
            raise Unprocessable(f"{name}: data is not the stored record", code="business-rule")
    if store and arguments.all("override"):
        raise BadRequest("store=true: what rests on an override is never stored", code="invalid")
    return store, missing


def moment_of(arguments: Arguments, call: Invocation) -> Moment:
    """``asOf``, else now. Raises BadRequest."""
    text = arguments.one("asOf") or format_instant(call.now)
    try:
        return Moment.of(text)
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"asOf: {error}", code="value") from error
