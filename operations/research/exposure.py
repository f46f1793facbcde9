"""How easily somebody in the bank could be found again, told to whoever reads it.

The bank's profile moves dates and keeps codes and values, so it hides less than a set by
``safe-harbor``, and says how much less: ``linkage.json`` holds the share of right claims of an
intruder who knows one thing of a person (written by the test that makes the table of the guide);
``exposure`` counts in the bank itself how many share year of birth, sex and place.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final

from fhir_server.access.session import Session
from fhir_server.fhirpath.evaluate import Expression
from fhir_server.model.exchange import Json
from fhir_server.search.plan import TRUE
from operations.deid.risk import Row, risk
from operations.risk_report import DEFAULT, KNOWN, decimal, patients_of, value_of

MEASURED: Final = Path(__file__).parents[1] / "deid" / "linkage.json"
SMALL: Final = 5


@cache
def linkage() -> Mapping[str, Mapping[str, Any]]:
    """Canonical of a profile -> ``set``: measured on what; ``rates``: what is known -> share of
    right claims."""
    text = MEASURED.read_text(encoding="utf-8")
    return dict(json.loads(text, parse_float=Decimal))


async def exposure(session: Session) -> Json:
    """Of all patients whom this session reads: ``average`` and ``below`` are shares. Empty of
    nobody."""
    expressions = [Expression(KNOWN[name][0]) for name in DEFAULT]
    rows: list[Row] = [
        tuple(value_of(one, patient) for one in expressions)
        async for patient in patients_of(session, [TRUE])
    ]
    if not rows:
        return {}
    found = await asyncio.to_thread(risk, rows, None, None, (SMALL,))
    shares = {"average": found.average, "below": found.below[SMALL]}
    return {name: str(decimal(share)) for name, share in shares.items()}
