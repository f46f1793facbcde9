"""A job as a Task: https://hl7.org/fhir/R4/task.html"""

from __future__ import annotations

from typing import Final

from fhir_server.jobs.model import Job, State
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json

STATUS: Final[dict[State, str]] = {
    "queued": "accepted",
    "running": "in-progress",
    "done": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""https://hl7.org/fhir/R4/valueset-task-status.html"""


def task_of(job: Job) -> Json:
    """What is known of the job; its progress is the business status.

    The requester is named by identifier: who starts a job need not be a resource here.
    """
    task: Json = {
        "resourceType": "Task",
        "id": job.id,
        "meta": {"lastUpdated": format_instant(job.updated)},
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": job.url}],
        "status": STATUS[job.state],
    }
    if job.failure is not None:
        said = [issue["diagnostics"] for issue in job.failure.outcome["issue"]]
        task["statusReason"] = {"text": "; ".join(said)}
    if job.progress.header:
        task["businessStatus"] = {"text": job.progress.header}
    task["intent"] = "order"
    task["code"] = {"text": job.kind}
    period = {
        name: format_instant(moment)
        for name, moment in (("start", job.started), ("end", job.finished))
        if moment is not None
    }
    if period:
        task["executionPeriod"] = period
    task["authoredOn"] = format_instant(job.created)
    task["lastModified"] = format_instant(job.updated)
    task["requester"] = {"identifier": {"value": job.owner.id}}
    if "url" in job.request:
        asked = f"{job.request['method']} {job.request['url']}"
        task["input"] = [{"type": {"text": "request"}, "valueString": asked}]
    if job.state == "done":
        urls = [("result", job.url), *((f.name, f"{job.url}/{f.name}") for f in job.shown)]
        task["output"] = [{"type": {"text": text}, "valueUrl": url} for text, url in urls]
    return task
