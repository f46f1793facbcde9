"""``respond-async`` through HTTP: https://hl7.org/fhir/R4/async.html"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import cast

import httpx
import pytest

from fhir_server.access.engine import Engine
from fhir_server.access.gate import OPEN
from fhir_server.access.policy import PermitAll
from fhir_server.access.ports import Ledger
from fhir_server.access.session import Session
from fhir_server.app import micros
from fhir_server.auth.tokens import MANDATE, Held
from fhir_server.definitions.registry import load
from fhir_server.jobs.files import JobFiles
from fhir_server.jobs.model import Asked, Job, Owner
from fhir_server.jobs.queue import Queue
from fhir_server.jobs.request import Replayed, asked
from fhir_server.jobs.runner import Runner
from fhir_server.model.exchange import Request
from fhir_server.validation.validate import Validator
from tests.serving import BACKENDS, BASE, STORES, Json, Server, issue, served

PATIENT = {"resourceType": "Patient", "name": [{"family": "Doe"}]}
ASYNC = {"prefer": "respond-async"}
ROUNDS = 200
VALIDATOR = Validator(load())
SESSION = Session(cast(Engine, None), OPEN, PermitAll())


def kick_off(answer: httpx.Response) -> str:
    """The status URL."""
    assert answer.status_code == 202 and answer.content == b"", answer.text
    url = answer.headers["content-location"]
    assert url.startswith(f"{BASE}/_async/")
    return url


def ended(server: Server, url: str, **options: object) -> httpx.Response:
    """The status once it is no longer 202."""
    for _ in range(ROUNDS):
        answer = server.get(url, **options)
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) > 0
        elif answer.status_code != 202:
            return answer
        else:
            assert 0 < len(answer.headers["x-progress"]) < 100
            assert int(answer.headers["retry-after"]) > 0
        server.run(asyncio.sleep(0.05))
    pytest.fail("the job did not end")


def entry(server: Server, url: str, **options: object) -> Json:
    answer = ended(server, url, **options)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/fhir+json")
    assert answer.headers["expires"].endswith("GMT")
    bundle = answer.json()
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "batch-response")
    (only,) = bundle["entry"]
    result: Json = only
    return result


def test_a_create_as_a_job(server: Server) -> None:
    url = kick_off(server.post("Patient", PATIENT, headers=ASYNC))
    made = entry(server, url)
    assert made["response"]["status"] == "201 Created"
    assert made["response"]["etag"] == 'W/"1"'
    location = made["response"]["location"]
    assert server.get(location).json() == made["resource"]
    assert server.get("Patient").json()["total"] == 1


def test_a_search_and_a_transaction_as_jobs(server: Server) -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": PATIENT, "request": {"method": "POST", "url": "Patient"}}] * 3,
    }
    done = entry(server, kick_off(server.post("", bundle, headers=ASYNC)))
    assert done["resource"]["type"] == "transaction-response"
    assert len(done["resource"]["entry"]) == 3
    found = entry(server, kick_off(server.get("Patient?family=doe", headers=ASYNC)))
    assert found["resource"] == server.get("Patient?family=doe").json()


def test_a_refusal_is_in_the_entry(server: Server) -> None:
    refused = entry(server, kick_off(server.get("Patient/none", headers=ASYNC)))
    assert refused["response"]["status"] == "404 Not Found"
    assert refused["response"]["outcome"] == server.get("Patient/none").json()


def test_what_is_malformed_is_refused_at_once(server: Server) -> None:
    assert server.get("Nothing/1", headers=ASYNC).status_code == 404
    answer = server.send("POST", "Patient", content=b"{", headers={"prefer": "respond-async"})
    assert answer.status_code in (400, 415)


def test_delete_then_404(server: Server) -> None:
    url = kick_off(server.get("Patient", headers=ASYNC))
    entry(server, url)
    assert server.delete(url).status_code == 202
    for answer in (server.get(url), server.delete(url), server.get(f"{url}/response")):
        assert answer.status_code == 404
        issue(answer)
    assert server.get("_async/0123456789abcdef").status_code == 404
    assert server.post(url, PATIENT).status_code == 405


def test_metadata_is_never_deferred(server: Server) -> None:
    assert server.get("metadata", headers=ASYNC).status_code == 200


def test_only_for_whom_it_was_started(secured: Server) -> None:
    scope = "system/Patient.rs"
    mine, theirs = secured.bearer(scope), secured.bearer(scope, client="other")
    narrow, again = secured.bearer("system/Observation.rs"), secured.bearer(scope)
    url = kick_off(secured.get("Patient", headers=mine | ASYNC))
    assert secured.get(url).status_code == 401
    unknown = secured.get("_async/" + "0" * 32, headers=mine)
    for headers in (theirs, narrow):
        for method in ("GET", "DELETE"):
            answer = secured.send(method, url, headers=headers)
            assert (answer.status_code, answer.json()) == (404, unknown.json())
    assert entry(secured, url, headers=again)["resource"]["total"] == 0


def test_a_job_can_do_what_its_owner_can(secured: Server) -> None:
    headers = secured.bearer("system/Observation.rs")
    url = kick_off(secured.get("Patient", headers=headers | ASYNC))
    refused = entry(secured, url, headers=headers)
    assert refused["response"]["status"] == "403 Forbidden"


def test_revoked_while_it_waits(secured: Server) -> None:
    scope = "system/Patient.cruds"
    token, again = secured.token(scope), secured.bearer(scope)
    url = kick_off(secured.post("Patient", PATIENT, headers=ASYNC | bearer(token)))
    secured.run(secured.domain.tokens.revoke(token))
    answer = ended(secured, url, headers=again)
    # It ran before the revocation, or not at all, or was stopped while it was being committed:
    # what is told as done is done, and nothing comes later.
    made = secured.get("Patient", headers=again).json()["total"]
    assert (answer.status_code, made) in ((200, 1), (401, 0), (401, 1))
    secured.run(asyncio.sleep(1))
    assert secured.get("Patient", headers=again).json()["total"] == made


def test_jobs_as_tasks(secured: Server) -> None:
    scope = "system/Patient.rs"
    mine, theirs = secured.bearer(scope), secured.bearer(scope, client="other")
    narrow = secured.bearer("system/Observation.rs")
    url = kick_off(secured.get("Patient?name=x", headers=mine | ASYNC))
    entry(secured, url, headers=mine)
    bundle = secured.get("_jobs", headers=mine | ASYNC).json()
    assert (bundle["type"], bundle["total"]) == ("searchset", 1)
    [shown] = bundle["entry"]
    task = secured.get(shown["fullUrl"], headers=mine)
    assert task.status_code == 200 and task.json() == shown["resource"]
    assert task.json()["resourceType"] == "Task" and task.json()["status"] == "completed"
    assert task.json()["output"][0]["valueUrl"] == url
    for resource in (bundle, task.json()):
        assert VALIDATOR.issues(resource) == []
    assert secured.get(shown["fullUrl"], headers=mine | {"accept": "application/fhir+xml"}).text[
        :5
    ] in ("<Task", "<?xml")
    unknown = secured.get("_jobs/" + "0" * 32, headers=mine)
    for other in (theirs, narrow):
        assert secured.get("_jobs", headers=other).json().get("entry") is None
        hidden = secured.get(shown["fullUrl"], headers=other)
        assert (hidden.status_code, hidden.json()) == (404, unknown.json())
    assert secured.get("_jobs?status=completed", headers=mine).status_code == 400
    assert secured.post("_jobs", PATIENT, headers=mine).status_code == 405
    assert secured.delete(url, headers=mine).status_code == 202
    assert secured.get("_jobs", headers=mine).json()["total"] == 0


@pytest.mark.parametrize("fate", ["expired", "revoked", "revoked late", "disabled"])
def test_a_job_outlives_its_token_but_not_a_revocation(
    fate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on as it was granted at kick-off, unless that is taken back (law 5 of access)."""
    scope = "system/Patient.rs"
    options = {"open_": False, "store": "sqlite:", "data": tmp_path}
    with monkeypatch.context() as still:
        still.setattr(Runner, "start", lambda self: None)
        with served("sqlite", tmp_path, **options) as server:  # type: ignore[arg-type]
            server.client("app", scope=scope)
            tokens = server.domain.tokens
            held = Held(scope, "app")
            token, write = tokens.made(held, 1.0)
            server.run(server.domain.identities.records.commit(write))
            url = kick_off(server.get("Patient", headers=bearer(token) | ASYNC))
            if fate == "revoked":
                assert server.run(tokens.revoke(token))
            server.run(asyncio.sleep(1.1))
            assert server.get(url, headers=bearer(token)).status_code == 401
            if fate == "revoked late":
                assert not server.run(tokens.revoke(token))
            if fate == "disabled":
                server.run(server.domain.identities.clients.change("app", disabled=True))
    with served("sqlite", tmp_path, **options) as server:  # type: ignore[arg-type]
        if fate == "disabled":
            jobs = Queue(server.domain.store.ledger, JobFiles(tmp_path / "jobs"), micros)
            id_ = url.rpartition("/")[2]
            for _ in range(ROUNDS):
                server.run(asyncio.sleep(0.02))
                job = server.run(jobs.get(id_))
                if job is not None and job.ended:
                    break
            assert job is not None and job.failure is not None and job.failure.status == 401
            return
        answer = ended(server, url, headers=server.bearer(scope, client="app"))
        assert answer.status_code == (200 if fate == "expired" else 401), answer.text
        left = server.run(server.domain.store.ledger.scan(MANDATE))
        assert left == []


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_limit_per_owner(backend: str, tmp_path: Path) -> None:
    with served(backend, tmp_path, max_jobs=2) as server:
        queue = Queue(server.domain.store.ledger, JobFiles(tmp_path / "jobs"), micros)
        # Kinds that no runner knows stay in the queue.
        waiting = Asked("unknown", Owner("open"), BASE, {})
        first = server.run(queue.submit(waiting))
        url = kick_off(server.get("Patient", headers=ASYNC))
        entry(server, url)
        server.run(queue.submit(waiting))
        answer = server.get("Patient", headers=ASYNC)
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
        assert issue(answer)["code"] == "throttled"
        assert server.get("Patient").status_code == 200
        assert server.delete(f"_async/{first.id}").status_code == 202
        kick_off(server.get("Patient", headers=ASYNC))


