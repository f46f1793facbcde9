"""Mutants of examples, made mechanically of every rule of the profiles that they claim.

It walks snapshots and JSON on its own: what an example has of an element, which items are in which
slice. A mutant breaks one rule and says where that has to be found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.definitions.registry import load
from fhir_server.definitions.tree import Branch, grown
from fhir_server.fhirpath import Context, FhirPathError, compile
from tests.validation.profile.spoiling import (
    CORE,
    SAMPLES,
    Json,
    Mutant,
    Path,
    Spot,
    base_types,
    code_of,
    codes_of,
    emptied,
    garbled,
    got,
    has_value,
    inner_of,
    leaf_of,
    node_at,
    paths_of,
    recoded,
    repeats,
    spoiled_at,
    stated,
    without,
)

KINDS = ("min", "max", "type", "value", "binding", "slice", "target", "invariant")


class Making:
    """``member``: (value set, system, code) -> is it in, None: it cannot be told."""

    def __init__(
        self,
        structure: Json,
        resource: Json,
        member: Callable[[str, str | None, str], bool | None],
        targets: Callable[[str], str],
    ) -> None:
        self._tree = grown(structure["snapshot"]["element"])
        self._resource = resource
        self._member = member
        self._targets = targets
        self._definitions = load()

    def all(self) -> Iterator[Mutant]:
        top = Spot((), self._resource["resourceType"], self._resource["resourceType"])
        yield from self._below(self._tree, top, self._tree.step)

    # Walking

    def _below(self, branch: Branch, spot: Spot, id_: str) -> Iterator[Mutant]:
        yield from self._invariants(branch, spot, id_)
        owner = got(self._resource, spot.path)
        if not isinstance(owner, dict):
            return
        for child in branch.children:
            one = f"{id_}.{child.step}"
            spots = [*self._spots(child, owner, spot)]
            yield from self._list(child, spot, spots, one)
            for inner in spots:
                yield from self._item(child, inner, one)
                yield from self._below(child, inner, one)
            for sliced in child.slices:
                if "/" in sliced.slice_name:
                    continue
                found = [s for s in spots if self._in(child, sliced, s)]
                named = f"{one}:{sliced.slice_name}"
                where = (sliced, child.element["slicing"], self._at(spot, child), spot.path)
                within = [replace(s, slice_=where) for s in found]
                yield from self._sliced(child, sliced, spot, within, named)
                for inner in within:
                    yield from self._item(sliced, inner, named)
                    yield from self._below(sliced, inner, named)

    def _at(self, spot: Spot, child: Branch) -> str:
        return f"{spot.expression}.{child.step.removesuffix('[x]')}"

    def _spots(self, child: Branch, owner: Json, spot: Spot) -> Iterator[Spot]:
        bare = child.step.removesuffix("[x]")
        if bare == child.step:
            types = child.element.get("type", [{}])
            yield from self._items(bare, owner, spot, self._at(spot, child), code_of(types[0]))
            return
        for type_ in SAMPLES.keys() | {code_of(t) for t in child.element.get("type", ())}:
            key = bare + type_[:1].upper() + type_[1:]
            at = f"{self._at(spot, child)}.ofType({type_})"
            yield from self._items(key, owner, spot, at, type_)

    def _items(self, key: str, owner: Json, spot: Spot, at: str, type_: str) -> Iterator[Spot]:
        value = owner.get(key)
        if value is None:
            return
        if not isinstance(value, list):
            found = value.get("resourceType", type_) if isinstance(value, dict) else type_
            yield replace(spot, path=(*spot.path, key), expression=at, type=found)
            return
        for index, item in enumerate(value):
            if item is None:
                continue
            found = item.get("resourceType", type_) if isinstance(item, dict) else type_
            path = (*spot.path, key, index)
            yield replace(spot, path=path, expression=f"{at}[{index}]", type=found)

    def _in(self, child: Branch, sliced: Branch, spot: Spot) -> bool:
        """By the discriminators that can be judged here; others are in no slice."""
        value = got(self._resource, spot.path)
        rows = child.element.get("slicing", {}).get("discriminator", ())
        return bool(rows) and all(self._met(row, sliced, value, spot.type) for row in rows)

    def _met(self, row: Json, sliced: Branch, value: Any, type_: str) -> bool:
        types = sliced.element.get("type", ())
        path = row["path"]
        if row["type"] == "type" and path == "$this":
            return type_ in [code_of(one) for one in types]
        if row["type"] not in ("value", "pattern"):
            return False
        if path == "url" and types and types[0].get("profile"):
            url = types[0]["profile"][0].partition("|")[0]
            return isinstance(value, dict) and value.get("url") == url
        target: Branch | None = sliced
        for step in [] if path == "$this" else path.split("."):
            target = target.child(step) if target is not None else None
            values = value if isinstance(value, list) else [value]
            found = [one.get(step) for one in values if isinstance(one, dict)]
            value = [x for one in found for x in (one if isinstance(one, list) else [one])]
        expected = stated(target.element) if target is not None else None
        if expected is None and target is not None:
            expected = inner_of(target)
        if expected is None:
            return self._bound(target, value)
        values = value if isinstance(value, list) else [value]
        return any(has_value(one, expected) for one in values)

    def _bound(self, target: Branch | None, value: Any) -> bool:
        binding = target.element.get("binding", {}) if target is not None else {}
        if binding.get("strength") != "required":
            return False
        return any(
            self._member(binding["valueSet"], system, code) is True
            for one in (value if isinstance(value, list) else [value])
            for system, code in codes_of(one)
        )

    # Mutating

    def _changed(self, path: Path, change: Callable[[Any, Any], None]) -> Json:
        copied: Json = deepcopy(self._resource)
        change(got(copied, path[:-1]), path[-1])
        return copied

    def _without(self, spots: list[Spot]) -> Json | None:
        copied: Json = deepcopy(self._resource)
        for spot in sorted(spots, key=lambda s: [str(x).zfill(6) for x in s.path], reverse=True):
            owner, step = got(copied, spot.path[:-1]), spot.path[-1]
            del owner[step]
            if isinstance(step, str):
                owner.pop(f"_{step}", None)
            elif not owner:
                del got(copied, spot.path[:-2])[spot.path[-2]]
            elif f"_{spot.path[-2]}" in got(copied, spot.path[:-2]):
                return None
        top = got(
            copied, spots[0].path[:-1] if isinstance(spots[0].path[-1], str) else spots[0].path[:-2]
        )
        return copied if top and top.keys() != {"id"} else None

    def _list(self, child: Branch, spot: Spot, spots: list[Spot], id_: str) -> Iterator[Mutant]:
        least, most = child.element.get("min", 0), child.element.get("max", "*")
        at = self._at(spot, child)
        made = self._without(spots[least - 1 :]) if 0 < least <= len(spots) else None
        if made is not None and child.step != "resource":
            yield Mutant("min", id_, made, self._least(at, spot, child))
        if most == "0" and not spots:
            yield from self._forbidden(child, spot, id_, at)
        elif most not in ("*", "0") and spots:
            made = self._repeated(spots, int(most))
            if made is not None:
                yield Mutant("max", id_, made, at)

    def _least(self, at: str, spot: Spot, child: Branch) -> str:
        """What tells a slice apart and is gone takes the item out of its slice."""
        if spot.slice_ is None:
            return at
        sliced, slicing, where, path = spot.slice_
        paths = [row["path"] for row in slicing.get("discriminator", ())]
        names = [one for one in spot.path[len(path) + 1 :] if isinstance(one, str)]
        here = ".".join([*names, child.step.removesuffix("[x]")])
        if any(one == "$this" or f"{one}.".startswith(f"{here}.") for one in paths):
            return where if sliced.element.get("min", 0) else ""
        return at

    def _forbidden(self, child: Branch, spot: Spot, id_: str, at: str) -> Iterator[Mutant]:
        types = [code_of(one) for one in child.element.get("type", ())]
        if not types or types[0] not in SAMPLES:
            return
        name = child.step.removesuffix("[x]")
        key = name + types[0][:1].upper() + types[0][1:] if name != child.step else name
        many = repeats(self._definitions, child.element)
        value = deepcopy(SAMPLES[types[0]])

        def add(owner: Any, step: Any) -> None:
            (owner if step is None else owner[step])[key] = [value] if many else value

        copied: Json = deepcopy(self._resource)
        add(got(copied, spot.path), None)
        yield Mutant("max", id_, copied, at)

    def _repeated(self, spots: list[Spot], most: int) -> Json | None:
        copied: Json = deepcopy(self._resource)
        path = spots[0].path
        if isinstance(path[-1], int):
            items = got(copied, path[:-1])
            extra = most + 1 - len(spots)
            if isinstance(path[-2], str) and f"_{path[-2]}" in got(copied, path[:-2]):
                return None
            items += [deepcopy(items[path[-1]]) for _ in range(extra)]
        else:
            owner = got(copied, path[:-1])
            owner[path[-1]] = [owner[path[-1]], deepcopy(owner[path[-1]])]
        return copied

    def _sliced(
        self, child: Branch, sliced: Branch, spot: Spot, spots: list[Spot], id_: str
    ) -> Iterator[Mutant]:
        least, most = sliced.element.get("min", 0), sliced.element.get("max", "*")
        if least and len(spots) >= least and (made := self._without(spots[least - 1 :])):
            yield Mutant("slice", id_, made, self._at(spot, child))
        if most in ("*", "0") or not spots or not isinstance(spots[0].path[-1], int):
            return
        if (repeated := self._repeated(spots, int(most))) is not None:
            yield Mutant("slice", id_, repeated, self._at(spot, child))

    def _item(self, branch: Branch, spot: Spot, id_: str) -> Iterator[Mutant]:
        value = got(self._resource, spot.path)
        yield from self._types(branch, spot, id_)
        expected = stated(branch.element)
        if expected is not None and has_value(value, expected):
            yield from self._values(spot, id_, expected)
        binding = branch.element.get("binding", {})
        if binding.get("strength") in ("required", "extensible") and "valueSet" in binding:
            yield from self._bindings(binding, spot, id_, value)
        yield from self._references(branch, spot, id_, value)

    def _types(self, branch: Branch, spot: Spot, id_: str) -> Iterator[Mutant]:
        key = spot.path[-1]
        if not branch.step.endswith("[x]"):
            if isinstance(got(self._resource, spot.path), str | bool | int):
                made = self._changed(spot.path, lambda o, k: o.__setitem__(k, {"mutant": []}))
                yield Mutant("type", id_, made, spot.expression)
            return
        allowed = {code_of(one) for one in branch.element.get("type", ())}
        base = branch.element.get("base", {}).get("path") or branch.element["path"]
        known = base_types(self._definitions, base)
        other = next((t for t in sorted(known - allowed) if t in SAMPLES), None)
        if other is None or not isinstance(key, str) or branch.slice_name:
            return
        bare = branch.step.removesuffix("[x]")

        def swap(owner: Any, step: Any) -> None:
            del owner[step]
            owner.pop(f"_{step}", None)
            owner[bare + other[:1].upper() + other[1:]] = deepcopy(SAMPLES[other])

        at = spot.expression.rpartition(".ofType")[0]
        yield Mutant("type", id_, self._changed(spot.path, swap), at)

    def _values(self, spot: Spot, id_: str, expected: Any) -> Iterator[Mutant]:
        leaf = leaf_of(expected)
        if leaf is None:
            return

        def spoil(owner: Any, step: Any) -> None:
            owner[step] = spoiled_at(owner[step], leaf)

        at = spot.expression
        made = self._changed(spot.path, spoil)
        if spot.slice_ is not None:
            sliced, slicing, where, path = spot.slice_
            inside = spot.path[: len(path) + 2]
            single = not isinstance(inside[-1], int)
            item = Spot(inside[:-1] if single else inside, "", sliced.step)
            was, self._resource = self._resource, made
            rows = slicing.get("discriminator", ())
            kept = all(self._met(r, sliced, got(made, item.path), "") for r in rows)
            self._resource = was
            if not kept and rows and rows[0]["type"] != "type":
                if not sliced.element.get("min", 0):
                    return
                at = where
        yield Mutant("value", id_, made, at)

    def _bindings(self, binding: Json, spot: Spot, id_: str, value: Any) -> Iterator[Mutant]:
        codes = codes_of(value)
        if not codes:
            return
        if any(self._member(binding["valueSet"], s, "mutant") is not False for s, _ in codes):
            return
        if not any(self._member(binding["valueSet"], *one) is True for one in codes):
            return

        def spoil(owner: Any, step: Any) -> None:
            owner[step] = recoded(owner[step])

        severity = "error" if binding["strength"] == "required" else "warning"
        at = spot.expression
        if spot.slice_ is not None and stated(spot.slice_[0].element) is not None:
            return  # the pattern is broken first
        if spot.slice_ is not None:
            sliced, slicing, where, path = spot.slice_
            paths = [row["path"] for row in slicing.get("discriminator", ())]
            inside = spot.path[len(path) + 2 :]
            deep = [p for p in inside if isinstance(p, str)]
            if any(p == "$this" or p.split(".")[: len(deep)] == deep for p in paths):
                if not sliced.element.get("min", 0):
                    return
                at, severity = where, "error"
        yield Mutant("binding", id_, self._changed(spot.path, spoil), at, severity)

    def _references(self, branch: Branch, spot: Spot, id_: str, value: Any) -> Iterator[Mutant]:
        targets = [
            u for one in branch.element.get("type", ()) for u in one.get("targetProfile", ())
        ]
        if spot.type != "Reference" or not targets or not isinstance(value, dict):
            return
        types = {self._targets(url) for url in targets}
        if types & {"Resource", ""} or "/" not in value.get("reference", ""):
            return
        other = next(t for t in ("Basic", "Slot") if t not in types)
        made = self._changed(
            (*spot.path, "reference"), lambda o, k: o.__setitem__(k, f"{other}/mutant")
        )
        got(made, spot.path).pop("type", None)
        yield Mutant("target", id_, made, spot.expression)

    def _invariants(self, branch: Branch, spot: Spot, id_: str) -> Iterator[Mutant]:
        for one in branch.element.get("constraint", ()):
            source = one.get("source", "")
            if not one.get("expression") or source.removeprefix(CORE) in self._definitions.types:
                continue
            if not source or one.get("severity") != "error" or one["key"] in ("ele-1", "ext-1"):
                continue
            made = self._breaking(one["expression"], spot)
            if made is not None:
                yield Mutant(
                    "invariant", id_, made, spot.expression, exact=True, word=f"({one['key']})"
                )

    def _breaking(self, expression: str, spot: Spot) -> Json | None:
        """The first single change below the item by which the invariant does not hold."""
        compiled = compile(expression)

        def holds(resource: Json) -> bool | None:
            node = node_at(resource, spot.path)
            try:
                return node is None or compiled.holds(node, Context(model=r4_model()))
            except FhirPathError:
                return None

        if not holds(self._resource):
            return None
        for path in paths_of(got(self._resource, spot.path), spot.path):
            for change in (without, garbled, emptied):
                made: Json = deepcopy(self._resource)
                if change(got(made, path[:-1]), path[-1]) and holds(made) is False:
                    return made
        return None


def shown(mutant: Mutant) -> str:
    return json.dumps(mutant.resource, default=str)[:2000]
