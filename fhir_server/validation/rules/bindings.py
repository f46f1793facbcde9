"""Required bindings: https://hl7.org/fhir/R4/terminologies.html#required

Only value sets whose codes the definitions list are checked here.
"""

from __future__ import annotations

from collections.abc import Mapping

from fhir_server.model.exchange import Json

from .fault import Fault, Rule, shown
from .text import code

Systems = Mapping[str, frozenset[str]]


def bound_code(value_set: str, codes: frozenset[str]) -> Rule:
    """A code, bound: it is one of ``codes``."""

    def check(value: object) -> Fault | None:
        if type(value) is str and value in codes:
            return None
        return code(value) or Fault(
            "code-invalid", f"{shown(value)} is not in the required value set {value_set}"
        )

    return check


def bound_coding(value_set: str, systems: Systems) -> Rule:
    """A Coding, bound: system and code are in the value set."""

    def check(value: Json) -> Fault | None:
        if _in(value, systems):
            return None
        said = f"{value.get('system', '')}|{value.get('code', '')}"
        return _outside(said, value_set)

    return check


def bound_concept(value_set: str, systems: Systems) -> Rule:
    """A CodeableConcept, bound: one of its codings is in the value set.

    One that only has extensions (such as data-absent-reason) says that it has no code.
    """

    def check(value: Json) -> Fault | None:
        codings = value.get("coding", ())
        if any(_in(coding, systems) for coding in codings):
            return None
        if not codings and "extension" in value and "text" not in value:
            return None
        said = ", ".join(f"{c.get('system', '')}|{c.get('code', '')}" for c in codings)
        return _outside(said or "a text without a code", value_set)

    return check


def bound_quantity(value_set: str, systems: Systems) -> Rule:
    """A Quantity, bound: its unit's system and code are in the value set."""
    return bound_coding(value_set, systems)


def _in(coding: Json, systems: Systems) -> bool:
    codes = systems.get(coding.get("system", ""))
    return codes is not None and coding.get("code") in codes


def _outside(said: str, value_set: str) -> Fault:
    return Fault("code-invalid", f"{shown(said, 200)} is not in the required value set {value_set}")
