"""The codes of AuditEvents: which interaction and which act of the server is what.

IHE BALP (https://profiles.ihe.net/ITI/BALP/), DICOM PS3.15 table A.5.2 and PS3.16 D (the codes of
DCM), ISO 21089 and https://hl7.org/fhir/R4/valueset-audit-event-type.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fhir_server.model.exchange import Json

Coded = tuple[str, str, str]
"""System, code, display."""

DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
RESTFUL: Final = "http://hl7.org/fhir/restful-interaction"
LIFECYCLE: Final = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
BALP: Final = "https://profiles.ihe.net/ITI/BALP/CodeSystem/"
OWN: Final = "urn:vehr:event"
"""Codes of this server: acts, operations and commands by their names."""
ROLES: Final = "urn:vehr:role"
REASONS: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"

REST: Final = (
    "http://terminology.hl7.org/CodeSystem/audit-event-type",
    "rest",
    "RESTful Operation",
)
ALERT: Final = (DCM, "110113", "Security Alert")
AUTHENTICATION: Final = (DCM, "110114", "User Authentication")
ACTIVITY: Final = (DCM, "110100", "Application Activity")
EXPORT: Final = (DCM, "110106", "Export")
IMPORT: Final = (DCM, "110107", "Import")
RECORD: Final = (DCM, "110110", "Patient Record")
START: Final = (DCM, "110120", "Application Start")
STOP: Final = (DCM, "110121", "Application Stop")
LOGIN: Final = (DCM, "110122", "Login")
LOGOUT: Final = (DCM, "110123", "Logout")
EMERGENCY: Final = (DCM, "110127", "Emergency Override Started")
SECURITY_CONFIGURED: Final = (DCM, "110129", "Security Configuration")
RESTRICTED: Final = (DCM, "110132", "Use of Restricted Function")
USER_CHANGED: Final = (DCM, "110137", "User Security Attributes Changed")
LOG_USED: Final = (DCM, "110101", "Audit Log Used")
REIDENTIFY: Final = (LIFECYCLE, "reidentify", "Re-identify Record Lifecycle Event")
DEIDENTIFY: Final = (LIFECYCLE, "deidentify", "De-Identify (Anonymize) Record Lifecycle Event")
DESTROY: Final = (LIFECYCLE, "destroy", "Destroy/Delete Record Lifecycle Event")
TOKEN_REQUEST: Final = ("urn:ihe:event-type-code", "ITI-71", "Get Access Token")
INTROSPECTION: Final = ("urn:ihe:event-type-code", "ITI-102", "Introspect Token")
CONSENT: Final = (BALP + "AuthZsubType", "AuthZ-Consent", "AuthZ-Consent")

SOURCE: Final = (DCM, "110153", "Source Role ID")
DESTINATION: Final = (DCM, "110152", "Destination Role ID")
APPLICATION: Final = (DCM, "110150", "Application")
CUSTODIAN: Final = (
    "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
    "custodian",
    "Custodian",
)
RECIPIENT: Final = (
    "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
    "IRCP",
    "information recipient",
)
PROVIDER: Final = (
    "http://terminology.hl7.org/CodeSystem/v3-RoleClass",
    "PROV",
    "healthcare provider",
)
AUTHORISER: Final = (
    "http://terminology.hl7.org/CodeSystem/extra-security-role-type",
    "authserver",
    "authorization server",
)
OAUTH: Final = (BALP + "UserAgentTypes", "AuthzOauthService", "OAuth authorization service")

AGENTS: Final[dict[str, tuple[Coded, Coded]]] = {
    "C": (SOURCE, DESTINATION),
    "R": (DESTINATION, SOURCE),
    "U": (SOURCE, DESTINATION),
    "D": (APPLICATION, CUSTODIAN),
    "E": (SOURCE, DESTINATION),
}
"""Client and server by action (BALP: Create, Read, Update, Delete, Query)."""

INTERACTIONS: Final[dict[str, tuple[str, str]]] = {
    "read": ("R", "read"),
    "read-binary": ("R", "read"),
    "vread": ("R", "vread"),
    "vread-binary": ("R", "vread"),
    "history-instance": ("R", "history-instance"),
    "history-type": ("E", "history-type"),
    "history-system": ("E", "history-system"),
    "create": ("C", "create"),
    "create-binary": ("C", "create"),
    "update": ("U", "update"),
    "update-binary": ("U", "update"),
    "conditional-update": ("U", "update"),
    "patch": ("U", "patch"),
    "conditional-patch": ("U", "patch"),
    "delete": ("D", "delete"),
    "conditional-delete": ("D", "delete"),
    "search-type": ("E", "search-type"),
    "search-system": ("E", "search-system"),
    "search-compartment": ("E", "search-type"),
    "transaction": ("E", "transaction"),
    "operation": ("E", "operation"),
}
"""Interaction -> action and code of http://hl7.org/fhir/restful-interaction. What is not here
(jobs, unknown URLs) is executed and has no code.
"""

OPERATIONS: Final[dict[str, Coded]] = {
    "anonymize": DEIDENTIFY,
    "expunge": DESTROY,
    "export": EXPORT,
    "reidentify": REIDENTIFY,
}
"""What some operations are besides."""


@dataclass(frozen=True, slots=True)
class Act:
    """What an act that is no FHIR interaction is recorded as."""

    type: Coded
    subtype: Coded | None = None
    action: str = "E"


ACTS: Final[dict[str, Act]] = {
    "login": Act(AUTHENTICATION, LOGIN),
    "second-factor": Act(AUTHENTICATION, LOGIN),
    "lockout": Act(ALERT, RESTRICTED),
    "logout": Act(AUTHENTICATION, LOGOUT),
    "authorize": Act(AUTHENTICATION, TOKEN_REQUEST),
    "token": Act(AUTHENTICATION, TOKEN_REQUEST),
    "refresh": Act(AUTHENTICATION, TOKEN_REQUEST),
    "introspect": Act(AUTHENTICATION, INTROSPECTION),
    "userinfo": Act(AUTHENTICATION),
    "launch": Act(AUTHENTICATION),
    "revoke": Act(ALERT, USER_CHANGED, "D"),
    "withdraw": Act(ALERT, USER_CHANGED, "D"),
    "register": Act(ALERT, SECURITY_CONFIGURED, "C"),
    "admin": Act(ALERT, USER_CHANGED, "U"),
    "server-start": Act(ACTIVITY, START),
    "server-stop": Act(ACTIVITY, STOP),
    "command": Act(ACTIVITY),
    "command-token": Act(AUTHENTICATION, TOKEN_REQUEST),
    "command-expunge": Act(RECORD, DESTROY, "D"),
    "command-keys": Act(ALERT, SECURITY_CONFIGURED, "U"),
    "command-backup": Act(EXPORT),
    "command-copy": Act(EXPORT),
    "command-restore": Act(IMPORT, action="C"),
    "command-load": Act(IMPORT, action="C"),
}
"""By the interaction of their lines: what the authorization server tells, the life of a process of
the server, and commands."""


def act_of(interaction: str) -> Act | None:
    """None for an interaction of FHIR."""
    known = ACTS.get(interaction)
    return known or (ACTS["command"] if interaction.startswith("command-") else None)


def coding(coded: Coded) -> Json:
    system, code, display = coded
    return {"system": system, "code": code, "display": display}


def concept(coded: Coded) -> Json:
    return {"coding": [coding(coded)]}
