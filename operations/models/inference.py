"""One model on one patient: features read and judged, the graph run, nothing guessed.

Ranges and exclusions refuse before the graph; a feature that the record lacks is derived by
another model where the manifest says so, or reported as a gap.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal

from fhir_server.model.datatypes import parse_datetime
from fhir_server.model.problem import Unavailable

from . import overrides as what_if
from .computed import read
from .contributions import Explanation, occluding
from .evidence import Evidence, Moment
from .kinds import Gap, Row, Scene, find_condition, years_between
from .manifest import Band, Exclusion, Feature, Output, Population
from .overrides import Overrides
from .package import ModelPackage
from .record import Item
from .registry import Registry

RECENT = 10
"""Years for which data are not called old."""


@dataclass(frozen=True, slots=True)
class Inference:
    """``outputs``: exact values by output name; empty when there are ``gaps``.

    ``derived``: the other models that gave a feature. ``cautions``: of the model as a whole.
    """

    package: ModelPackage
    patient: Item
    rows: tuple[Row, ...]
    gaps: tuple[Gap, ...]
    outputs: dict[str, float] = field(default_factory=dict)
    derived: tuple[Inference, ...] = ()
    cautions: tuple[str, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    hypothetical: bool = False
    """It rests on what a caller has given, not on the record: never stored."""

    @property
    def age(self) -> int | None:
        for row in self.rows:
            if row.feature.kind == "age":
                return int(row.value)
        return None

    def results(self) -> list[tuple[Output, float]]:
        """The outputs that apply to this age."""
        return [
            (output, self.outputs[output.name])
            for output in self.package.features.output
            if output.name in self.outputs and _applies(output.ages, self.age)
        ]

    def level(self, output: Output, value: float | Decimal) -> str:
        """The published category of a value, "" where none is."""
        for band in self.package.card.band:
            if band.output == output.name and _applies(band.ages, self.age):
                return _level(band, value)
        return ""


@dataclass(frozen=True, slots=True)
class Question:
    """What all models of one call share. ``asked``: they were asked for by name."""

    registry: Registry
    evidence: Evidence
    moment: Moment
    overrides: Overrides
    asked: bool = True
    hypothetical: bool = False


async def needed(registry: Registry, packages: Iterable[ModelPackage]) -> list[ModelPackage]:
    """The models, those that they derive features from, and the challengers of their names."""
    found: dict[str, ModelPackage] = {}
    waiting = list(packages)
    while waiting:
        package = waiting.pop()
        if package.id in found:
            continue
        found[package.id] = package
        names = [f.derive.model for f in package.features.feature if f.derive]
        challenger = await registry.challenger(package.card.name)
        if challenger is not None:
            waiting.append(challenger)
        with suppress(Unavailable):  # told when it turns out to be needed
            waiting += [await registry.champion(name) for name in names]
    return list(found.values())


async def infer(package: ModelPackage, question: Question) -> Inference:
    """Raises Unavailable when the graph cannot be run, Unprocessable for a bad override."""
    found = await looked_up(package, question)
    if found.gaps:
        return found
    occluded = occluding(package, found.rows)
    outputs = await question.registry.runtime.run(package, occluded.inputs)
    return replace(
        found,
        outputs={name: values[0] for name, values in outputs.items()},
        explanations=occluded.explained(package, outputs),
        hypothetical=question.hypothetical,
    )


async def looked_up(package: ModelPackage, question: Question) -> Inference:
    """The same before the graph is run: the features, judged, and what is missing of them."""
    scene = Scene(question.evidence, question.moment, package.concepts)
    missing = list(_unindicated(package, scene, question.overrides))
    fault = question.registry.stopped.get(package.id)
    if fault is not None:
        missing.append(Gap(None, "business-rule", f"this version has not passed its gate: {fault}"))
    gaps: list[Gap] = list(_refusals(package, scene, question.overrides))
    if not question.asked and (missing or gaps):  # not applicable: no more is looked for
        return Inference(package, question.evidence.patient, (), (*missing, *gaps))
    rows: list[Row] = []
    derived: list[Inference] = []
    for feature in package.features.feature:
        found = _read(feature, scene, question.overrides)
        if isinstance(found, Gap) and feature.derive and found.code == "required":
            champion = await question.registry.champion(feature.derive.model)
            other = await infer(champion, replace(question, asked=True))
            found = _derived(feature, other, found)
            if isinstance(found, Row):
                derived.append(other)
        judged = found if isinstance(found, Gap) else _outside(found)
        if isinstance(judged, Gap):
            gaps.append(judged)
            if judged.code == "business-rule" and not question.asked:
                break
        if isinstance(found, Row):
            rows.append(judged if isinstance(judged, Row) else found)
    if not (gaps or question.asked or package.features.indication) and _groundless(rows):
        gaps.append(Gap(None, "business-rule", "the visible record shows none of its findings"))
    cautions = () if gaps else (*_dated(package, question.moment), *(g.reason for g in missing))
    return Inference(
        package,
        question.evidence.patient,
        tuple(rows),
        tuple(gaps),
        derived=tuple(derived),
        cautions=cautions,
    )


def _read(feature: Feature, scene: Scene, overrides: Overrides) -> Row | Gap:
    given = overrides.get(feature.name)
    if given is not None:
        return what_if.row(feature, given, scene.concepts)
    return read(feature, scene)


def _derived(feature: Feature, other: Inference, gap: Gap) -> Row | Gap:
    assert feature.derive is not None
    if other.gaps:
        reasons = "; ".join(g.reason for g in other.gaps)
        name = other.package.card.name
        return Gap(feature, gap.code, f"{gap.reason}, and {name} cannot derive it: {reasons}")
    value = Decimal(repr(other.outputs[feature.derive.output]))
    sources = [row for row in other.rows if row.feature.kind == "quantity"]
    text = ", ".join(f"{r.feature.name} {r.value:.6g} {r.feature.unit}" for r in sources)
    used = {item.reference or id(item): item for row in other.rows for item in row.items}
    items = tuple(used.values())
    how = f"{other.package.id} from {text}"
    dated = max((row.date for row in sources), default="")
    return Row(feature, value, "derived", items, None, how, dated)


def _refusals(package: ModelPackage, scene: Scene, overrides: Overrides) -> Iterable[Gap]:
    """Why the patient is outside the population, whatever the features say."""
    patient = scene.evidence.patient.resource
    died = patient.get("deceasedDateTime")
    if patient.get("deceasedBoolean") is True or (
        isinstance(died, str) and parse_datetime(died).lo <= scene.moment.micros
    ):
        yield Gap(None, "business-rule", "the patient is recorded as deceased")
    if package.features.population is not None:
        yield from _others(package.features.population, scene)
    for exclusion in package.features.exclusion:
        yield from _excluded(exclusion, scene, overrides)


def _others(population: Population, scene: Scene) -> Iterable[Gap]:
    """Of another age or sex than the model is for, or of one that is not known."""
    patient = scene.evidence.patient.resource
    sex = patient.get("gender")
    if population.sexes and sex not in population.sexes:
        wanted = " or ".join(population.sexes)
        yield Gap(None, "business-rule", f"the model is for {wanted} patients, not {sex or 'this'}")
    if population.ages is not None:
        birth = patient.get("birthDate")
        ages = years_between(birth, scene.moment.day) if isinstance(birth, str) else None
        low, high = population.ages
        if ages is None or not low <= min(ages) <= max(ages) <= high:
            yield Gap(None, "business-rule", f"the model is for ages {low} to {high}")


def _excluded(exclusion: Exclusion, scene: Scene, overrides: Overrides) -> Iterable[Gap]:
    given = overrides.get(exclusion.concept)
    if given is not None:
        if what_if.flag(exclusion.concept, given):
            yield Gap(None, "business-rule", exclusion.reason)
        return
    if scene.evidence.conditions is None:
        yield Gap(None, "forbidden", f"Condition may not be searched ({exclusion.reason})")
        return
    item = find_condition(scene, exclusion.concept, exclusion.when)
    if item is not None:
        yield Gap(None, "business-rule", f"{exclusion.reason} ({item.reference})")


def _unindicated(package: ModelPackage, scene: Scene, overrides: Overrides) -> Iterable[Gap]:
    """What the model is for and the record does not show."""
    for indication in package.features.indication:
        given = overrides.get(indication.concept)
        if given is not None:
            shown = what_if.flag(indication.concept, given)
        else:
            shown = find_condition(scene, indication.concept, indication.when) is not None
        if not shown:
            yield Gap(None, "business-rule", indication.reason)


def _dated(package: ModelPackage, moment: Moment) -> Iterable[str]:
    """That the data of the model are old."""
    years = package.card.data_years
    if years is not None and moment.day.year - years[1] > RECENT:
        past = moment.day.year - years[1]
        yield (
            f"{package.card.title}: made from data of {years[0]} to {years[1]}, the last of them "
            f"{past} years before; risks and treatment have changed since"
        )


def _groundless(rows: Iterable[Row]) -> bool:
    """Nothing but who the patient is was found; the rest is assumed."""
    return all(row.origin == "assumed" or row.feature.kind in ("age", "choice") for row in rows)


def _outside(row: Row) -> Gap | Row | None:
    """A number outside what is plausible, or outside the model's population: a refusal, or the
    row with a warning. None: it is inside."""
    feature, value = row.feature, row.value
    if isinstance(value, bool | str) or row.origin == "assumed":
        return None
    for bounds, code, what in (
        (feature.plausible, "value", "is not plausible"),
        (feature.population, "business-rule", "is outside the population of the model"),
    ):
        if bounds is not None and not bounds[0] <= value <= bounds[1]:
            text = f"{value:.6g} {feature.told_unit} {what} ({bounds[0]} to {bounds[1]})"
            if code == "business-rule" and feature.outside == "warn":
                note = f"{feature.title}: {text}"
                return replace(row, note=f"{row.note}; {note}" if row.note else note)
            return Gap(feature, "value" if code == "value" else "business-rule", text)
    return None


def _applies(ages: tuple[int, int] | None, age: int | None) -> bool:
    return ages is None or (age is not None and ages[0] <= age <= ages[1])


def _level(band: Band, value: float | Decimal) -> str:
    for level in band.levels:
        if level.below is None or value < level.below:
            return level.text
    return ""
