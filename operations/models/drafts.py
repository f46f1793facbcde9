"""Results as FHIR drafts: what the model says, from what, by which version, for whom to sign.

Every result is ``preliminary``, labelled as made by AI, carries the highest confidentiality
of its inputs and explains each feature (https://hl7.org/fhir/R4/riskassessment.html).
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

from fhir_server.access import hypothetical
from fhir_server.definitions.guide import profile
from fhir_server.model.exchange import Json

from .contributions import extension
from .inference import Inference
from .kinds import Gap, Row
from .manifest import Output
from .package import ModelPackage
from .record import Item, unversioned
from .units import UCUM

CANONICAL: Final = "urn:vehr:fhir"
FEATURE: Final = f"{CANONICAL}:StructureDefinition:model-feature"
REPORTED: Final = f"{CANONICAL}:StructureDefinition:reported-value"
MODEL_SYSTEM: Final = f"{CANONICAL}:CodeSystem:model"
AI_LABEL: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
HYPOTHETICAL: Final = {
    "system": hypothetical.SYSTEM,
    "code": hypothetical.CODE,
    "display": "Rests on values that were given, not recorded",
}
UNSIGNED: Final = "Draft made by a model; not part of the record until a clinician signs it."
CONFIDENTIALITY: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
LEVELS: Final = ("U", "L", "M", "N", "R", "V")
"""https://terminology.hl7.org/CodeSystem-v3-Confidentiality.html, least first."""

HUNDREDTH: Final = Decimal("0.01")
MILLIONTH: Final = Decimal("0.000001")


def result(inference: Inference, moment: str) -> Json:
    """The RiskAssessment or Observation of one model; without id."""
    if inference.package.card.result == "Observation":
        return observation(inference, moment)
    return risk_assessment(inference, moment)


def risk_assessment(inference: Inference, moment: str) -> Json:
    """``moment``: asOf. Probabilities are 0 to 1, rounded to a millionth."""
    package = inference.package
    return {
        "resourceType": "RiskAssessment",
        "meta": profile("model-risk") | meta(inference),
        "extension": explained(inference),
        "status": "preliminary",
        "method": model_concept(package),
        "code": {"text": f"Risk by {package.card.title}"},
        "subject": subject(inference),
        "occurrenceDateTime": moment,
        "performer": performer(package),
        **listed("basis", basis(inference)),
        "prediction": [
            _prediction(inference, output, value) for output, value in inference.results()
        ],
        "note": _notes(inference),
    }


def _prediction(inference: Inference, output: Output, value: float) -> Json:
    exact = Decimal(repr(value))
    prediction: Json = {
        "outcome": outcome(output),
        "probabilityDecimal": exact.quantize(MILLIONTH, ROUND_HALF_UP),
    }
    level = inference.level(output, exact)
    if level:
        prediction["qualitativeRisk"] = {"text": level}
    if output.years is not None and inference.age is not None:
        prediction["whenRange"] = {
            "low": _years(inference.age),
            "high": _years(inference.age + output.years),
        }
    return prediction


def outcome(output: Output) -> Json:
    """The name of an output, by its public code too."""
    concept: Json = {"coding": [{"system": f"{MODEL_SYSTEM}-output", "code": output.name}]}
    if output.coding:
        coding = output.coding
        concept["coding"].append(
            {"system": coding.system, "code": coding.code, "display": coding.display}
        )
    return concept | {"text": output.title}


def _years(age: int) -> Json:
    return {"value": age, "unit": "years", "system": UCUM, "code": "a"}


def observation(inference: Inference, moment: str) -> Json:
    """A quantity or score that a model derives; further outputs are components."""
    package = inference.package
    (output, value), *others = inference.results()
    dated = max((row.date for row in inference.rows if row.feature.kind == "quantity"), default="")
    sources = [
        i.reference for i in inputs(inference) if i.resource["resourceType"] == "Observation"
    ]
    return {
        "resourceType": "Observation",
        "meta": profile("model-observation") | meta(inference),
        "extension": explained(inference),
        "status": "preliminary",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": output.category,
                    }
                ]
            }
        ],
        **_valued(inference, output, value),
        **({"component": [_valued(inference, *other) for other in others]} if others else {}),
        "subject": subject(inference),
        "effectiveDateTime": dated or moment,
        "note": _notes(inference),
        "method": model_concept(package),
        "device": performer(package),
        **listed("derivedFrom", [reference for reference in sources if reference]),
    }


