"""$anonymize: resources out, de-identified by a profile.

Of one resource (of a Patient: the whole compartment), or of resources in the body. The answer
is a ``collection`` Bundle, its last entry a Parameters with the touched paths and counts per
rule; with ``mode=review`` that is all. Any failure gives no data at all.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Sequence
from typing import Final

from fhir_server.access.session import Session
from fhir_server.definitions import guide
from fhir_server.definitions.registry import load
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Unprocessable
from fhir_server.model.resource import Key
from operations.deid.assembly import DEFAULT_PROFILE, Deidentification
from operations.deid.engine import Deidentifier
from operations.deid.people import people_of
from operations.deid.report import report
from operations.deid.run import Run
from operations.parameters import Arguments, Parameter
from operations.registry import Invocation, Operation

MODES: Final = ("apply", "review")
_TURN: Final = 0.01
"""Seconds of work between two looks at the event loop."""
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def anonymize_operation(deid: Deidentification) -> Operation:
    """The row."""

    async def anonymize(arguments: Arguments, session: Session, call: Invocation) -> Json:
        """The answer Bundle. NotFound: unknown profile, resource absent or hidden. BadRequest:
        unknown mode, or a body beside the resource of the URL. Unprocessable: the resources cannot
        be de-identified, or the project has no key."""
        name, project = arguments.one("profile", DEFAULT_PROFILE), arguments.one("project", "")
        review = mode_of(arguments) == "review"
        work = deid.begin(name, project, call.now, call.base)
        resources = await _wanted(arguments, session, call)
        run = work.run()
        known = [inner for _, inner in _unpacked(resources)]
        if work.cleans and call.level == "instance":
            known += await people_of(known, session, run)
        await work.prepare(known, run)
        answer = await bundle(work.profile, resources, run, review)
        if not review:
            await work.settle(run)
        return answer

    return Operation(
        code="anonymize",
        levels=frozenset(("system", "type", "instance")),
        types=tuple(sorted(load().resource_types)),
        affects_state=False,
        inputs=INPUTS,
        outputs=OUTPUTS,
        scope="patient/*.rs",
        description="De-identifies a resource, a patient's compartment or the resources given.",
        example="POST /Patient/example/$anonymize",
        handler=anonymize,
        body="resource",
    )


def mode_of(arguments: Arguments) -> str:
    mode = str(arguments.one("mode", "apply"))
    if mode not in MODES:
        raise BadRequest(f"mode is one of {', '.join(MODES)}", code="value")
    return mode


async def _wanted(arguments: Arguments, session: Session, call: Invocation) -> list[Json]:
    """What is to be de-identified."""
    if call.level != "instance":
        return given(arguments.all("resource"), call.type)
    if arguments.all("resource"):
        raise BadRequest("resource: this is about the resource of the URL, not about a body")
    return await stored(session, Key(call.type, call.id))


async def stored(session: Session, key: Key) -> list[Json]:
    """The resource; of a Patient, its compartment."""
    if key.type == "Patient":
        return [loads(found.body) async for found in session.everything(key.id)]
    return [loads((await session.read(key)).body)]


def given(resources: Iterable[Json], type_: str) -> list[Json]:
    """The resources of the body. Unprocessable: another type than the URL names."""
    found = list(resources)
    for resource in found:
        if type_ and resource.get("resourceType") not in (type_, "Bundle"):
            raise Unprocessable(f"the body holds a resource that is no {type_}", code="value")
    return found


async def bundle(profile: Deidentifier, resources: Sequence[Json], run: Run, review: bool) -> Json:
    """The de-identified resources and the report; in a ``review`` the report alone. A Bundle gives
    its entries' resources."""
    for resource in resources:
        run.learn(resource)
    run.here = frozenset(run.named(inner, url) for url, inner in _unpacked(resources))
    entries: list[Json] = []
    started = time.monotonic()
    for url, resource in _unpacked(resources):
        key = run.named(resource, url)
        entries.append(_entry(profile, profile.resource(resource, run), key, run))
        if time.monotonic() - started > _TURN:
            await asyncio.sleep(0)
            started = time.monotonic()
    _require_distinct(entries)
    last = report(profile.profile, run.tally, len(entries), review)
    if review:
        entries.clear()
    entries.append({"fullUrl": f"urn:uuid:{run.new_id()}", "resource": last})
    made: Json = {"resourceType": "Bundle", "id": run.new_id()}
    if profile.profile.canonical.startswith(guide.NAMESPACE) and not review:
        made["meta"] = guide.profile("deidentified-bundle")  # another profile may keep anything
    return {**made, "type": "collection", "entry": entries}


def _unpacked(resources: Iterable[Json]) -> Iterable[tuple[str | None, Json]]:
    """fullUrl, if it has one, and resource."""
    for resource in resources:
        if resource.get("resourceType") != "Bundle":
            yield None, resource
            continue
        entries = resource.get("entry", [])
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise Unprocessable(
                "not a list of entries", code="structure", expression="Bundle.entry"
            )
        for entry in entries:
            inner, url = entry.get("resource"), entry.get("fullUrl")
            if isinstance(inner, dict):
                yield (url if isinstance(url, str) else None), inner


def _entry(profile: Deidentifier, resource: Json, key: str, run: Run) -> Json:
    """``key``: as references name it; without one it is known to nobody."""
    if "id" not in resource:
        resource["id"] = run.code(key, profile.keyed) if key else run.new_id()
    if _UUID.fullmatch(resource["id"]) is None:
        return {"resource": resource}
    return {"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource}


def _require_distinct(entries: list[Json]) -> None:
    named = {(e["resource"]["resourceType"], e["resource"]["id"]) for e in entries}
    if len(named) < len(entries):
        raise Unprocessable("the same resource is given twice", code="duplicate")


INPUTS: Final = (
    Parameter("profile", "canonical", "Code or canonical URL of the profile."),
    Parameter("project", "string", "The project whose key makes the pseudonyms."),
    Parameter("mode", "code", "apply, or review: what would be changed and why, without data."),
    Parameter("resource", "Resource", "Resources to de-identify, or a Bundle.", max=None),
)
OUTPUTS: Final = (
    Parameter("return", "Bundle", "The resources; the last entry is the report.", min=1),
)
