"""``$model-train``: a model made from the record, as a job.

The specification (TOML, ``models/training/spec.schema.json``; the body or a parameter) says which
features, which outcome, which rows and which gate. The record is read in the name of the caller;
the candidate is pushed and computes beside the champion as its challenger. It answers nobody until
a person activates it, and never if it has not passed its gate.
"""

from __future__ import annotations

from binascii import a2b_base64
from dataclasses import dataclass
from typing import Final

from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.jobs.context import Body, JobContext
from fhir_server.jobs.model import REQUEST, Asked, Owner
from fhir_server.jobs.pattern import accepted
from fhir_server.jobs.queue import Queue
from fhir_server.model.exchange import Json, Response
from fhir_server.model.problem import BadRequest, Forbidden

from .models.administration import Administration, By, allowed
from .models.session_record import IndexNames
from .models.training.dataset import DataSet
from .models.training.fitting import versions
from .models.training.making import make
from .models.training.packaging import unfinished
from .models.training.spec import read_spec
from .models.training.work import Files, Training, reason
from .parameters import Arguments, Parameter
from .registry import Invocation, Operation

KIND: Final = "model-train"
READ: Final = ("Patient", "Observation", "Condition")


@dataclass(frozen=True, slots=True)
class ModelTraining:
    """``index``: (resource type, search parameter) -> names of its indexes."""

    administration: Administration
    index: IndexNames
    queue: Queue

    def operation(self) -> Operation:
        """The row."""
        return Operation(
            code="model-train",
            levels=frozenset({"system"}),
            types=(),
            affects_state=True,
            inputs=(
                Parameter("specification", "string", "What to train, in TOML"),
                Parameter("file", "Binary", "The same as a file"),
                Parameter("reason", "string", "Why; it is kept as Provenance"),
            ),
            outputs=(Parameter("return", "Parameters", "Version and report, at the status URL"),),
            scope="system/Device.u system/*.rs __models",
            description="Makes a model from the record as a challenger; answers 202 with a status "
            "URL",
            example="POST /fhir/$model-train",
            handler=self._kick_off,
            body="file",
            needs=("Device",),
            asynchronous=True,
        )

    async def _kick_off(self, arguments: Arguments, session: Session, call: Invocation) -> Response:
        """What can be refused is refused at once."""
        allowed(session)
        if session.principal.standing is not None:  # a user that may decide about models
            raise Forbidden(
                "a model is made from the record by a system client, or by vehr model train: an "
                "administrator has no part in the record"
            )
        for type_ in READ:
            session.allow("s", type_)
        text = _specification(arguments)
        unfinished(read_spec(text))
        versions()
        request: Json = {"reason": reason(text, arguments.one("reason", ""))}
        principal = session.principal
        asked = Asked(
            KIND,
            Owner.of(principal),
            call.base,
            request,
            principal.grant,
            text.encode(),
            principal.purpose,
        )
        return accepted(await self.queue.submit(asked))

    def body(self) -> Body:
        """The job."""

        async def run(job: JobContext) -> None:
            text = (await job.read(REQUEST)).decode()

            async def told(done: int, total: int | None) -> None:
                await job.progress(done, total, "patients")

            async def making(text: str, data: DataSet) -> Files:
                job.concerns({line.patient for line in data.lines})
                return await job.compute(make, text, data)

            training = Training(self.administration, job.recorded, self.index, making)
            files = await training.files(text, told)
            session = job.recorded
            own = session.recording(self.administration.own)
            by = By(session.principal, own, job.request["reason"])
            package = await training.challenge(files, by)
            job.answer(answered(package.card.name, package.card.version, files))

        return run


def _specification(arguments: Arguments) -> str:
    """Raises BadRequest."""
    text, file = arguments.one("specification", ""), arguments.one("file")
    if bool(text) == (file is not None):
        raise BadRequest("give the specification, or a file with it in the body", code="required")
    try:
        return text or a2b_base64(file.get("data", "")).decode()
    except UnicodeDecodeError:
        raise BadRequest("the specification is not UTF-8", code="value") from None


def answered(name: str, version: str, files: Files) -> Json:
    """The result: the version, whether it has passed its gate, and the report."""
    report = files["report.json"]
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "model", "valueCode": name},
            {"name": "version", "valueString": version},
            {"name": "device", "valueReference": {"reference": f"Device/{name}-{version}"}},
            {"name": "passed", "valueBoolean": loads(report)["gate"]["passed"]},
            {"name": "report", "valueString": report.decode()},
        ],
    }