def _valued(inference: Inference, output: Output, value: float) -> Json:
    """Code, value and category of one output."""
    exact = Decimal(repr(value))
    places = Decimal(1).scaleb(-(output.decimals or 0))
    judged = exact.quantize(places, ROUND_HALF_UP)
    quantity: Json = {
        "value": judged if output.decimals is not None else exact.quantize(HUNDREDTH, ROUND_HALF_UP)
    }
    if output.decimals is None:  # a laboratory reports the whole number
        quantity = {"extension": [{"url": REPORTED, "valueInteger": int(judged)}], **quantity}
    level = inference.level(output, judged)
    return {
        "code": _code(output),
        "valueQuantity": quantity | {"unit": output.unit, "system": UCUM, "code": output.unit},
        **({"interpretation": [{"text": level}]} if level else {}),
    }


def _code(output: Output) -> Json:
    """The public code first, then the one of this server."""
    own = {"system": f"{MODEL_SYSTEM}-output", "code": output.name, "display": output.title}
    public = output.coding
    listed = (
        [{"system": public.system, "code": public.code, "display": public.display}]
        if public
        else []
    )
    return {"coding": [*listed, own], "text": output.title}


def listed(name: str, references: list[str]) -> Json:
    """The member with these references; absent when there is none, as FHIR has no empty array."""
    return {name: [{"reference": reference} for reference in references]} if references else {}


def provenance(inference: Inference, target: str, recorded: str, requester: Json) -> Json:
    """Who made the result, from what, for whom: https://hl7.org/fhir/R4/provenance.html"""
    models = [inference, *inference.derived]
    sources = [{"role": "source", "what": {"reference": r}} for r in basis(inference)]
    return {
        "resourceType": "Provenance",
        "meta": profile("model-provenance") | {"security": labels(inference)},
        "target": [{"reference": target}],
        "recorded": recorded,
        "activity": {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/v3-DataOperation",
                    "code": "CREATE",
                    "display": "create",
                }
            ]
        },
        "agent": [
            {
                "type": {
                    "coding": [
                        {
                            "system": "http://terminology.hl7.org/CodeSystem/"
                            "provenance-participant-type",
                            "code": "assembler",
                            "display": "Assembler",
                        }
                    ]
                },
                "who": performer(model.package),
                "onBehalfOf": requester,
            }
            for model in models
        ],
        **({"entity": sources} if sources else {}),
    }


def describe(gap: Gap) -> str:
    """A gap in words: the feature with its codes, unit and look-back, and the reason."""
    feature = gap.feature
    if feature is None:
        return gap.reason
    parts = [f"{feature.name} ({feature.title}): {gap.reason}"]
    if feature.codes:
        parts.append("codes " + ", ".join(f"{s}|{c}" for s, c in feature.codes))
    if feature.path:
        parts.append(f"element Patient.{feature.path}")
    if feature.kind == "age":
        parts.append("element Patient.birthDate")
    if feature.unit:
        parts.append(f"unit {feature.unit}")
    if feature.lookback:
        parts.append(f"look-back {feature.lookback}")
    return "; ".join(parts)


def subject(inference: Inference) -> Json:
    """The patient; a Patient of ``data`` without any identity is only described."""
    return subject_of(inference.patient)


def subject_of(patient: Item) -> Json:
    if patient.reference:
        return {"reference": unversioned(patient.reference)}
    return {"display": "the Patient in data"}


def performer(package: ModelPackage) -> Json:
    return {"reference": f"Device/{package.id}", "display": package.card.title}


