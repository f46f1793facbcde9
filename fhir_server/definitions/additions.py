"""Search parameters of this server, beside those that R4 publishes."""

from __future__ import annotations

from typing import Final

from fhir_server.definitions.elements import SearchParameter

ADDITIONS: Final = (
    # R5 has it: https://hl7.org/fhir/R5/searchparameter-registry.html (AuditEvent-purpose).
    SearchParameter(
        code="purpose",
        url="urn:vehr:search-parameter:AuditEvent-purpose",
        type="token",
        expression="AuditEvent.purposeOfEvent | AuditEvent.agent.purposeOfUse",
        bases=("AuditEvent",),
        description="What the data was used for (purpose of use)",
    ),
)
