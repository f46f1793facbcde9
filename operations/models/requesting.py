"""A Task that asks for what models lack: https://hl7.org/fhir/R4/task.html

One open Task names a feature of a patient; what is asked for already is not asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from fhir_server.access.drafts import Draft
from fhir_server.access.ports import Stale
from fhir_server.access.session import Session
from fhir_server.access.writing import resource_of
from fhir_server.definitions.guide import profile
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Conflict
from fhir_server.model.resource import Key
from fhir_server.search.plan import All, Any, ReferenceIs, Scan, Search, TokenIs

from .drafts import CANONICAL, describe, model_concept
from .inference import Inference
from .kinds import Gap
from .session_record import IndexNames

TASK: Final = "Task"
COLLECT: Final = (f"{CANONICAL}:CodeSystem:task", "collect-features")
FEATURE_NAME: Final = f"{CANONICAL}:CodeSystem:model-feature"
OPEN: Final = (
    "draft",
    "requested",
    "received",
    "accepted",
    "ready",
    "in-progress",
    "on-hold",
)
"""Statuses of a Task that somebody may still do."""
ATTEMPTS: Final = 5
MOST: Final = 50

Lacking: TypeAlias = tuple[Inference, Gap]


def lacking(found: Iterable[Inference]) -> list[Lacking]:
    """What may be recorded of models that could then answer, each feature once."""
    wanted: dict[str, Lacking] = {}
    for inference in found:
        if any(gap.feature is None or gap.code == "business-rule" for gap in inference.gaps):
            continue
        for gap in inference.gaps:
            if gap.feature is not None and gap.code in ("required", "value"):
                wanted.setdefault(gap.feature.name, (inference, gap))
    return list(wanted.values())


@dataclass(frozen=True, slots=True)
class Requesting:
    """By one session, for one patient. ``requester``: a Reference."""

    session: Session
    index: IndexNames
    patient: str
    requester: Json
    now: str

    async def request(self, wanted: Sequence[Lacking]) -> list[Json]:
        """The open Tasks that name what is wanted, as stored; a new one for what none names."""
        for letter in "sc":
            self.session.allow(letter, TASK)
        for _ in range(ATTEMPTS):
            guard = await self.session.find(self._scan(), MOST)
            opened = await self._opened()
            named = {name for task in opened for name in names(task)}
            fresh = [one for one in wanted if _name(one) not in named]
            asked = {_name(one) for one in wanted}
            known = [task for task in opened if asked & set(names(task))]
            if not fresh:
                return known
            key = Key(TASK, self.session.new_id())
            task = self._task(fresh)
            try:
                written = await self.session.write([Draft("POST", key, task, guards=(guard,))])
            except Stale:
                continue
            stored = written[0].stored
            assert stored is not None
            return [*known, resource_of(stored)]
        raise Conflict("the Tasks of this patient are being changed by others")

    async def _opened(self) -> list[Json]:
        page = await self.session.search(Search((self._scan(),), count=MOST, total="none"))
        return [resource_of(stored) for stored in page.matches]

    def _scan(self) -> Scan:
        return Scan(
            TASK,
            All(
                (
                    _any(self.index(TASK, "patient"), self._about),
                    _any(self.index(TASK, "code"), lambda n: TokenIs(n, *COLLECT)),
                    Any(
                        tuple(
                            TokenIs(name, None, status)
                            for name in self.index(TASK, "status")
                            for status in OPEN
                        )
                    ),
                )
            ),
        )

    def _about(self, name: str) -> ReferenceIs:
        return ReferenceIs(name, "Patient", self.patient)

    def _task(self, wanted: Sequence[Lacking]) -> Json:
        system, code = COLLECT
        models = {inference.package.id: inference for inference, _ in wanted}.values()
        titles = ", ".join(inference.package.card.title for inference in models)
        concept = model_concept(next(iter(models)).package)
        return {
            "resourceType": TASK,
            "meta": profile("feature-request"),
            "status": "requested",
            "intent": "proposal",
            "code": {
                "coding": [{"system": system, "code": code}],
                "text": "Record what is missing",
            },
            "description": f"Missing for: {titles}",
            "for": {"reference": f"Patient/{self.patient}"},
            "authoredOn": self.now,
            "requester": self.requester,
            "reasonCode": {**concept, "text": titles},
            "input": [_input(gap) for _, gap in wanted],
        }


def _any(names: Iterable[str], made: Callable[[str], ReferenceIs | TokenIs]) -> Any:
    return Any(tuple(made(name) for name in names))


def _name(one: Lacking) -> str:
    feature = one[1].feature
    assert feature is not None
    return feature.name


def _input(gap: Gap) -> Json:
    """The feature by name, the codes by which it is recorded, and why it is missing."""
    feature = gap.feature
    assert feature is not None
    coded = [{"system": system, "code": code} for system, code in feature.codes]
    own = {"system": FEATURE_NAME, "code": feature.name}
    return {
        "type": {"coding": [own, *coded], "text": feature.title},
        "valueString": describe(gap),
    }


def names(task: Json) -> list[str]:
    """The features that a Task asks for."""
    return [
        coding["code"]
        for one in task.get("input", [])
        for coding in one.get("type", {}).get("coding", [])
        if coding.get("system") == FEATURE_NAME and "code" in coding
    ]
