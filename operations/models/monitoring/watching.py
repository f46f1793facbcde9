"""A model on a record, watched: how long it took, what it was given and said; and the challenger
of its name beside it, unseen."""

from __future__ import annotations

import time
from dataclasses import replace

from fhir_server.model.problem import Problem, Unavailable

from ..inference import Inference, Question, infer
from ..package import ModelPackage
from .monitor import Monitor
from .tally import Sample


async def watched(package: ModelPackage, question: Question) -> Inference:
    """``infer``. What rests on values that a caller gave is not counted."""
    monitor, begun = question.registry.monitor, time.perf_counter()
    if monitor is None or question.hypothetical or question.overrides:
        return await infer(package, question)
    try:
        found = await infer(package, question)
    except Unavailable:
        monitor.failed(package.id, time.perf_counter() - begun)
        raise
    if found.rows or found.outputs:
        monitor.seen(package.id, sample(found, time.perf_counter() - begun))
        name, registry = package.card.name, question.registry
        if name in registry.challengers and registry.champions.get(name) == package.card.version:
            monitor.shadow(_beside(found, replace(question, asked=True), monitor))
    return found


async def _beside(champion: Inference, question: Question, monitor: Monitor) -> None:
    package = await question.registry.challenger(champion.package.card.name)
    if package is None:
        return
    begun = time.perf_counter()
    try:
        found = await infer(package, question)
    except Problem:
        monitor.failed(package.id, time.perf_counter() - begun)
        return
    monitor.beside(package.id, sample(found, time.perf_counter() - begun), champion.outputs)


def sample(found: Inference, seconds: float) -> Sample:
    """What counts of a result: values of the record, not what was assumed or derived."""
    inputs = {
        row.feature.name: found.package.encode(row.feature, row.value)
        for row in found.rows
        if row.origin == "record"
    }
    missing = [row.feature.name for row in found.rows if row.origin != "record"]
    missing += [
        gap.feature.name
        for gap in found.gaps
        if gap.feature is not None and gap.feature.name not in inputs
    ]
    return Sample(inputs, tuple(dict.fromkeys(missing)), found.outputs, seconds)
