"""How a version does: figures, and what is beyond the thresholds of its card."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from fhir_server.model.exchange import Json

from ..feedback import agreement, feedback
from ..manifest import Thresholds
from ..package import ModelPackage
from .distributions import Distance, Distribution, Reference, distance
from .monitor import DAY, Monitor
from .outcomes import Calibration, Outcomes
from .tally import Tally

MISCALIBRATED: Final = 3.7
"""Standard deviations between expected and observed outcomes."""
FEW_OUTCOMES: Final = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """``kind``: input-drift, output-drift, missing, errors, calibration, agreement; ``about``: the
    feature or output."""

    kind: str
    about: str
    value: float
    threshold: float

    def __str__(self) -> str:
        about = f" of {self.about}" if self.about else ""
        return f"{self.kind}{about}: {self.value:.3g} (threshold {self.threshold:.3g})"


@dataclass(frozen=True, slots=True)
class Report:
    """``drift``: by input or output; ``agreement``: share of drafts that were accepted as they
    were; ``shadow``: calls beside the champion and the mean difference of the outputs."""

    package: ModelPackage
    tally: Tally
    origin: str
    inputs: dict[str, Distance]
    outputs: dict[str, Distance]
    calibrations: list[Calibration]
    decisions: int
    agreement: float | None
    findings: tuple[Finding, ...]


async def report(monitor: Monitor, package: ModelPackage, outcomes: Outcomes) -> Report:
    """Over the days that the card says."""
    limits = package.card.monitoring
    tally = await monitor.tally(package.id, limits.days)
    reference = await monitor.reference(package.id) or Reference({}, {}, "")
    inputs, outputs = (
        _apart(reference.inputs, tally.inputs),
        _apart(reference.outputs, tally.outputs),
    )
    calibrations = await outcomes.of(package)
    decided = await feedback(monitor.ledger, package.id, monitor.now() - limits.days * DAY)
    share = agreement(decided)
    findings = [
        *_drifted("input-drift", inputs, limits),
        *_drifted("output-drift", outputs, limits),
        *_counted(tally, limits),
        *_miscalibrated(calibrations),
    ]
    if share is not None and len(decided) >= limits.least and share < limits.agreement:
        findings.append(Finding("agreement", "", share, limits.agreement))
    return Report(
        package,
        tally,
        reference.origin,
        inputs,
        outputs,
        calibrations,
        len(decided),
        share,
        tuple(findings),
    )


def _apart(expected: dict[str, Distribution], found: dict[str, list[int]]) -> dict[str, Distance]:
    return {
        name: distance(expected[name].counts, counts)
        for name, counts in found.items()
        if name in expected and len(counts) == len(expected[name].counts)
    }


def _drifted(kind: str, found: dict[str, Distance], limits: Thresholds) -> list[Finding]:
    """Large, and more than chance."""
    findings = []
    for name, one in found.items():
        if one.n < limits.least:
            continue
        if one.psi > limits.psi and one.psi > one.psi_chance:
            findings.append(Finding(kind, name, one.psi, limits.psi))
        elif one.ks > limits.ks and one.ks > one.ks_chance:
            findings.append(Finding(kind, name, one.ks, limits.ks))
    return findings


def _counted(tally: Tally, limits: Thresholds) -> list[Finding]:
    found = [
        Finding("missing", name, count / tally.asked[name], limits.missing)
        for name, count in tally.missing.items()
        if tally.asked[name] >= limits.least
    ]
    if tally.calls >= limits.least:
        found.append(Finding("errors", "", tally.errors / tally.calls, limits.errors))
    return [one for one in found if one.value > one.threshold]


def _miscalibrated(found: list[Calibration]) -> list[Finding]:
    return [
        Finding("calibration", one.output, abs(one.z), MISCALIBRATED)
        for one in found
        if one.n >= FEW_OUTCOMES and abs(one.z) > MISCALIBRATED
    ]


def parameters(found: Report, status: str) -> list[Json]:
    """The report as parts of a Parameters resource."""
    tally = found.tally
    parts = [
        _part("version", "valueString", found.package.card.version),
        _part("status", "valueCode", status),
        _part("days", "valueInteger", found.package.card.monitoring.days),
        _part("calls", "valueInteger", tally.calls),
        _part("results", "valueInteger", tally.results),
        _part("errors", "valueInteger", tally.errors),
        _part("p50", "valueQuantity", _seconds(tally.quantile(0.5))),
        _part("p95", "valueQuantity", _seconds(tally.quantile(0.95))),
    ]
    parts += [_missing(name, tally) for name in sorted(tally.asked)]
    if found.origin:
        parts.append(_part("reference", "valueCode", found.origin))
    parts += [_drift("input-drift", name, one) for name, one in sorted(found.inputs.items())]
    parts += [_drift("output-drift", name, one) for name, one in sorted(found.outputs.items())]
    parts += [_calibration(one) for one in found.calibrations]
    if found.agreement is not None:
        parts += [
            _part("decisions", "valueInteger", found.decisions),
            _part("agreement", "valueDecimal", _exact(found.agreement)),
        ]
    if tally.pairs:
        parts += [
            _part("shadow-calls", "valueInteger", tally.pairs),
            _part("shadow-difference", "valueDecimal", _exact(tally.apart / tally.pairs)),
        ]
    return parts + [_part("finding", "valueString", str(one)) for one in found.findings]


def _part(name: str, member: str, value: object) -> Json:
    return {"name": name, member: value}


def _exact(value: float) -> Decimal:
    return Decimal(repr(round(value, 6)))


def _seconds(value: float) -> Json:
    system = "http://unitsofmeasure.org"
    return {"value": _exact(value), "unit": "s", "system": system, "code": "s"}


def _missing(name: str, tally: Tally) -> Json:
    share = tally.missing.get(name, 0) / tally.asked[name]
    return {
        "name": "missing",
        "part": [
            _part("feature", "valueCode", name),
            _part("rate", "valueDecimal", _exact(share)),
        ],
    }


def _drift(kind: str, name: str, one: Distance) -> Json:
    return {
        "name": kind,
        "part": [
            _part("name", "valueCode", name),
            _part("n", "valueInteger", one.n),
            _part("psi", "valueDecimal", _exact(one.psi)),
            _part("ks", "valueDecimal", _exact(one.ks)),
        ],
    }


def _calibration(one: Calibration) -> Json:
    return {
        "name": "calibration",
        "part": [
            _part("output", "valueCode", one.output),
            _part("n", "valueInteger", one.n),
            _part("pending", "valueInteger", one.pending),
            _part("expected", "valueDecimal", _exact(one.expected)),
            _part("observed", "valueInteger", one.observed),
            _part("z", "valueDecimal", _exact(one.z)),
        ],
    }
