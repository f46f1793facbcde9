"""What holds in a domain for a patient who has recorded no consent.

The four policies of IHE PCF (https://profiles.ihe.net/ITI/PCF/volume-1.html): normal data for
treatment, payment and operations; normal data for every purpose; nothing but by breaking the
glass; nothing.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from fhir_server.access.consent.codes import OWN_REQUEST, below

Implicit: TypeAlias = Literal["basic-normal", "all-normal", "break-glass-only", "deny"]

_POLICIES: Final[dict[str, Implicit]] = {
    "basic-normal": "basic-normal",
    "all-normal": "all-normal",
    "break-glass-only": "break-glass-only",
    "deny": "deny",
}
_USUAL: Final = below("TREAT") | below("HPAYMT") | below("HOPERAT") | {OWN_REQUEST}


def implicit_purposes(policy: Implicit, purpose: str) -> bool:
    """Does the policy permit normal data for this purpose?"""
    if policy == "all-normal":
        return True
    return policy == "basic-normal" and purpose in _USUAL


def fits(scope: str, purpose: str) -> bool:
    """Is a consent of this scope (consentscope) one about the use of data for this purpose?

    A consent to treatment, or an advance directive, is none about data; one to research is
    one about research alone.
    """
    if scope == "research":
        return purpose in below("HRESCH")
    return scope not in ("treatment", "adr")


def as_implicit(name: str) -> Implicit:
    """A policy by its name; what is none denies."""
    return _POLICIES.get(name, "deny")
