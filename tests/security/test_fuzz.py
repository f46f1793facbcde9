"""Requests made from the server's own OpenAPI document, right and wrong, by schemathesis.

Whatever comes: no 5xx but 501, an OperationOutcome with every refusal, a resource otherwise.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.serving import Server, issue, served

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

TYPES = ("Patient", "Observation", "Questionnaire", "Binary", "Bundle", "SearchParameter")
SOME = (  # without those whose bodies are resources, which take long to make
    "get /fhir/Patient",
    "get /fhir/Patient/{id}",
    "patch /fhir/Patient/{id}",
    "delete /fhir/Patient/{id}",
    "get /fhir/Patient/{id}/_history",
)
OPTIONS: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
}


def operations(server: Server, type_: str) -> Iterator[Any]:
    document = server.get("/docs/openapi.json" + (f"?type={type_}" if type_ else "")).json()
    for operation in schemathesis.openapi.from_dict(document).get_all_operations():
        yield operation.ok()


def sent(server: Server, case: Any) -> httpx.Response | None:
    """None for what cannot be put in a request at all."""
    headers = {k: str(v) for k, v in (case.headers or {}).items() if k != "Authorization"}
    content = b""
    if case.media_type is not None and not isinstance(case.body, schemathesis.core.NotSet):
        headers["content-type"] = case.media_type.replace("*/*", "application/pdf")
        body = case.body
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        return server.send(
            case.method,
            case.formatted_path,
            params=case.query or {},
            headers=headers,
            content=content,
        )
    except (UnicodeError, httpx.InvalidURL):
        return None


def judge(answer: httpx.Response, case: Any) -> None:
    told = f"{case.method} {answer.request.url} {case.body!r:.300} -> {answer.status_code}"
    assert answer.status_code < 500 or answer.status_code == 501, told
    assert "Traceback" not in answer.text, told
    if answer.status_code >= 400 and case.method != "HEAD":
        if "xml" in answer.headers["content-type"]:
            assert b"<OperationOutcome" in answer.content, told
        else:
            assert issue(answer), told


def fuzz(
    server: Server, type_: str, examples: int, seeded: int, only: Collection[str] = ()
) -> Counter[int]:
    """``only``: the operations, as method and path; none are all."""
    statuses: Counter[int] = Counter()
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    for operation in operations(server, type_):
        named = f"{operation.method} {operation.path}"
        for mode in modes if not only or named in only else ():

            @seed(seeded)
            @settings(max_examples=examples, **OPTIONS)
            @given(case=operation.as_strategy(generation_mode=mode))
            def one(case: Any) -> None:
                answer = sent(server, case)
                if answer is not None:
                    judge(answer, case)
                    statuses[answer.status_code] += 1

            one()
    assert server.get("metadata").status_code == 200
    return statuses


@pytest.mark.slow
def test_fuzz_of_some_types(tmp_path: Path) -> None:
    with served("memory", tmp_path) as server:
        statuses = fuzz(server, "Patient", 4, 1, SOME)
        assert {200, 400, 404} <= set(statuses), statuses
