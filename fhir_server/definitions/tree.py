"""A snapshot as a tree: https://hl7.org/fhir/R4/elementdefinition.html#id

A branch is an element, or a slice of one. Its children come first, then its slices, each with
children of its own: that is also the order of the published snapshots.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fhir_server.model.exchange import Json


@dataclass(slots=True)
class Branch:
    """``step``: the element's name (``value[x]``). ``slice_name``: "" for the element itself,
    ``a/b`` for a slice of slice ``a``. ``element``: its ElementDefinition; not to be changed in
    place, several trees may share it. ``source``: what it was copied from, unchanged.
    """

    step: str
    slice_name: str
    element: Json
    children: list[Branch] = field(default_factory=list)
    slices: list[Branch] = field(default_factory=list)
    source: Branch | None = None

    def child(self, step: str) -> Branch | None:
        return next((one for one in self.children if one.step == step), None)

    def slice(self, name: str) -> Branch | None:
        """A slice, or a slice of a slice, by its whole name."""
        return next((one for one in self.slices if one.slice_name == name), None)

    def clone(self, slice_name: str) -> Branch:
        """A slice with the content that the base has here: what a differential says of all
        repetitions holds for slices too, and is not said again.
        """
        source = self.source or self
        element = {k: v for k, v in source.element.items() if k != "slicing"}
        copied = [one.copy() for one in source.children]
        return Branch(self.step, slice_name, element | {"sliceName": slice_name}, copied)

    def copy(self) -> Branch:
        return Branch(
            self.step,
            self.slice_name,
            self.element,
            [one.copy() for one in self.children],
            [one.copy() for one in self.slices],
            self.source or self,
        )

    def elements(self, above: str = "", path_above: str = "") -> Iterator[Json]:
        """Itself and all below it, with the ids and paths of this place."""
        id_ = f"{above}{self.step}" + (f":{self.slice_name}" if self.slice_name else "")
        path = f"{path_above}{self.step}"
        yield {**self.element, "id": id_, "path": path}
        for one in self.children:
            yield from one.elements(f"{id_}.", f"{path}.")
        for one in self.slices:
            yield from one.elements(above, path_above)


def steps_of(element: Json) -> list[tuple[str, str]]:
    """(step, slice name) from the root on, by the element's id, else by its path."""
    id_ = element.get("id") or element["path"]
    found = []
    for part in id_.split("."):
        step, _, slice_name = part.partition(":")
        found.append((step, slice_name))
    if not found[-1][1] and "sliceName" in element:
        found[-1] = (found[-1][0], element["sliceName"])
    return found


def grown(elements: list[Json]) -> Branch:
    """The tree of a snapshot. ValueError where an element has no place in it."""
    first = elements[0]
    root = Branch(first["path"], "", first)
    for element in elements[1:]:
        parent, steps = root, steps_of(element)
        for step, slice_name in steps[1:-1]:
            parent = _below(parent, step, slice_name, element)
        step, slice_name = steps[-1]
        fresh = Branch(step, slice_name, element)
        if not slice_name:
            parent.children.append(fresh)
            continue
        sliced = parent.child(step)
        if sliced is None:
            raise ValueError(f"{element.get('id')}: a slice of nothing")
        sliced.slices.append(fresh)
    return root


def _below(parent: Branch, step: str, slice_name: str, element: Json) -> Branch:
    found = parent.child(step)
    if found is not None and slice_name:
        found = found.slice(slice_name)
    if found is None:
        raise ValueError(f"{element.get('id')}: {step}:{slice_name} is not there")
    return found


def located(root: Branch, path: str) -> Branch | None:
    """The branch of a plain path, as content references name it."""
    found: Branch | None = root
    for step in path.split(".")[1:]:
        found = found.child(step) if found is not None else None
    return found


def choice_of(branch: Branch, step: str) -> Branch | None:
    """The choice (``value[x]``) that a short name (``valueQuantity``) means."""
    for one in branch.children:
        bare = one.step.removesuffix("[x]")
        if bare != one.step and step.startswith(bare) and type_of(one, step[len(bare) :]):
            return one
    return None


def type_of(choice: Branch, suffix: str) -> Any:
    """The type of a choice that a suffix (``Quantity``) names."""
    for type_ in choice.element.get("type", ()):
        code = type_.get("code", "")
        if code[:1].upper() + code[1:] == suffix:
            return type_
    return None