def test_a_job_outlives_the_server(tmp_path: Path) -> None:
    """Accepted, then the server is gone; the next one runs it."""

    async def accepted() -> str:
        store = await STORES["sqlite"](tmp_path)
        queue = Queue(store.ledger, JobFiles(tmp_path / "jobs"), micros)
        request = Request("POST", ("Patient",), body=dict(PATIENT), base=BASE)
        work = asked(Replayed("create", request, "Patient"), SESSION, "")
        job = await queue.submit(work)
        await store.close()
        return job.url

    url = asyncio.run(accepted())
    with served("sqlite", tmp_path, data=tmp_path) as server:
        assert entry(server, url)["response"]["status"] == "201 Created"
        assert server.get("Patient").json()["total"] == 1
        assert list((tmp_path / "jobs").iterdir())
        assert server.delete(url).status_code == 202
        assert not list((tmp_path / "jobs").iterdir())


def test_an_open_job_does_not_run_on_a_secured_server(tmp_path: Path) -> None:
    with served("memory", tmp_path, open_=False) as server:
        ledger = server.domain.store.ledger
        queue = Queue(ledger, JobFiles(tmp_path / "jobs"), micros)
        request = Request("GET", ("Patient",), base=BASE)
        job = server.run(
            queue.submit(asked(Replayed("search-type", request, "Patient"), SESSION, ""))
        )
        for _ in range(ROUNDS):
            server.run(asyncio.sleep(0.02))
            now = server.run(queue.get(job.id))
            assert now is not None
            if now.ended:
                break
        assert now.state == "failed" and now.failure is not None and now.failure.status == 401


