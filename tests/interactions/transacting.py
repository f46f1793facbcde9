"""Bundles of the tests of transactions, and what is answered to them."""

from __future__ import annotations

from typing import Any

from tests.serving import Json, Server, issue

PATIENT: Json = {"resourceType": "Patient", "name": [{"family": "Doe"}]}


def observation(subject: str, **more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": subject},
        **more,
    }


def entry(
    method: str, url: str, resource: Json | None = None, full_url: str = "", **request: str
) -> Json:
    made: Json = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        made["resource"] = resource
    if full_url:
        made["fullUrl"] = full_url
    return made


def transaction(*entries: Json) -> Json:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


def post(server: Server, *entries: Json, **headers: str) -> list[Json]:
    """The response entries of a transaction that must succeed."""
    answer = server.post("", transaction(*entries), headers=headers)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["type"] == "transaction-response"
    assert len(body.get("entry", [])) == len(entries)
    shown: list[Json] = body.get("entry", [])
    return shown


def refused(server: Server, *entries: Json) -> tuple[int, Json]:
    """Status and first issue of a transaction that must fail and store nothing."""
    before = counts(server)
    answer = server.post("", transaction(*entries))
    assert answer.status_code >= 400, answer.text
    assert counts(server) == before
    return answer.status_code, issue(answer)


def counts(server: Server) -> dict[str, int]:
    return {k: v for k, v in server.run(server.domain.store.counts()).items() if v}


def located(server: Server, shown: Json) -> Json:
    found: Json = server.get(shown["response"]["location"]).json()
    return found


URN = "urn:uuid:9d0f1d5e-2f6f-4b1c-8f2e-3c1d9a7b5e10"
