"""Which groups are large enough, where those that are not become one group."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from collections.abc import Set as AbstractSet
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def kept(groups: Mapping[K, AbstractSet[int]], k: int) -> set[K]:
    """The groups (of people) that stay. All others are hidden, which makes one group of them:
    where that has fewer than ``k`` people the next smallest is hidden too, or who knows how it
    goes would find them among so few. A group may be told with its first ``k`` people alone."""
    hidden: set[int] = set()
    for people in groups.values():
        if len(people) < k:
            hidden |= people
    rest = sorted((key for key in groups if len(groups[key]) >= k), key=repr, reverse=True)
    rest.sort(key=lambda key: len(groups[key]), reverse=True)
    while 0 < len(hidden) < k and rest:
        hidden |= groups[rest.pop()]
    return set(rest)


def noted(people: set[int], one: int, k: int) -> None:
    """``one`` more of a group, of which no more than ``k`` are remembered."""
    if len(people) < k:
        people.add(one)
