"""The OperationDefinitions that the CapabilityStatement names can be read and are valid."""

from __future__ import annotations

from fhir_server.definitions.registry import load
from fhir_server.formats.json import loads
from fhir_server.validation.validate import Validator
from tests.serving import Server

VIEWS = "http://sql-on-fhir.org/OperationDefinition/"
BULK = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/"
US_CORE = "http://hl7.org/fhir/us/core/OperationDefinition/"


def test_every_definition_in_metadata_can_be_read(server: Server) -> None:
    statement = server.get("metadata").json()["rest"][0]
    named = {
        operation["definition"]
        for place in (statement, *statement["resource"])
        for operation in place.get("operation", ())
    }
    elsewhere = {url for url in named if url.startswith((BULK, VIEWS, US_CORE))}
    assert elsewhere == {
        US_CORE + "docref",
        *(BULK + name for name in ("export", "patient-export", "group-export")),
        *(VIEWS + name for name in ("$viewdefinition-run", "$viewdefinition-export")),
    }
    named -= elsewhere | {"http://hl7.org/fhir/OperationDefinition/Resource-validate"}
    assert len(named) >= 8
    for url in named:
        answer = server.get(url)
        assert answer.status_code == 200 and answer.json()["url"] == url
        assert Validator(load()).issues(loads(answer.content)) == []


def test_they_need_the_right_to_read(secured: Server) -> None:
    url = "OperationDefinition/predict"
    assert secured.get(url).status_code == 401
    assert secured.get(url, headers=secured.bearer("system/Patient.r")).status_code == 403
    assert secured.get(url, headers=secured.bearer("system/*.r")).status_code == 200
