"""``$model-monitor``: how the versions of a model do in use (``models/monitoring``)."""

from __future__ import annotations

from typing import Final

from fhir_server.access.session import Session
from fhir_server.model.exchange import Json
from fhir_server.model.problem import NotFound

from .model_registry import status
from .models.monitoring.report import parameters
from .models.monitoring.rounds import Rounds
from .parameters import Arguments, Parameter
from .registry import Invocation, Operation

_NUMBER: Final = "decimal"
_DRIFT: Final = (
    Parameter("name", "code", "The input or output", min=1),
    Parameter("n", "integer", "Values compared", min=1),
    Parameter("psi", _NUMBER, "Population stability index", min=1),
    Parameter("ks", _NUMBER, "Greatest distance of the cumulative distributions", min=1),
)
REPORTED: Final = (
    Parameter("version", "string", "Version", min=1),
    Parameter("status", "code", "champion, challenger, candidate", min=1),
    Parameter("days", "integer", "How far back it looks", min=1),
    Parameter("calls", "integer", "Uses on records", min=1),
    Parameter("results", "integer", "With a result", min=1),
    Parameter("errors", "integer", "The graph could not be run", min=1),
    Parameter("p50", "Quantity", "Half of the calls took at most", min=1),
    Parameter("p95", "Quantity", "95 of 100 calls took at most", min=1),
    Parameter(
        "missing",
        "",
        "How often a record did not give a feature",
        max=None,
        parts=(
            Parameter("feature", "code", "Feature", min=1),
            Parameter("rate", _NUMBER, "Share of the uses", min=1),
        ),
    ),
    Parameter("reference", "code", "training, or first: the first uses"),
    Parameter("input-drift", "", "Against the reference", max=None, parts=_DRIFT),
    Parameter("output-drift", "", "Against the reference", max=None, parts=_DRIFT),
    Parameter(
        "calibration",
        "",
        "Against the outcomes that the card names",
        max=None,
        parts=(
            Parameter("output", "code", "Output", min=1),
            Parameter("n", "integer", "Predictions whose outcome is known", min=1),
            Parameter("pending", "integer", "The others", min=1),
            Parameter("expected", _NUMBER, "Sum of the probabilities", min=1),
            Parameter("observed", "integer", "Outcomes", min=1),
            Parameter("z", _NUMBER, "Distance in standard deviations", min=1),
        ),
    ),
    Parameter("decisions", "integer", "Drafts that clinicians decided about"),
    Parameter("agreement", _NUMBER, "Share that they accepted as they were"),
    Parameter("shadow-calls", "integer", "Uses beside the champion"),
    Parameter("shadow-difference", _NUMBER, "Mean difference from the champion"),
    Parameter("finding", "string", "What is beyond a threshold", max=None),
)


def monitor_operation(rounds: Rounds) -> Operation:
    """The row."""

    async def handler(arguments: Arguments, session: Session, _: Invocation) -> Json:
        registry = rounds.registry
        await registry.refresh()
        asked = arguments.one("model")
        name = registry.aliases.get(asked.lower(), asked)
        served = (registry.champions.get(name), registry.challengers.get(name))
        versions = arguments.all("version") or [v for v in served if v]
        if not versions:
            raise NotFound(f"Unknown model {asked!r}, or nobody answers to it")
        parts = []
        for version in dict.fromkeys(versions):
            found = await rounds.report(name, version)
            told = parameters(found, status(registry, name, version))
            parts.append({"name": "version", "part": told})
        named = {"name": "model", "valueCode": name}
        return {"resourceType": "Parameters", "parameter": [named, *parts]}

    return Operation(
        code="model-monitor",
        levels=frozenset({"system"}),
        types=(),
        affects_state=False,
        inputs=(
            Parameter("model", "code", "Name of the model, or one of its aliases", min=1),
            Parameter("version", "string", "Default: champion and challenger", max=None),
        ),
        outputs=(
            Parameter("model", "code", "Name", min=1),
            Parameter("version", "", "A version", max=None, parts=REPORTED),
        ),
        scope="user/Device.r",
        description="How the versions of a model do: latency, errors, drift, calibration",
        example="GET /fhir/$model-monitor?model=score2",
        handler=handler,
        needs=("Device",),
    )
