from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime

import pytest

from fhir_server.access.session import Session
from fhir_server.formats.json import DEFAULT_LIMITS, loads
from fhir_server.jobs.context import JobContext
from fhir_server.jobs.files import CHUNK
from fhir_server.jobs.model import Asked, Owner
from fhir_server.jobs.pattern import AsyncPattern
from fhir_server.jobs.request import Replayed, prefers_async, replay
from fhir_server.model.exchange import Json, Request, Response
from fhir_server.model.problem import (
    Gone,
    NotFound,
    PreconditionFailed,
    Problem,
    TooManyRequests,
)
from tests.jobs.conftest import BASE, Killed, Mortal, World, session


def pattern(world: World) -> AsyncPattern:
    return AsyncPattern(world.queue(), world.reopen)


def get(*path: str, method: str = "GET") -> Request:
    return Request(method, path, base=BASE)


def id_of(response: Response) -> str:
    location = response.headers["Content-Location"]
    assert location.startswith(f"{BASE}/_async/")
    return location.rpartition("/")[2]


async def body_of(response: Response) -> bytes:
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([chunk async for chunk in response.body])


async def export(job: JobContext) -> None:
    await job.write("Patient.ndjson", b'{"resourceType":"Patient"}\n')
    await job.progress(1, 1)
    job.answer({"output": [{"type": "Patient", "url": job.url("Patient.ndjson")}]})


async def start(world: World, kind: str = "export") -> tuple[AsyncPattern, str]:
    face = pattern(world)
    owner = Owner.of(world.anna.principal)
    answer = await face.kick_off(Asked(kind, owner, BASE, {}, grant="of-anna"))
    assert answer.status == 202 and answer.body == b""
    return face, id_of(answer)


async def run(world: World, kind: str = "export", body: object = export) -> None:
    runner = world.runner({kind: body})  # type: ignore[dict-item]
    await runner.look()
    await runner.settle()


async def test_status_until_the_manifest(world: World) -> None:
    face, id_ = await start(world)
    waiting = await face.status(get(id_), world.anna)
    assert waiting.status == 202 and waiting.body == b""
    assert 0 < len(waiting.headers["X-Progress"]) < 100
    assert 1 <= int(waiting.headers["Retry-After"]) <= 30
    await run(world)
    done = await face.status(get(id_), world.anna)
    assert (done.status, done.content_type) == (200, "application/json")
    manifest = loads(await body_of(done))
    url = manifest["output"][0]["url"]
    assert url == f"{BASE}/_async/{id_}/Patient.ndjson"
    expires = parsedate_to_datetime(done.headers["Expires"]).timestamp()
    assert expires == world.micros // 10**6 + world.rules.retention
    file = await face.file(get(id_, "Patient.ndjson"), world.anna)
    assert file.content_type == "application/fhir+ndjson"
    assert await body_of(file) == b'{"resourceType":"Patient"}\n'


async def test_progress_and_its_waiting_time_grow(world: World) -> None:
    face, id_ = await start(world)
    gate = asyncio.Event()

    async def body(job: JobContext) -> None:
        await job.progress(3, 12, "Observation" * 20)
        await gate.wait()
        await job.progress(12, 12)

    runner = world.runner({"export": body})
    await runner.look()
    await asyncio.sleep(0.01)
    early = await face.status(get(id_), world.anna)
    assert early.headers["X-Progress"].startswith("3/12 Obs")
    assert len(early.headers["X-Progress"]) < 100
    world.wait(200)
    late = await face.status(get(id_), world.anna)
    assert int(early.headers["Retry-After"]) < int(late.headers["Retry-After"])
    gate.set()
    await runner.settle()


async def test_polling_too_fast(world: World) -> None:
    face, id_ = await start(world)
    burst = int(world.rules.throttle[0])
    for _ in range(burst):
        assert (await face.status(get(id_), world.anna)).status == 202
    with pytest.raises(TooManyRequests) as caught:
        await face.status(get(id_), world.anna)
    world.wait(int(caught.value.headers["Retry-After"]))
    assert (await face.status(get(id_), world.anna)).status == 202
    # Somebody else's polls are not told apart from polls of a job that never was.
    for _ in range(burst + 1):
        with pytest.raises(NotFound):
            await face.status(get(id_), session("berta"))
    await run(world)
    for _ in range(burst + 1):
        assert (await face.status(get(id_), world.anna)).status == 200


async def test_foreign_is_unknown_everywhere(world: World) -> None:
    face, id_ = await start(world)
    await run(world)
    for who in (session("berta"), session("anna", client="other")):
        for call in (
            face.status(get(id_), who),
            face.file(get(id_, "Patient.ndjson"), who),
            face.delete(get(id_, method="DELETE"), who),
        ):
            with pytest.raises(NotFound) as foreign:
                await call
            with pytest.raises(NotFound) as never:
                await face.status(get("f" * 32), who)
            assert foreign.value.outcome() == never.value.outcome()
    assert (await face.status(get(id_), world.anna)).status == 200