def model_concept(package: ModelPackage) -> Json:
    card = package.card
    coding = {"system": MODEL_SYSTEM, "version": card.version, "code": card.name}
    return {"coding": [coding | {"display": card.title}], "text": card.title}


def inputs(inference: Inference) -> list[Item]:
    """The resources that the result rests on, each once."""
    items = {item.reference: item for row in inference.rows for item in row.items}
    return list(items.values())


def basis(inference: Inference) -> list[str]:
    return [item.reference for item in inputs(inference) if item.reference]


def meta(inference: Inference) -> Json:
    """With its labels, and a tag where it rests on what was given and not on the record."""
    tagged = {"tag": [dict(HYPOTHETICAL)]} if inference.hypothetical else {}
    return {"security": labels(inference), **tagged}


def labels(inference: Inference) -> list[Json]:
    """AIAST, the highest confidentiality of the inputs and their other labels."""
    found = [
        label
        for item in inputs(inference)
        for label in item.resource.get("meta", {}).get("security", [])
    ]
    levels = [c for c in (_level(label) for label in found) if c is not None]
    security: list[Json] = [dict(AI_LABEL)]
    if levels:
        security.append({"system": CONFIDENTIALITY, "code": max(levels, key=LEVELS.index)})
    for label in found:
        coding = {k: label[k] for k in ("system", "code", "display") if k in label}
        if _level(label) is None and coding not in security:
            security.append(coding)
    return security


def _level(label: Json) -> str | None:
    known = label.get("system") == CONFIDENTIALITY and label.get("code") in LEVELS
    return str(label["code"]) if known else None


def explained(inference: Inference) -> list[Json]:
    """One extension per feature: value, origin, source, what was recorded, conversion, date; then
    one per output that is told apart by features."""
    rows = [{"url": FEATURE, "extension": list(_explained(row))} for row in inference.rows]
    return [*rows, *map(extension, inference.explanations)]


def _explained(row: Row) -> Iterable[Json]:
    yield {"url": "feature", "valueCode": row.feature.name}
    yield {"url": "origin", "valueCode": row.origin}
    yield {"url": "value", **_value(row)}
    if row.original is not None and row.original[0] in ("valueQuantity", "valueCodeableConcept"):
        yield {"url": "original", row.original[0]: row.original[1]}
    for item in row.items:
        if item.reference:
            yield {"url": "source", "valueReference": {"reference": item.reference}}
    for url, text in (("conversion", row.how), ("date", row.date), ("note", row.note)):
        if text:
            yield {"url": url, "valueString": text}


def _value(row: Row) -> dict[str, Any]:
    if isinstance(row.value, bool):
        return {"valueBoolean": row.value}
    if isinstance(row.value, str):
        return {"valueCode": row.value}
    rounded = Decimal(f"{row.value:.10g}")
    unit = row.feature.told_unit or "1"
    return {"valueQuantity": {"value": rounded, "unit": unit, "system": UCUM, "code": unit}}


def _notes(inference: Inference) -> list[Json]:
    card = inference.package.card
    texts = [UNSIGNED]
    changed = [row.feature.name for row in inference.rows if row.origin == "override"]
    if changed:
        texts.append(f"What-if: {', '.join(changed)} given by the caller, not from the record.")
    texts += cautions(inference)
    texts.append(f"Population: {card.population}")
    texts += card.limits
    return [{"text": text} for text in texts]


def cautions(inference: Inference) -> list[str]:
    """What a reader must know of the features: assumptions, inexact and indirect sources.

    What is assumed for one reason is told at once.
    """
    assumed: dict[str, list[str]] = {}
    other: list[str] = []
    for row in inference.rows:
        title = row.feature.title
        if row.note and row.origin == "assumed":
            assumed.setdefault(row.note.removeprefix(f"{title}: "), []).append(title)
        elif row.note:
            other.append(row.note)
    own = [*other, *(f"{'; '.join(titles)}: {why}" for why, titles in assumed.items())]
    indirect = [text for one in inference.derived for text in cautions(one)]
    return [*inference.cautions, *own, *indirect]
