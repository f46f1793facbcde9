"""The code systems that consents and security labels speak, and what a code of theirs covers.

Sources (facts of HL7 Terminology, https://terminology.hl7.org): v3-ActReason (purposes of use),
v3-Confidentiality, v3-ActCode (information sensitivity), consentaction, consentscope;
https://hl7.org/fhir/R4/security-labels.html; IHE PCF (https://profiles.ihe.net/ITI/PCF/).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

_TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem/"
REASONS: Final = _TERMINOLOGY + "v3-ActReason"
CONFIDENTIALITY: Final = _TERMINOLOGY + "v3-Confidentiality"
SENSITIVITY: Final = _TERMINOLOGY + "v3-ActCode"
ACTIONS: Final = _TERMINOLOGY + "consentaction"
SCOPES: Final = _TERMINOLOGY + "consentscope"
PARTICIPATION: Final = _TERMINOLOGY + "v3-ParticipationType"
TYPES: Final = "http://hl7.org/fhir/resource-types"
PROFILES: Final = "urn:ietf:rfc:3986"


class Code(NamedTuple):
    """``system`` "" where none was given."""

    system: str
    code: str


LEVELS: Final = "ULMNRV"
"""Confidentiality, from unrestricted to very restricted; what has no label is N."""
NORMAL: Final = "N"
RESTRICTED: Final = "R"

_REASONS_BELOW: Final[Mapping[str, str]] = {
    "HMARKT": "",
    "HOPERAT": """CAREMGT DONAT FRAUD GOV HACCRED HCOMPL HDECD HDIRECT HDM HLEGAL HOUTCOMS HPRGRP
        HQUALIMP HSYSADMIN LABELING METAMGT MEMADMIN MILCDM PATADMIN PATSFTY PERFMSR RECORDMGT
        SYSDEV HTEST TRAIN""",
    "HPAYMT": "CLMATTCH COVAUTH COVERAGE ELIGDTRM ELIGVER ENROLLM MILDCRG REMITADV",
    "HRESCH": """BIORCH CLINTRCH CLINTRCHNPC CLINTRCHPC PRECLINTRCH DSRCH POARCH TRANSRCH
        POPHLTHRCH""",
    "PATRQT": "FAMRQT PWATRNY SUPNWK",
    "PUBHLTH": "DISASTER THREAT",
    "TREAT": "CLINTRL COC ETREAT BTG ERTREAT POPHLTH",
    "ETREAT": "BTG ERTREAT",
    "CLINTRCH": "CLINTRCHNPC CLINTRCHPC",
    "COVERAGE": "ELIGDTRM ELIGVER ENROLLM MILDCRG",
}
PURPOSES: Final = frozenset(
    {*_REASONS_BELOW, *(code for below in _REASONS_BELOW.values() for code in below.split())}
)
"""The purposes of use that a request may state."""

TREATMENT: Final = "TREAT"
BREAK_GLASS: Final = "BTG"
OWN_REQUEST: Final = "PATRQT"

_SENSITIVE_BELOW: Final[Mapping[str, str]] = {
    "BH": "COGN DVD EMOTDIS MH PSY PSYTHPN SUD ETH ETHUD OPIOIDUD",
    "ETH": "ETHUD OPIOIDUD SUD",
    "MH": "PSY PSYTHPN",
    "PSY": "PSYTHPN",
    "SEX": "STD",
    "SPI": "BH COGN DVD EMOTDIS MH PSY PSYTHPN SUD ETH ETHUD OPIOIDUD",
    "SUD": "ETHUD OPIOIDUD",
    "VIO": "SDV",
}
SENSITIVE: Final = frozenset(
    {*_SENSITIVE_BELOW, *(code for below in _SENSITIVE_BELOW.values() for code in below.split())}
    | {"ADOL", "DIA", "GDIS", "HIV", "MARST", "MST", "PHY", "PRS", "SCA", "SICKLE", "TBOO"}
)
"""The sensitivities of v3-ActCode that this server knows; any other label counts as R."""

HELD: Final = frozenset({"DIA", "PHY"})
"""Kept from patients themselves until their clinician has spoken with them (v3-ActCode: not to
be disclosed to the patient before it is discussed, or without the physician)."""
OF_MINORS: Final = frozenset({"ADOL"})
"""Kept from those who act for a minor."""

RECIPIENTS: Final = frozenset({"IRCP", "PRCP", "REFT", "TRC", "NOT", "CST", "LA"})
"""Roles (v3-ParticipationType) in which an actor of a provision is who gets at the data."""

LETTERS: Final[Mapping[str, frozenset[str]]] = {
    "r": frozenset({"access", "use", "disclose"}),
    "s": frozenset({"access", "use", "disclose"}),
    "c": frozenset({"collect", "use"}),
    "u": frozenset({"correct", "use"}),
    "d": frozenset({"correct", "use"}),
}
"""Which actions (consentaction) a letter of SMART scopes is."""


def below(code: str) -> frozenset[str]:
    """A purpose and what it covers."""
    return frozenset({code, *_REASONS_BELOW.get(code, "").split()})


def sensitivities(code: str) -> frozenset[str]:
    """A sensitivity and what it covers."""
    return frozenset({code, *_SENSITIVE_BELOW.get(code, "").split()})


def level(labels: Iterable[Code]) -> str:
    """The confidentiality of what bears these labels: the highest that they say; a sensitivity,
    and a label that nobody knows, is at least R. Nothing said is N.
    """
    said = [label.code for label in labels if label.system == CONFIDENTIALITY]
    found = [code for code in said if code in LEVELS]
    if len(found) < len(said) or any(label.system == SENSITIVITY for label in labels):
        found.append(RESTRICTED)
    return max(found, key=LEVELS.index, default=NORMAL)
