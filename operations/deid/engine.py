"""A profile bound to the definitions: resources in, de-identified resources out, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from fhir_server.definitions.registry import Definitions, load
from fhir_server.fhirpath.evaluate import Expression
from fhir_server.fhirpath.node import root
from fhir_server.fhirpath.syntax import Syntax
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Problem, Unprocessable
from operations.deid import lint
from operations.deid.compile import Compiler, Plan, Truth
from operations.deid.elements import Elements
from operations.deid.paths import Path
from operations.deid.paths import parse as parse_path
from operations.deid.profile import FOLDER, Profile, ProfileError, read
from operations.deid.run import Run
from operations.deid.transforms.base import Method
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
        plan = bind(profile, elements)
        self._compiler = Compiler(plan, elements, _truth, self._label)
        self._labels = [label.to_json() for label in profile.labels]

    def resource(self, resource: Json, run: Run) -> Json:
        """The de-identified resource. Whatever fails, no part of it leaves: Unprocessable."""
        try:
            return self._compiler.whole(resource, run)
        except Problem:
            raise
        except _RULE_FAILURES as error:
            # The message of a foreign error may carry data; its type does not.
            raise Unprocessable(
                f"profile {self.profile.code} could not be applied: {type(error).__name__}",
                code="processing",
            ) from None

    def _label(self, result: Json) -> None:
        meta = result.setdefault("meta", {})
        present = [c for c in meta.get("security", ()) if c not in self._labels]
        meta["security"] = [*present, *(dict(label) for label in self._labels)]


def bind(profile: Profile, elements: Elements) -> Plan:
    """Paths and methods of the rules. Raises ProfileError."""
    findings: list[str] = []
    shared = {**profile.parameters, "resourceTypes": elements.resource_types}
    paths: list[Path] = []
    methods: list[Method] = []
    for index, rule in enumerate(profile.rules):
        try:
            path, bound = parse_path(rule.path), method(rule.method, rule.params, shared)
        except ValueError as error:
            findings.append(f"rule {index} ({rule.path}): {error}")
            continue
        faults = lint.path(path, elements)
        if "leave" in rule.params and any(step.where for step in path):
            faults.append("leave takes no where()")
        findings += [f"rule {index} ({rule.path}): {fault}" for fault in faults]
        paths.append(path)
        methods.append(bound)
    if findings:
        raise ProfileError(profile.code, findings)
    return Plan(
        paths=tuple(paths),
        methods=(*methods, method(profile.default, {}, {})),
        leaves=(*("leave" in rule.params for rule in profile.rules), False),
        keeps=frozenset(i for i, r in enumerate(profile.rules) if r.method.lower() == "keep"),
    )


def _truth(where: Syntax) -> Truth:
    expression = Expression.of(where, "where(...)")
    return lambda node: expression.holds(root(node))


@cache
def profiles() -> Sequence[Deidentifier]:
    """Every profile of the folder, compiled against the R4 definitions. Raises ProfileError."""
    definitions = load()
    return tuple(Deidentifier(read(path), definitions) for path in sorted(FOLDER.glob("*.json")))
