"""The resource types in which an outcome may be written: each is about one patient."""

from __future__ import annotations

from typing import Literal, TypeAlias

Readable: TypeAlias = Literal[
    "Patient",
    "Encounter",
    "Condition",
    "Observation",
    "Procedure",
    "MedicationAdministration",
    "DiagnosticReport",
    "ServiceRequest",
]
