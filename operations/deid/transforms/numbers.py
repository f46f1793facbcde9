"""perturb: a number with noise.

The noise is made of the run's key, the place and the value: another answer for the same project
has the same noise, so that it cannot be averaged away.
"""

from __future__ import annotations

import hmac
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from fhir_server.model.exchange import Json
from operations.deid.run import Run
from operations.deid.transforms.base import SUBJECT, Given, Leaf, Method, Node, Site, dropped

_WHOLE: Final = {"integer": None, "unsignedInt": 0, "positiveInt": 1}
"""The type of a whole number -> the least it may be."""
_AMOUNTS: Final = frozenset(("Quantity", "Age", "Count", "Distance", "Duration", "Money"))
_ROUND: Final = 28


class Perturb(Method):
    """``span``: width of the noise, half of it to either side; with ``rangeType``
    ``proportional`` as a share of the value. ``roundTo``: decimal places, 0 for whole numbers, else
    2. Of a Quantity the value changes, the rest stays."""

    needs = frozenset((SUBJECT,))

    def __init__(self, given: Given) -> None:
        self._span = given.decimal("span")
        self._share = given.one_of("rangeType", ("fixed", "proportional")) == "proportional"
        self._places = given.get("roundTo")
        if self._places is not None and (
            type(self._places) is not int or not 0 <= self._places <= _ROUND
        ):
            raise ValueError(f"roundTo is a whole number, 0 to {_ROUND}")

    def leaf(self, site: Site) -> Leaf:
        if site.type not in _WHOLE and site.type != "decimal":
            return dropped
        return lambda value, _around, run: self._noisy(value, site, run)

    def node(self, site: Site) -> Node | None:
        if site.type not in _AMOUNTS:
            return lambda _walked, _run: {}

        def amount(walked: Json, run: Run) -> Json:
            value = walked.get("value")
            if isinstance(value, bool) or not isinstance(value, int | Decimal):
                return {}
            return walked | {"value": self._noisy(value, site, run)}

        return amount

    def _noisy(self, value: int | Decimal, site: Site, run: Run) -> Any:
        source = f"{run.about.resource} {site.path} {value}".encode()
        drawn = int.from_bytes(hmac.digest(run.secret("perturb"), source, "sha256")[:8])
        exact = Decimal(value)
        width = self._span * abs(exact) if self._share else self._span
        noisy = exact + (Decimal(drawn) / 2**64 - Decimal("0.5")) * width
        whole = site.type in _WHOLE
        places = self._places if self._places is not None else 0 if whole else 2
        rounded = noisy.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)
        if site.type == "Age":
            rounded = max(rounded, Decimal(0))
        if not whole:
            return rounded
        least = _WHOLE[site.type]
        return int(rounded) if least is None else max(int(rounded), least)
