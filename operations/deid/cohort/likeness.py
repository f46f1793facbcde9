"""Parts of k people or a few more who have as much as possible in common.

What is shown of a part is what all of it have. People are first parted by what divides them most
evenly, until a block is small enough to compare everybody with everybody; of a block who has the
most is joined by those with whom the most stays common.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

BLOCK: Final = 512
"""People among whom everybody is compared."""
SAMPLE: Final = 1000
"""People who are asked for what divides them."""


def likeness(people: Sequence[int], k: int) -> list[int]:
    """``people``: of each the features as bits of a number. -> the part of each, -1 if they are
    fewer than ``k``."""
    of = [-1] * len(people)
    part = 0
    for block in _blocks(people, list(range(len(people))), max(BLOCK, k)):
        left = sorted(block, key=lambda n: (-people[n].bit_count(), n))
        while len(left) >= k:
            members = _joined(people, left, k) if len(left) >= 2 * k else left
            for n in members:
                of[n] = part
            part += 1
            gone = set(members)
            left = [n for n in left if n not in gone]
    return of


class Features:
    """What people have, each a number of bits by its weight."""

    def __init__(self, order: Sequence[int]) -> None:
        self._at = {p: n for n, p in enumerate(order)}
        self._bits: dict[Hashable, int] = {}
        self._width = 0
        self._people = [0] * len(order)

    def add(self, feature: Hashable, person: int, weight: int) -> None:
        bits = self._bits.get(feature)
        if bits is None:
            bits = self._bits[feature] = ((1 << weight) - 1) << self._width
            self._width += weight
        at = self._at.get(person)
        if at is not None:
            self._people[at] |= bits

    def of(self, person: int) -> int:
        return self._people[self._at[person]]


def _joined(people: Sequence[int], left: Sequence[int], k: int) -> list[int]:
    members, rest = [left[0]], list(left[1:])
    common = people[left[0]]
    while len(members) < k:
        best = max(
            rest, key=lambda n: ((common & people[n]).bit_count(), -people[n].bit_count(), -n)
        )
        common &= people[best]
        members.append(best)
        rest.remove(best)
    return members


def _blocks(people: Sequence[int], members: list[int], most: int) -> list[list[int]]:
    """Of ``most`` people or fewer, and of no fewer than a quarter of that where there are more."""
    found: list[list[int]] = []
    todo = [members]
    while todo:
        some = todo.pop()
        if len(some) <= most:
            found.append(some)
            continue
        with_, without = _halves(people, some, most // 4)
        todo += [with_, without]
    return found


def _halves(people: Sequence[int], some: list[int], least: int) -> tuple[list[int], list[int]]:
    """By the feature that most nearly half of them have."""
    counts: dict[int, int] = {}
    asked = some[:: max(1, len(some) // SAMPLE)]
    for n in asked:
        bits = people[n]
        while bits:
            low = bits & -bits
            counts[low] = counts.get(low, 0) + 1
            bits ^= low
    _, bit = max(((min(c, len(asked) - c), bit) for bit, c in counts.items()), default=(0, 0))
    with_ = [n for n in some if people[n] & bit]
    if min(len(with_), len(some) - len(with_)) < least:
        order = sorted(some, key=lambda n: (-people[n].bit_count(), n))
        return order[: len(order) // 2], order[len(order) // 2 :]
    return with_, [n for n in some if not people[n] & bit]
