"""Group/[id]/$predict: the models on every patient of a Group, as a job.

Always 202 with a status URL (https://hl7.org/fhir/R4/async.html). Its result is a manifest as of an
export: files of NDJSON, one ``collection`` Bundle per patient with a result, one OperationOutcome
per patient without. A killed job goes on behind its last whole file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fhir_server.access.gate import OPEN
from fhir_server.access.session import Session
from fhir_server.formats.json import dumps, loads
from fhir_server.jobs.context import Body, JobContext
from fhir_server.jobs.files import JobFiles
from fhir_server.jobs.model import REQUEST, Asked, Job, JobFile, Owner
from fhir_server.jobs.pattern import accepted
from fhir_server.jobs.queue import Queue
from fhir_server.jobs.request import require_unchanged
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json, Response
from fhir_server.model.problem import Issue, Problem, outcome
from fhir_server.model.resource import Key

from .bulk.wanted import members_of
from .models.answer import Answer, issue, requester_of
from .models.asking import Asking, Found
from .models.cohort import Cohort
from .models.evidence import Moment
from .models.inference import Inference
from .models.keeping import Keeping
from .models.publishing import publish
from .models.registry import Registry
from .models.requesting import Requesting, lacking
from .models.session_record import IndexNames
from .parameters import Arguments, Parameter
from .predict import INPUTS, modes, moment_of
from .registry import Invocation, Operation

KIND: Final = "group-predict"
FILE: Final = 250
"""Patients of one file."""
TOGETHER: Final = 50
"""Patients at a time: while a graph runs for some, others are read."""
_OF_A_GROUP: Final = ("model", "asOf", "missing", "store")


@dataclass(frozen=True, slots=True)
class GroupPredictions:
    """``own``: the server's session, by which Devices are stored that drafts refer to."""

    models: Registry
    index: IndexNames
    own: Session
    queue: Queue

    def operation(self) -> Operation:
        """The row."""
        return Operation(
            code="predict",
            levels=frozenset({"instance"}),
            types=("Group",),
            affects_state=False,
            inputs=tuple(row for row in INPUTS if row.name in _OF_A_GROUP),
            outputs=(Parameter("return", "Binary", "A manifest, at the status URL", min=1),),
            scope="user/Group.r user/Patient.r user/Observation.rs user/Condition.rs",
            description="Predicts risks of each patient of a Group; answers 202 with a status URL",
            example="POST Group/example/$predict",
            handler=self._kick_off,
            asynchronous=True,
            id="group-predict",
        )

    async def _kick_off(self, arguments: Arguments, session: Session, call: Invocation) -> Response:
        """What can be refused is refused at once: NotFound for a model or Group that is none."""
        store, missing = modes(arguments, call)
        moment = moment_of(arguments, call)
        models: list[str] = arguments.all("model")
        await Asking.of(self.models, models)
        group = await session.read(Key("Group", call.id))
        session.allow("s", "Observation")
        request: Json = {
            "url": f"{call.base}/Group/{call.id}/$predict",
            "models": models,
            "asOf": moment.text,
            "now": format_instant(call.now),
            "store": store,
            "missing": missing,
            "stamp": session.stamp,
        }
        body = dumps({"patients": list(members_of(group))})
        principal = session.principal
        asked = Asked(
            KIND, Owner.of(principal), call.base, request, principal.grant, body, principal.purpose
        )
        return accepted(await self.queue.submit(asked))

    def body(self) -> Body:
        """The job."""

        async def run(job: JobContext) -> None:
            await _Run(self, job).run()

        return run


