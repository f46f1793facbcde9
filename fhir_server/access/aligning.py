"""Which item of a list, as its author left it, is which of those that they were shown.

A list says nothing of that. Items that are equal are the same, and items of one ``id``; then those
that are alike, the nearer the rather; then those that stand between the same neighbours, one for
one. Of equal items of which only some are left, those stay of which something is hidden: to their
author all are the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Final

ALIKE: Final = 0.5
"""Such a part of what two items say must be the same where they do not stand between the same
neighbours."""
COMPARED: Final = 10_000
"""Pairs of items; of more that have changed only the place is looked at."""


def partners(shown: Sequence[Any], left: Sequence[Any], held: Sequence[bool]) -> dict[int, int]:
    """Numbers of items that were ``shown`` -> of those that are ``left`` by the author. ``held``:
    of which of the former something is hidden."""
    found = _equal(shown, left, held)
    _join(found, _by_id(shown), _by_id(left))
    if len(found) < min(len(shown), len(left)):
        _like(found, shown, left)
        for mine, theirs in _runs(found, len(shown), len(left)):
            if len(mine) == len(theirs):
                found.update(zip(mine, theirs, strict=True))
    return found


def _equal(shown: Sequence[Any], left: Sequence[Any], held: Sequence[bool]) -> dict[int, int]:
    one, other = _grouped(shown), _grouped(left)
    found: dict[int, int] = {}
    for key, mine in one.items():
        theirs = other.get(key, [])
        if len(theirs) < len(mine):
            mine = sorted(sorted(mine, key=lambda n: not held[n])[: len(theirs)])
        found.update(zip(mine, theirs, strict=False))
    return found


def _grouped(items: Sequence[Any]) -> dict[Hashable, list[int]]:
    found: dict[Hashable, list[int]] = {}
    for number, item in enumerate(items):
        found.setdefault(_frozen(item), []).append(number)
    return found


def _frozen(value: Any) -> Hashable:
    if type(value) is dict:
        return frozenset((name, _frozen(child)) for name, child in value.items())
    if type(value) in (list, tuple):
        return tuple(map(_frozen, value))
    return type(value), value


def _by_id(items: Sequence[Any]) -> dict[str, int]:
    return {
        item["id"]: number
        for number, item in enumerate(items)
        if type(item) is dict and type(item.get("id")) is str
    }


def _join(found: dict[int, int], mine: dict[str, int], theirs: dict[str, int]) -> None:
    used = set(found.values())
    for id_, number in mine.items():
        if number not in found and id_ in theirs and theirs[id_] not in used:
            found[number] = theirs[id_]


def _like(found: dict[int, int], shown: Sequence[Any], left: Sequence[Any]) -> None:
    """Pairs of what is left over, the likest first."""
    used = set(found.values())
    mine = {n: _said(item) for n, item in enumerate(shown) if n not in found}
    theirs = {n: _said(item) for n, item in enumerate(left) if n not in used}
    if len(mine) * len(theirs) > COMPARED:
        return
    near = {(m, t) for ms, ts in _runs(found, len(shown), len(left)) for m in ms for t in ts}
    rated = []
    for m, one in mine.items():
        for t, other in theirs.items():
            part = len(one & other) / (len(one | other) or 1)
            if part >= ALIKE or (part and (m, t) in near):
                rated.append((-part, (m, t) not in near, abs(m - t), m, t))
    for *_, m, t in sorted(rated):
        if m not in found and t not in used:
            found[m] = t
            used.add(t)


def _said(item: Any) -> frozenset[Hashable]:
    """What an item says, and where in it, whatever the order."""
    return frozenset(_leaves(item, ()))


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[Hashable]:
    if type(value) is dict:
        for name, child in value.items():
            yield from _leaves(child, (*path, name))
    elif type(value) in (list, tuple):
        for child in value:
            yield from _leaves(child, path)
    elif value is not None:
        yield path, value


def _runs(found: dict[int, int], mine: int, theirs: int) -> Iterator[tuple[list[int], list[int]]]:
    """Neighbours without a partner, with those that stand between the same partners."""
    used = set(found.values())
    run: list[int] = []
    before = -1
    for number in range(mine + 1):
        if number < mine and number not in found:
            run.append(number)
            continue
        after = found.get(number, theirs)
        if run:
            yield run, [n for n in range(before + 1, after) if n not in used]
        run, before = [], after
