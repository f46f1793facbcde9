"""Which profiles are judged when something is written: ``VEHR_PROFILES``.

``off``, ``warn`` or ``enforce`` for all, and rows for a type or a profile:
``warn,Observation=enforce,http://example.org/StructureDefinition/x=off``. The row of a profile goes
before that of a type; of several profiles that are claimed the strictest row counts.

The row ``Reference`` is about what references lead to: a target in the store that its author may
see is held against the profiles that the element allows. Without it they are not followed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, cast

Mode: TypeAlias = Literal["off", "warn", "enforce"]
TARGETS: Final = "Reference"
MODES: Final[tuple[Mode, ...]] = ("off", "warn", "enforce")


@dataclass(frozen=True, slots=True)
class ProfilePolicy:
    """``default``: for what has no row of its own. ``rows``: type or profile -> mode."""

    default: Mode = "off"
    rows: Mapping[str, Mode] = field(default_factory=dict)

    def of(self, type_: str, profiles: Iterable[str]) -> Mode:
        """How a resource of this type that claims these profiles is judged."""
        general = self.rows.get(type_, self.default)
        found = [self.rows.get(url.partition("|")[0], general) for url in profiles]
        return max(found, key=MODES.index) if found else general

    @property
    def targets(self) -> Mode:
        """Of references."""
        return self.rows.get(TARGETS, "off")

    @classmethod
    def of_setting(cls, rows: Iterable[tuple[str, str]]) -> ProfilePolicy:
        """Rows of (type, profile or "" for all, mode)."""
        found = {name: cast(Mode, mode) for name, mode in rows}
        return cls(found.pop("", "off"), found)
