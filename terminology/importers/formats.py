"""The formats that can be imported, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from terminology.filing import Progress, write_file
from terminology.importers import csv_table, fhir, icd_10, icd_10_cm, loinc, rxnorm, snomed_ct
from terminology.importers.release import Imported, Release, Wanted

Reader: TypeAlias = Callable[[Release, Wanted], Imported]

READERS: Final[Mapping[str, Reader]] = {
    "snomed-ct": snomed_ct.read,
    "loinc": loinc.read,
    "icd-10": icd_10.read,
    "icd-10-cm": icd_10_cm.read,
    "rxnorm": rxnorm.read,
    "csv": csv_table.read,
    "fhir": fhir.read,
}


def build(
    format_: str, source: Path, wanted: Wanted, target: Path, progress: Progress
) -> tuple[dict[str, Any], int]:
    """The file of concepts of a release at ``target``; its CodeSystem and how many there are.

    ``format_``: of READERS. Raises Refused.
    """
    imported = READERS[format_](Release(source), wanted)
    count = write_file(target, imported.code_system, imported.concepts, progress)
    return imported.code_system, count
