"""CodeSystem/$import-codes: a release of a code system into the terminology service.

The release is the content of a Binary, sent there as it is. It becomes a CodeSystem whose concepts
lie in an indexed file beside it (``access/concepts.py``). Always a job.
"""

from __future__ import annotations

import asyncio
import tempfile
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from fhir_server.access.concepts import publish
from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.jobs.context import Body, JobContext
from fhir_server.jobs.model import Asked, Owner
from fhir_server.jobs.pattern import accepted
from fhir_server.jobs.queue import Queue
from fhir_server.model.exchange import Response
from fhir_server.model.problem import BadRequest, Forbidden, Problem, Unprocessable
from fhir_server.model.resource import Key
from terminology.importers.formats import READERS, build
from terminology.importers.release import Wanted
from terminology.service import Refused

from .parameters import Arguments, Parameter
from .registry import Invocation, Operation

KIND: Final = "import-codes"


def import_codes(queue: Queue) -> Operation:
    """The row."""

    async def handler(arguments: Arguments, session: Session, call: Invocation) -> Response:
        if not session.policy.whole:
            raise Forbidden("$import-codes is for system clients")
        session.allow("u", "CodeSystem")
        session.allow("u", "Binary")
        format_ = arguments.one("format")
        if format_ not in READERS:
            raise BadRequest(f"format: one of {', '.join(READERS)}", code="value")
        type_, _, id_ = arguments.one("content").get("reference", "").partition("/")
        if type_ != "Binary" or not id_:
            raise BadRequest("content: a reference Binary/id", code="value")
        key = Key(type_, id_)
        await session.read(key)
        request = {
            "format": format_,
            "binary": key.id,
            "name": arguments.one("name", "release"),
            "url": arguments.one("url", ""),
            "version": arguments.one("version", ""),
        }
        owner, grant = Owner.of(session.principal), session.principal.grant
        return accepted(await queue.submit(Asked(KIND, owner, call.base, request, grant)))

    return Operation(
        code="import-codes",
        levels=frozenset(("type",)),
        types=("CodeSystem",),
        affects_state=True,
        inputs=(
            Parameter("format", "code", f"One of {', '.join(READERS)}", min=1),
            Parameter("content", "Reference", "The Binary with the release, as it is", min=1),
            Parameter("name", "string", "The file's name; some formats have the version in it"),
            Parameter("url", "uri", "The code system, if the release does not say it"),
            Parameter("version", "string", "The version, if the release does not say it"),
        ),
        outputs=(Parameter("return", "Parameters", "The CodeSystem, at the status URL"),),
        scope="system/CodeSystem.u system/Binary.u",
        description="Import a release of a code system; answers 202 with a status URL",
        example="POST CodeSystem/$import-codes",
        handler=handler,
        asynchronous=True,
    )


def import_codes_body() -> Body:
    """The job."""

    async def run(job: JobContext) -> None:
        asked = job.request
        with tempfile.TemporaryDirectory(prefix="vehr-import-") as folder:
            source = Path(folder, Path(asked["name"]).name or "release")
            await _kept(await _content(job.session, Key("Binary", asked["binary"])), source)
            await job.progress(0, 3, "reading the release")
            wanted = Wanted(asked["url"], asked["version"])
            target = Path(folder, "concepts")
            found, count = await job.compute(built, asked["format"], source, wanted, target)
            await job.progress(1, 3, f"{count} concepts")
            stored = await publish(job.recorded, found, target, count)
        await job.progress(3, 3, f"{count} concepts")
        place = {"reference": f"CodeSystem/{stored.key.id}"}
        parts = [
            {"name": "codeSystem", "valueReference": place},
            {"name": "concepts", "valueInteger": count},
        ]
        job.answer({"resourceType": "Parameters", "parameter": parts})

    return run


def built(format_: str, source: Path, wanted: Wanted, target: Path) -> tuple[dict[str, Any], int]:
    """``formats.build`` in a process of its own; what it refuses is a Problem."""
    try:
        return build(format_, source, wanted, target, lambda _: None)
    except Refused as refused:
        raise refusal(refused) from refused


def refusal(refused: Refused) -> Problem:
    return Unprocessable(refused.text, code=refused.code)


async def _content(session: Session, key: Key) -> AsyncIterator[bytes]:
    """Of a Binary, wherever its bytes lie."""
    stored = await session.read(key)
    content = await session.content(stored)
    if content is not None:
        return await content.read()
    return _at_once(b64decode(loads(stored.body).get("data", "")))


async def _at_once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _kept(content: AsyncIterator[bytes], path: Path) -> None:
    with path.open("xb") as file:
        async for block in content:
            await asyncio.to_thread(file.write, block)
