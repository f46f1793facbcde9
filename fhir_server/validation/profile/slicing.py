"""Slicing: https://hl7.org/fhir/R4/profiling.html#slicing

Each item is put into the slices whose discriminators it meets; what slices say of number, order and
of items that belong to none is checked on the whole list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from fhir_server.fhirpath import Node
from fhir_server.model.exchange import Json

from .judging import Check, Judging

Match = Callable[[Node, Judging], bool | None]
"""Is the item in the slice? None: it cannot be told."""
DEFAULT: Final = "@default"
"""A slice of this name is for what no other slice takes."""


@dataclass(frozen=True, slots=True)
class Slice:
    """``most`` None: any number. ``within``: the slices of this slice."""

    name: str
    least: int
    most: int | None
    match: Match
    check: Check | None
    within: Slicing | None = None


@dataclass(frozen=True, slots=True)
class Slicing:
    """``rules``: open, closed, openAtEnd."""

    element: str
    rules: str
    ordered: bool
    slices: tuple[Slice, ...]
    discriminated: str = field(default="")

    def judge(self, items: Sequence[Node], parent: Node, judging: Judging) -> None:
        """``parent``: whose items they are."""
        named = [one for one in self.slices if one.name != DEFAULT]
        default = next((one for one in self.slices if one.name == DEFAULT), None)
        found: dict[str, list[Node]] = {one.name: [] for one in self.slices}
        unsure: dict[str, int] = dict.fromkeys(found, 0)
        last, ended = -1, False
        for item in items:
            said = [one.match(item, judging) for one in named]
            for one, answer in zip(named, said, strict=True):
                unsure[one.name] += answer is None
                if answer:
                    found[one.name].append(item)
            taken = [i for i, answer in enumerate(said) if answer]
            if taken:
                last = self._in_order(item, taken[0], last, judging)
                if ended and self.rules == "openAtEnd":
                    text = f"{self.element}: what is in no slice must be at the end"
                    judging.add(item, "structure", text)
                continue
            if None in said:
                continue
            ended = True
            if default is not None:
                found[DEFAULT].append(item)
            elif self.rules == "closed":
                known = ", ".join(one.name for one in named)
                text = f"is in none of the slices {known}, and no other is allowed"
                judging.add(item, "structure", text)
        for one in self.slices:
            self._counted(one, found[one.name], unsure[one.name], parent, judging)

    def _in_order(self, item: Node, index: int, last: int, judging: Judging) -> int:
        if self.ordered and index < last:
            judging.add(item, "structure", "the slices are not in the order of the profile")
        return max(index, last)

    def _counted(
        self, one: Slice, items: list[Node], unsure: int, parent: Node, judging: Judging
    ) -> None:
        if len(items) + unsure < one.least:
            many = f"at least {one.least} of" if one.least > 1 else "one of"
            text = f"{many} the slice '{one.name}' is required{self.discriminated}"
            judging.add(parent, "required", text, self.element)
        if one.most is not None and len(items) > one.most:
            text = f"at most {one.most} of the slice '{one.name}' are allowed, not {len(items)}"
            judging.add(items[max(one.most, 0)], "structure", text)
        if one.check is not None:
            for item in items:
                one.check(item, judging)
        if one.within is not None:
            one.within.judge(items, parent, judging)


def always(node: Node, judging: Judging) -> bool:
    return True


def all_of(matches: Sequence[Match]) -> Match:
    """An item meets every discriminator."""
    if len(matches) == 1:
        return matches[0]

    def match(node: Node, judging: Judging) -> bool | None:
        sure = True
        for one in matches:
            answer = one(node, judging)
            if answer is False:
                return False
            sure = sure and answer is True
        return True if sure else None

    return match


def described(slicing: Json) -> str:
    """What tells the slices apart, for messages."""
    paths = [f"{d['type']} of {d['path']}" for d in slicing.get("discriminator", ())]
    return f" (told apart by {', '.join(paths)})" if paths else ""
