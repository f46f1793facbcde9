"""$anonymize: resources out, de-identified by a profile.

Of one resource (of a Patient: the whole compartment), or of resources in the body. The answer
is a ``collection`` Bundle, its last entry a Parameters with the touched paths and counts per
rule. Any failure gives no data at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from fhir_server.access.session import Session
from fhir_server.definitions.registry import load
from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, NotFound, Unprocessable
from fhir_server.model.resource import Key
from operations.deid.engine import Deidentifier, profiles
from operations.deid.report import report
from operations.deid.run import Run
from operations.parameters import Arguments, Parameter
from operations.registry import Invocation, Operation

DEFAULT_PROFILE: Final = "safe-harbor"
PROFILES: Final = profiles()
"""Compiled at start: a profile that does not load stops the server, not a request."""

_MODES = ("apply", "review")
_TURN = 0.01
"""Seconds of work between two looks at the event loop."""


async def anonymize(arguments: Arguments, session: Session, invocation: Invocation) -> Json:
    """The answer Bundle. NotFound: unknown profile, resource absent or hidden. BadRequest:
    unknown mode, or a body beside the resource of the URL. Unprocessable: the resources cannot
    be de-identified."""
    profile = find(arguments.one("profile", DEFAULT_PROFILE))
    mode = arguments.one("mode", "apply")
    if mode not in _MODES:
        raise BadRequest(f"mode is one of {', '.join(_MODES)}", code="value")
    if invocation.level == "instance":
        if arguments.all("resource"):
            raise BadRequest("resource: this is about the resource of the URL, not about a body")
        resources = await stored(session, Key(invocation.type, invocation.id))
    else:
        resources = given(arguments.all("resource"), invocation.type)
    run = Run(datetime.fromtimestamp(invocation.now / 1e6, UTC).year, invocation.base)
    return await bundle(profile, resources, run, mode == "review")


def find(name: str) -> Deidentifier:
    """By code or canonical. NotFound if there is no such profile."""
    for profile in PROFILES:
        if profile.profile.named(name):
            return profile
    known = ", ".join(profile.profile.code for profile in PROFILES)
    raise NotFound(f"unknown de-identification profile; known: {known}")


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
    """The de-identified resources and the report. A Bundle gives its entries' resources."""
    for resource in resources:
        run.learn(resource)
    entries: list[Json] = []
    started = time.monotonic()
    for url, resource in _unpacked(resources):
        entries.append(_entry(profile.resource(resource, run), url, run))
        if time.monotonic() - started > _TURN:
            await asyncio.sleep(0)
            started = time.monotonic()
    _require_distinct(entries)
    last = report(profile.profile, run, len(entries), review)
    entries.append({"fullUrl": f"urn:uuid:{run.new_id()}", "resource": last})
    return {"resourceType": "Bundle", "id": run.new_id(), "type": "collection", "entry": entries}


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


def _entry(resource: Json, url: str | None, run: Run) -> Json:
    """A resource without an id is known by its fullUrl, or to nobody."""
    if "id" not in resource:
        resource["id"] = run.code(url) if url else run.new_id()
    return {"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource}


def _require_distinct(entries: list[Json]) -> None:
    if len({entry["fullUrl"] for entry in entries}) < len(entries):
        raise Unprocessable("the same resource is given twice", code="duplicate")


ROW: Final = Operation(
    code="anonymize",
    levels=frozenset(("system", "type", "instance")),
    types=tuple(sorted(load().resource_types)),
    affects_state=False,
    inputs=(
        Parameter("profile", "canonical", "Code or canonical URL of the profile."),
        Parameter("project", "string", "The project that pseudonyms are made for."),
        Parameter("mode", "code", "apply, or review: the report names what stays and why, too."),
        Parameter("resource", "Resource", "Resources to de-identify, or a Bundle.", max=None),
    ),
    outputs=(Parameter("return", "Bundle", "The resources; the last entry is the report.", min=1),),
    scope="patient/*.rs",
    description="De-identifies a resource, a patient's compartment or the resources given.",
    example="POST /Patient/example/$anonymize",
    handler=anonymize,
    body="resource",
)
