"""The Open Inference Protocol v2: models by tensors, for programs that speak no FHIR.

``$inference`` tells of the server and its models, ``$infer`` runs one; ``http/inference.py`` gives
them the URLs of the protocol. They see no record and write nothing. They are for system clients
whose scopes open Devices, which is what models are.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from dataclasses import dataclass
from typing import Final

from fhir_server.access.session import Session
from fhir_server.formats.json import Limits, dumps, loads
from fhir_server.model.exchange import Json, Response
from fhir_server.model.problem import BadRequest, Forbidden, Problem, Unavailable
from fhir_server.model.software import software_version

from .models.registry import Registry
from .models.tensors import MOST_ROWS, Tensors, metadata
from .parameters import Arguments, Parameter
from .registry import Handler, Invocation, Operation

JSON: Final = "application/json"
LIMITS: Final = Limits(body=16_000_000, depth=12, string=4096, array=max(MOST_ROWS, 1000))
MODEL: Final = Parameter("model", "string", "Name of the model, or one of its aliases")
VERSION: Final = Parameter("version", "string", "Its version; default: the champion")


def inference_operations(models: Registry) -> tuple[Operation, ...]:
    """The two rows."""
    serving = _Serving(models)
    ready = Parameter("ready", "boolean", "Only whether the model can be run")
    request = Parameter("request", "Binary", "An inference request (JSON)", min=1)
    return (
        _row("inference", serving.told, (MODEL, VERSION, ready), "What can be run by tensors"),
        _row("infer", serving.infer, (MODEL, VERSION, request), "Runs a model on tensors"),
    )


def _row(code: str, handler: Handler, inputs: tuple[Parameter, ...], text: str) -> Operation:
    return Operation(
        code=code,
        levels=frozenset({"system"}),
        types=(),
        affects_state=code == "infer",
        inputs=inputs,
        outputs=(Parameter("return", "Binary", "JSON of the protocol", min=1),),
        scope="system/Device.r",
        description=f"{text} (Open Inference Protocol v2)",
        example="GET $inference" if code == "inference" else "POST $infer?model=qsofa",
        handler=handler,
        body="request" if code == "infer" else "",
        needs=("Device",),
    )


@dataclass(frozen=True, slots=True)
class _Serving:
    models: Registry

    async def told(self, arguments: Arguments, session: Session, call: Invocation) -> Response:
        """Server metadata, model metadata, or whether a model is ready."""
        _permit(session)
        name = arguments.one("model")
        if name is None:
            about = {"name": "vehr", "version": software_version(), "extensions": []}
            return _json(about)
        try:
            package = await self.models.champion(_wanted(arguments))
        except Unavailable:
            if not arguments.one("ready", False):
                raise
            return _json({"name": name, "ready": False}, 503)
        if arguments.one("ready", False):
            return _json({"name": package.card.name, "ready": True})
        return _json(metadata(package, self.models.offered(package.card.name)))

    async def infer(self, arguments: Arguments, session: Session, call: Invocation) -> Response:
        """BadRequest: no inference request of this model. NotFound, Unavailable as ever."""
        _permit(session)
        if arguments.one("model") is None:
            raise BadRequest("model: it is missing", code="required")
        package = await self.models.champion(_wanted(arguments))
        tensors = Tensors.of(_request(arguments.one("request")), package)
        outputs = await self.models.runtime.run(package, tensors.columns)
        return _json(tensors.answer(package, outputs))


def _permit(session: Session) -> None:
    """From metadata alone: there is no patient in it."""
    if not session.principal.system:
        raise Forbidden("not permitted: models are run by tensors for system clients")
    session.allow("r", "Device")


def _wanted(arguments: Arguments) -> str:
    name, version = arguments.one("model"), arguments.one("version")
    if "|" in name:
        raise BadRequest("model: a name", code="value")
    return f"{name}|{version}" if version is not None else str(name)


def _request(binary: Json) -> Json:
    try:
        content = a2b_base64(binary.get("data", ""), strict_mode=True)
    except (Base64Error, ValueError):
        raise BadRequest("the request is not base64") from None
    try:
        found: Json = loads(content, LIMITS)
    except Problem as problem:
        raise BadRequest(f"the request: {problem}") from None
    return found


def _json(body: Json, status: int = 200) -> Response:
    return Response(status, dumps(body), content_type=JSON)