@pytest.mark.parametrize("when", ["queued", "done"])
async def test_delete_then_unknown(world: World, when: str) -> None:
    face, id_ = await start(world)
    if when == "done":
        await run(world)
    answer = await face.delete(get(id_, method="DELETE"), world.anna)
    assert answer.status == 202
    for call in (
        face.status(get(id_), world.anna),
        face.file(get(id_, "Patient.ndjson"), world.anna),
        face.delete(get(id_, method="DELETE"), world.anna),
    ):
        with pytest.raises(NotFound):
            await call
    assert not (world.folder / id_).exists()


async def test_delete_while_running_is_unknown_at_once(world: World) -> None:
    face, id_ = await start(world)

    async def body(job: JobContext) -> None:
        await asyncio.Event().wait()

    runner = world.runner({"export": body})
    await runner.look()
    await asyncio.sleep(0)
    await face.delete(get(id_, method="DELETE"), world.anna)
    with pytest.raises(NotFound):
        await face.status(get(id_), world.anna)
    await runner.look()
    await runner.settle()
    assert await world.queue().get(id_) is None


async def test_a_failure_has_its_status_and_outcome(world: World) -> None:
    face, id_ = await start(world)

    async def body(job: JobContext) -> None:
        raise PreconditionFailed("no such group")

    await run(world, body=body)
    answer = await face.status(get(id_), world.anna)
    assert answer.status == 412 and "Expires" in answer.headers
    outcome = loads(await body_of(answer))
    assert outcome["resourceType"] == "OperationOutcome"
    assert outcome["issue"][0]["diagnostics"] == "no such group"


async def test_revocation_is_seen_at_the_next_poll(world: World) -> None:
    face, id_ = await start(world)
    world.revoked.add("of-anna")
    answer = await face.status(get(id_), world.anna)
    assert answer.status == 401
    await run(world)
    assert (await world.job(id_)).state == "failed"


async def test_cancelled_by_the_server(world: World) -> None:
    face, id_ = await start(world)
    await world.queue().cancel(id_)
    with pytest.raises(Gone):
        await face.status(get(id_), world.anna)


def test_the_preference_is_a_token() -> None:
    def asks(prefer: str) -> bool:
        return prefers_async(Request("GET", headers={"prefer": prefer}))

    assert asks("respond-async") and asks("return=minimal, Respond-Async")
    assert asks("respond-async; wait=10") and asks("handling=strict;respond-async")
    assert not asks("return=minimal") and not asks("respond-asynchronously")
    assert not prefers_async(Request("GET"))


class Replies:
    """Handlers of a server: what they were asked, and what they answer."""

    def __init__(self, answer: Response | Problem) -> None:
        self.answer = answer
        self.seen: list[tuple[str, Request, Session]] = []

    def __call__(self, interaction: str) -> object:
        async def handler(request: Request, session: Session) -> Response:
            self.seen.append((interaction, request, session))
            if isinstance(self.answer, Problem):
                raise self.answer
            return self.answer

        return handler


async def replayed(world: World, request: Request, replies: Replies) -> tuple[Json, Response]:
    """The batch-response Bundle of one request run as a job."""
    face = pattern(world)
    ask = Replayed("create", request, "Patient?x=1")
    id_ = id_of(await face.respond_async(ask, world.anna))
    await run(world, "request", replay(replies, DEFAULT_LIMITS))  # type: ignore[arg-type]
    response = await face.status(get(id_), world.anna)
    with pytest.raises(NotFound):
        await face.file(get(id_, "response"), world.anna)
    return loads(await body_of(response)), response


def create(body: Json | None = None) -> Request:
    headers = {
        "authorization": "Bearer secret",
        "cookie": "a=b",
        "prefer": "respond-async, return=representation",
        "if-none-exist": "identifier=1",
    }
    resource = body or {"resourceType": "Patient"}
    return Request("POST", ("Patient",), (("_x", "1"),), headers, resource, BASE, "r-1")


async def test_a_request_becomes_a_batch_response(world: World) -> None:
    headers = {
        "Location": f"{BASE}/Patient/1/_history/1",
        "ETag": 'W/"1"',
        "Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT",
    }
    replies = Replies(Response(201, b'{"resourceType":"Patient","id":"1"}', headers))
    body = loads(b'{"resourceType":"Observation","valueQuantity":{"value":1.500}}')
    bundle, response = await replayed(world, create(body), replies)
    assert response.status == 200 and response.content_type.startswith("application/fhir+json")
    assert bundle == {
        "resourceType": "Bundle",
        "type": "batch-response",
        "entry": [
            {
                "resource": {"resourceType": "Patient", "id": "1"},
                "response": {
                    "status": "201 Created",
                    "location": f"{BASE}/Patient/1/_history/1",
                    "etag": 'W/"1"',
                    "lastModified": "2023-11-14T22:13:20.000Z",
                },
            }
        ],
    }
    interaction, request, who = replies.seen[0]
    assert interaction == "create" and who.principal.id == "anna"
    assert request.headers == {"prefer": "return=representation", "if-none-exist": "identifier=1"}
    assert (request.path, request.query) == (("Patient",), (("_x", "1"),))
    assert str(request.body and request.body["valueQuantity"]["value"]) == "1.500"


