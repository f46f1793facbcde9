"""A profile bound to the definitions: resources in, de-identified resources out, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial

from fhir_server.definitions.registry import Definitions, load
from fhir_server.fhirpath.evaluate import Expression
from fhir_server.fhirpath.node import root
from fhir_server.fhirpath.syntax import Syntax
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Problem, Unprocessable
from operations.deid import lint
from operations.deid.cohort.demographics import misnamed
from operations.deid.compile import Compiler, Plan, Truth
from operations.deid.elements import Elements
from operations.deid.paths import Path, rooted
from operations.deid.paths import parse as parse_path
from operations.deid.profile import FOLDER, Profile, ProfileError, Rule, read
from operations.deid.run import Run
from operations.deid.text.contract import Settings, TextCleaner
from operations.deid.transforms.base import PROJECT, TEXT, Method
from operations.deid.transforms.dates import MOST_DAYS, shift_of
from operations.deid.transforms.registry import method

_RULE_FAILURES = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip


class Deidentifier:
    """One profile, ready. Raises ProfileError with every fault of its rules."""

    def __init__(self, profile: Profile, definitions: Definitions) -> None:
        self.profile = profile
        elements = Elements(definitions)
        unknown = [] if profile.cohort is None else misnamed(profile.cohort, elements)
        if unknown:
            raise ProfileError(profile.code, unknown)
        plan = bind(profile, elements)
        self.keyed = PROJECT in plan.needs
        """It makes what only the key of a project makes."""
        self.cleans = TEXT in plan.needs
        """It has rules for free text."""
        self._compiler = Compiler(plan, elements, _truth, self._label)
        self._labels = [label.to_json() for label in profile.labels]

    async def prepare(
        self, resources: Sequence[Json], run: Run, cleaner: TextCleaner | None
    ) -> None:
        """Before the first ``resource`` of an answer: the free text of ``resources`` (with the
        people in them) is read. Raises Unavailable or Unprocessable. Without a cleaner free text
        is dropped."""
        if self.cleans and cleaner is not None:
            run.people = frozenset(
                f"Patient/{one.get('id')}" for one in resources if one["resourceType"] == "Patient"
            )
            run.cleaning = await cleaner.prepare(resources, self._settings(run))

    def resource(self, resource: Json, run: Run) -> Json:
        """The de-identified resource. Whatever fails, no part of it leaves: Unprocessable."""
        try:
            result = self._compiler.whole(resource, run)
            if run.cleaning is not None:
                run.cleaning.check(result)
            return result
        except Problem:
            raise
        except _RULE_FAILURES as error:
            # The message of a foreign error may carry data; its type does not.
            raise Unprocessable(
                f"profile {self.profile.code} could not be applied: {type(error).__name__}",
                code="processing",
            ) from None

    def _settings(self, run: Run) -> Settings:
        """``parameters.text``: style and dates; dates move as DateShift moves them."""
        asked = self.profile.parameters.get("text", {})
        most = int(asked.get("days", MOST_DAYS))
        return Settings(
            key=run.secret("text"),
            style=asked.get("style", "tag"),
            dates=asked.get("dates", "year"),
            shift=partial(shift_of, run.secret("shift"), most=most),
        )

    def _label(self, result: Json) -> None:
        if not self._labels:
            return
        meta = result.setdefault("meta", {})
        present = [c for c in meta.get("security", ()) if c not in self._labels]
        meta["security"] = [*present, *(dict(label) for label in self._labels)]


def bind(profile: Profile, elements: Elements) -> Plan:
    """Paths and methods of the rules. Raises ProfileError."""
    findings: list[str] = []
    bound: list[tuple[int, Path, Method]] = []
    for number, rule in enumerate(profile.rules):
        try:
            bound += [(number, *pair) for pair in _bound(rule, profile, elements)]
        except ValueError as error:
            faults = error.args[1:] or (error,)
            findings += [f"rule {number} ({rule.path}): {fault}" for fault in faults]
    if findings:
        raise ProfileError(profile.code, findings)
    rules = profile.rules
    return Plan(
        paths=tuple(path for _, path, _ in bound),
        methods=(*(made for *_, made in bound), method(profile.default, {}, {})),
        leaves=(*("leave" in rules[n].params for n, *_ in bound), False),
        keeps=frozenset(i for i, (n, *_) in enumerate(bound) if rules[n].method.lower() == "keep"),
        numbers=tuple(n for n, *_ in bound),
        needs=frozenset().union(*(made.needs for *_, made in bound)),
    )


def _bound(rule: Rule, profile: Profile, elements: Elements) -> Iterator[tuple[Path, Method]]:
    """Each path of a rule with the method. Raises ValueError, its faults behind the first."""
    shared = {**profile.parameters, "resourceTypes": elements.resource_types}
    made = method(rule.method, rule.params, shared)
    faults: list[str] = []
    for path in parse_path(rule.path):
        path = rooted(path, elements.resource_types)
        dead = lint.path(path, elements)
        if "leave" in rule.params and path[-1].where:
            faults.append("leave takes no where() at the end of its path")
        if not dead:
            yield path, made
        elif not profile.foreign or dead.fatal:
            faults.append(dead.text)
    if faults:
        raise ValueError(faults[0], *faults)


def _truth(where: Syntax) -> Truth:
    expression = Expression.of(where, "where(...)")
    return lambda node: expression.holds(root(node))


@cache
def profiles() -> Sequence[Deidentifier]:
    """Every profile of the folder, compiled against the R4 definitions. Raises ProfileError."""
    definitions = load()
    return tuple(Deidentifier(read(path), definitions) for path in sorted(FOLDER.glob("*.json")))