async def _exported(ledger: Ledger, files: JobFiles) -> str:
    """A job of another kind, as a worker elsewhere would have done it."""
    queue = Queue(ledger, files, micros)
    job = await queue.submit(Asked("export", Owner("open"), BASE, {}))
    claimed = await queue.claim(job.id)
    assert claimed is not None and claimed.lease is not None
    file = await files.write(job.id, "Patient.ndjson", b'{"resourceType":"Patient"}\n')

    def result(job: Job) -> Job:
        return replace(job, files=(file,), result={"output": [{"url": f"{job.url}/{file.name}"}]})

    await queue.end(job.id, "done", holder=claimed.lease.holder, result=result)
    return job.url


def test_a_manifest_and_its_files(tmp_path: Path) -> None:
    with served("sqlite", tmp_path, store="sqlite:", data=tmp_path) as server:
        ledger = server.domain.store.ledger
        url = server.run(_exported(ledger, JobFiles(tmp_path / "jobs")))
        manifest = server.get(url, headers={"accept": "application/json"})
        assert manifest.status_code == 200
        assert manifest.headers["content-type"] == "application/json"
        assert manifest.headers["expires"].endswith("GMT")
        where = manifest.json()["output"][0]["url"]
        file = server.get(where, headers={"accept": "application/fhir+ndjson"})
        assert (file.status_code, file.content) == (200, b'{"resourceType":"Patient"}\n')
        assert file.headers["content-type"] == "application/fhir+ndjson"
        assert server.delete(url).status_code == 202
        assert server.get(where).status_code == 404