async def test_credentials_are_not_kept(world: World) -> None:
    face = pattern(world)
    answer = await face.respond_async(Replayed("create", create(), "Patient"), world.anna)
    row = await world.ledger.get("job", id_of(answer))
    assert row is not None and "secret" not in str(row.value) and "a=b" not in str(row.value)


async def test_a_refused_request_is_a_finished_job(world: World) -> None:
    bundle, response = await replayed(world, create(), Replies(NotFound("no such thing")))
    assert response.status == 200
    entry = bundle["entry"][0]
    assert entry["response"]["status"] == "404 Not Found"
    assert entry["response"]["outcome"]["issue"][0]["diagnostics"] == "no such thing"
    assert "resource" not in entry


async def test_an_answer_without_a_body(world: World) -> None:
    bundle, _ = await replayed(world, create(), Replies(Response(204)))
    assert bundle["entry"] == [{"response": {"status": "204 No Content"}}]


async def test_a_stream_and_raw_bytes(world: World) -> None:
    raw = bytes(range(256)) * (CHUNK // 100)

    async def stream() -> object:
        for at in range(0, len(raw), 1000):
            yield raw[at : at + 1000]

    answer = Response(200, stream(), content_type="image/png")  # type: ignore[arg-type]
    face = pattern(world)
    ask = Replayed("read", create(), "Binary/1")
    id_ = id_of(await face.respond_async(ask, world.anna))
    await run(world, "request", replay(Replies(answer), DEFAULT_LIMITS))  # type: ignore[arg-type]
    body = await body_of(await face.status(get(id_), world.anna))
    import base64
    import json

    resource = json.loads(body)["entry"][0]["resource"]
    assert resource["contentType"] == "image/png" and resource["resourceType"] == "Binary"
    assert base64.b64decode(resource["data"], validate=True) == raw


@pytest.mark.parametrize(
    ("method", "interaction", "again"),
    [
        ("GET", "read", True),
        ("HEAD", "read", True),
        ("POST", "search-type", True),
        ("POST", "create", False),
        ("POST", "operation", False),
        ("PUT", "update", False),
        ("PATCH", "patch", False),
        ("DELETE", "delete", False),
    ],
)
async def test_what_may_have_taken_effect_is_not_run_twice(
    world: World, method: str, interaction: str, again: bool
) -> None:
    request = Request(method, ("Patient", "1"), base=BASE)
    stuck, effects = asyncio.Event(), 0

    def handler_of(name: str) -> object:
        async def handler(request: Request, session: Session) -> Response:
            nonlocal effects
            effects += 1
            if effects == 1:
                await stuck.wait()
            return Response(200, b"{}")

        return handler

    face = pattern(world)
    ask = Replayed(interaction, request, "Patient/1")
    id_ = id_of(await face.respond_async(ask, world.anna))
    first = world.runner({"request": replay(handler_of, DEFAULT_LIMITS)})  # type: ignore[arg-type]
    await first.look()
    while not effects:
        await asyncio.sleep(0.001)
    world.wait(world.rules.lease)
    await run(world, "request", replay(handler_of, DEFAULT_LIMITS))  # type: ignore[arg-type]
    answer = await face.status(get(id_), world.anna)
    assert (answer.status, effects) == ((200, 2) if again else (500, 1))
    stuck.set()
    await first.settle()
    assert (await face.status(get(id_), world.anna)).status == answer.status


async def test_a_write_runs_at_most_once_wherever_the_server_dies(world: World) -> None:
    for last in range(1, 60):
        replies = Replies(Response(201, b"{}"))
        body = replay(replies, DEFAULT_LIMITS)  # type: ignore[arg-type]
        face = pattern(world)
        id_ = id_of(await face.respond_async(Replayed("create", create(), "Patient"), world.anna))
        mortal = Mortal(world.ledger, last, acts=last % 2 == 0)
        first = world.runner({"request": body}, mortal)
        try:
            await first.look()
            await first.settle()
        except Killed:
            await first.settle()
        world.wait(world.rules.lease)
        await run(world, "request", body)
        answer = await face.status(get(id_), world.anna)
        assert len(replies.seen) <= 1
        assert answer.status in (200, 500)
        assert len(replies.seen) == 1 or answer.status == 500
        if mortal.count < last:
            return
    pytest.fail("the job never ran through")
