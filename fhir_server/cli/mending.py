"""What bulk loading does with resources that are not quite R4: mend, accept with a note, refuse.

Over REST the same resources are refused; an operator's files come from systems that nobody
will change, so what can be kept without loss is kept, and all of it is reported.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from fhir_server.definitions.registry import Definitions
from fhir_server.model.exchange import Json
from fhir_server.validation.repair import repair
from fhir_server.validation.validate import Validator

_INDEX = re.compile(r"\[\d+\]")


@dataclass(slots=True)
class Notes:
    """``repairs``: kind of repair -> how often. ``accepted``: (resource, rule) pairs that a
    validator would refuse, though the structure is sound."""

    repairs: Counter[str] = field(default_factory=Counter)
    accepted: set[tuple[str, str]] = field(default_factory=set)

    def lines(self) -> list[str]:
        """One line per kind, the commonest first."""
        kinds = Counter(rule for _, rule in self.accepted)
        return [
            *(f"{count:>9,} repaired {what}" for what, count in self.repairs.most_common()),
            *(f"{count:>9,} accepted {what}" for what, count in kinds.most_common()),
        ]


class Mender:
    """``lenient``: whether ``admit`` takes what is sound in structure; off for the first try,
    so that valid resources are validated once and as over REST."""

    def __init__(self, definitions: Definitions) -> None:
        self.notes = Notes()
        self.lenient = False
        self._definitions = definitions
        self._validator = Validator(definitions)

    def mend(self, resource: Json) -> Json:
        """The resource, or a repaired copy."""
        if resource.get("resourceType") not in self._definitions.resource_types:
            return resource
        if self._validator.surely(resource):
            return resource
        repaired = repair(resource, self._definitions)
        self.notes.repairs.update(repaired.repairs)
        return repaired.resource if repaired.repairs else resource

    def mend_entry(self, raw: Any) -> Any:
        """The same for the resource of a Bundle entry."""
        resource = raw.get("resource") if isinstance(raw, dict) else None
        return {**raw, "resource": self.mend(resource)} if isinstance(resource, dict) else raw

    def admit(self, resource: Json) -> None:
        """The validation of the write path: Unprocessable for what is refused."""
        if not self.lenient:
            self._validator.check(resource)
            return
        for issue in self._validator.check_structure(resource):
            rule = f"{_INDEX.sub('', issue.expression or '')}: {_INDEX.sub('', issue.diagnostics)}"
            self.notes.accepted.add((f"{resource['resourceType']}/{resource.get('id')}", rule))