class _Run:
    """One claim of the job."""

    def __init__(self, parts: GroupPredictions, job: JobContext) -> None:
        self._parts = parts
        self._job = job
        self._moment = Moment.of(job.request["asOf"])

    async def run(self) -> None:
        job = self._job
        patients = loads(await job.read(REQUEST))["patients"]
        asking = await Asking.of(self._parts.models, job.request["models"])
        if job.request["store"]:
            await publish(self._parts.models, self._parts.own)
        state = job.state or {"done": 0, "files": []}
        while state["done"] < len(patients):
            some = patients[state["done"] : state["done"] + FILE]
            lines = await self._lines(asking, some, state["done"], len(patients))
            files = list(state["files"])
            for type_ in ("Bundle", "OperationOutcome"):
                own = [line for line in lines if line["resourceType"] == type_]
                if own:
                    name = f"{type_}.{1 + state['done'] // FILE}.ndjson"
                    await job.write(name, b"".join(dumps(line) + b"\n" for line in own))
                    files.append([type_, name, len(own)])
            state = {"done": state["done"] + len(some), "files": files}
            await job.checkpoint(state)
        job.answer({"files": state["files"], "patients": len(patients)})

    async def _lines(
        self, asking: Asking, patients: Sequence[str], before: int, total: int
    ) -> list[Json]:
        """One resource per patient, in their order."""
        lines: list[Json] = []
        for start in range(0, len(patients), TOGETHER):
            some = patients[start : start + TOGETHER]
            self._job.concerns(some)
            cohort = Cohort(self._job.recorded, some, self._parts.index)
            lines += await asyncio.gather(*(self._line(asking, id_, cohort) for id_ in some))
            await self._job.progress(before + len(lines), total, "patients")
        return lines

    async def _line(self, asking: Asking, patient: str, cohort: Cohort) -> Json:
        """The Bundle, or why there is none; the failure of one patient is that of no other."""
        session = self._job.recorded
        try:
            found = await asking.about(cohort.record(patient), self._moment)
            return await self._answer(asking, found, patient, session)
        except Problem as problem:
            return failed(patient, list(problem.issues))

    async def _answer(self, asking: Asking, found: Found, patient: str, session: Session) -> Json:
        request, now = self._job.request, self._job.request["now"]
        requester = requester_of(session)
        answer = Answer(self._job.job.base, self._moment.text, now, requester)
        answer.issues += found.failures
        answered = [one for one in found.inferences if not one.gaps]
        for inference in found.inferences:
            if inference.gaps:
                answer.refused(inference, "warning" if asking.asked else "information")
            else:
                answer.add(inference)
        if request["store"]:
            keeping = Keeping(session, self._parts.index, now, requester)
            for inference in answered:
                await keeping.keep(inference, self._moment.text)
        if request["missing"] == "request":
            answer.tasks(await self._tasks(found.inferences, patient, requester))
        if not answered:
            return failed(patient, answer.issues or _silent(found.inferences))
        return {"id": patient, **answer.bundle()}

    async def _tasks(self, found: Sequence[Inference], patient: str, requester: Json) -> list[Json]:
        wanted = lacking(one for one in found if one.gaps)
        if not wanted:
            return []
        now = self._job.request["now"]
        asking = Requesting(self._job.recorded, self._parts.index, patient, requester, now)
        return await asking.request(wanted)


def _silent(found: Sequence[Inference]) -> list[Issue]:
    return [issue(one, gap, "information") for one in found for gap in one.gaps]


def failed(patient: str, issues: Sequence[Issue]) -> Json:
    """An OperationOutcome that names its patient."""
    told = outcome(list(dict.fromkeys(issues)) or [Issue("not-found", "no model answers")])
    for one in told["issue"]:
        one["details"] = {"text": f"Patient/{patient}"}
    return {"resourceType": "OperationOutcome", "id": patient, **told}


@dataclass(frozen=True, slots=True)
class GroupDelivery:
    """What the owner is shown; Gone once patients have decided otherwise about the owner."""

    files: JobFiles

    async def manifest(self, job: Job, session: Session) -> Json:
        require_unchanged(job, session)
        result = job.result or {"files": [], "patients": 0}
        listed: dict[str, list[Json]] = {"Bundle": [], "OperationOutcome": []}
        for type_, name, lines in result["files"]:
            listed[type_].append({"type": type_, "url": f"{job.url}/{name}", "count": lines})
        return {
            "transactionTime": job.request["now"],
            "request": job.request["url"],
            "requiresAccessToken": session.principal is not OPEN,
            "output": listed["Bundle"],
            "error": listed["OperationOutcome"],
        }

    async def content(self, job: Job, file: JobFile, session: Session) -> bytes:
        require_unchanged(job, session)
        return await self.files.content(job.id, file)
