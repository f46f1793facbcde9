"""PyPI fhirclient and fhirpy against a running server; prints what they found as JSON."""

import asyncio
import json
import re
import sys

import requests
from fhirclient import client as smart
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
from fhirpy import AsyncFHIRClient, SyncFHIRClient


def fields(page):
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))


def through_the_pages(url, root, given):
    """What a person does in a browser; the address that the app is sent to."""
    web = requests.Session()
    page = web.get(url)
    where = {"username": given["user"], "password": given["password"]}
    page = web.post(root + "/auth/login", data={**fields(page.text), **where})
    if 'name="patient"' in page.text:
        chosen = {"patient": given["patient"]}
        page = web.post(root + "/auth/patient", data={**fields(page.text), **chosen})
    scopes = re.findall(r'name="scope" value="([^"]*)" checked', page.text)
    form = [*fields(page.text).items(), *(("scope", s) for s in scopes), ("decision", "approve")]
    done = web.post(root + "/auth/consent", data=form, allow_redirects=False)
    return done.headers["location"]


def with_fhirclient(given):
    settings = {
        "app_id": "page",
        "api_base": given["base"],
        "redirect_uri": given["redirect"],
        "scope": "openid fhirUser patient/*.rs offline_access",
    }
    app = smart.FHIRClient(settings=settings)
    app.wants_patient = True
    app.prepare()
    app.handle_callback(through_the_pages(app.authorize_url, given["root"], given))
    patient = app.patient
    found = Observation.where({"patient": patient.id}).perform_resources(app.server)
    before = app.server.auth.access_token
    app.reauthorize()
    again = Patient.read(patient.id, app.server)
    return {
        "patient": patient.id,
        "again": again.id,
        "observations": len(found),
        "refreshed": before != app.server.auth.access_token,
    }


async def with_fhirpy(given):
    bearer = f"Bearer {given['token']}"
    client = AsyncFHIRClient(given["base"], authorization=bearer)
    patient = client.resource("Patient", name=[{"family": "Py"}])
    await patient.save()
    patient["gender"] = "female"
    await patient.save()
    found = await client.resources("Patient").search(family="Py", gender="female").fetch_all()
    await patient.delete()
    count = await client.resources("Patient").search(_id=patient.id).count()
    sync = SyncFHIRClient(given["base"], authorization=bearer)
    return {"found": len(found), "left": count, "sync": sync.resources("Patient").count() > 0}


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps({**with_fhirclient(asked), **asyncio.run(with_fhirpy(asked))}))
