"""Who asks, for what, and about what: what a decision is made from."""

from __future__ import annotations

from dataclasses import dataclass, field

from fhir_server.access.consent.codes import LETTERS, REASONS, TREATMENT, Code, below
from fhir_server.model.resource import Key
from fhir_server.search.values import ReferenceValue


@dataclass(frozen=True, slots=True)
class Reader:
    """``names``: ``Type/id`` of all that the principal is: practitioner, roles, organizations, care
    teams, groups. ``own``: the patients who the principal is; ``acts_for``: those for whom.
    ``purpose``: why, a code of v3-ActReason. ``now``: microseconds. ``broken``: the patients for
    whom the glass is broken.
    """

    names: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    acts_for: frozenset[str] = frozenset()
    purpose: str = TREATMENT
    now: int = 0
    broken: frozenset[str] = frozenset()

    def states(self, purposes: frozenset[Code]) -> bool:
        """Is the purpose one of these, or below one?"""
        return any(code.system == REASONS and self.purpose in below(code.code) for code in purposes)

    @staticmethod
    def does(letter: str, actions: frozenset[str]) -> bool:
        return not LETTERS[letter].isdisjoint(actions)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision looks at in one version of a resource.

    ``patients``: in whose compartments it is. ``labels``: computed and inherited too
    (``access/labels``). ``codings``: all that occur in it. ``date``: its main clinical date, that
    of the version (``updated``) if it has none; microseconds. ``references``: by search parameter.
    """

    key: Key
    patients: tuple[str, ...] = ()
    labels: frozenset[Code] = frozenset()
    codings: frozenset[Code] = frozenset()
    profiles: frozenset[str] = frozenset()
    date: int = 0
    references: tuple[ReferenceValue, ...] = field(default=())
