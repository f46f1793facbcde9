"""Snapshots from differentials: https://hl7.org/fhir/R4/profiling.html#snapshot

What constrains is inherited and merged (cardinality, types, fixed values and patterns, bindings,
invariants, slicing); texts for people are not looked after.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fhir_server.definitions.tree import Branch, choice_of, grown, located, steps_of, type_of
from fhir_server.model.exchange import Json

Find = Callable[[str], Json | None]
"""A StructureDefinition with a snapshot by its canonical url."""

BASE: Final = "http://hl7.org/fhir/StructureDefinition/"
_INLINE: Final = frozenset({"BackboneElement", "Element"})
_VALUES: Final = ("fixed", "pattern")
_NOT_MERGED: Final = frozenset({"id", "path", "sliceName", "constraint", "type"})
BY_URL: Final = {
    "discriminator": [{"type": "value", "path": "url"}],
    "ordered": False,
    "rules": "open",
}
BY_TYPE: Final = {
    "discriminator": [{"type": "type", "path": "$this"}],
    "ordered": False,
    "rules": "closed",
}


class SnapshotError(ValueError):
    """A differential that does not fit its base. The text names the element."""


def snapshot(structure: Json, find: Find) -> list[Json]:
    """The elements of the snapshot of a profile. Raises SnapshotError."""
    base_url = structure.get("baseDefinition", "")
    base = find(base_url)
    if base is None:
        raise SnapshotError(f"{structure.get('url')}: the base {base_url} is not known here")
    root = grown(elements_of(base)).copy()
    growing = _Growing(root, structure.get("url", ""), find)
    for element in structure.get("differential", {}).get("element", ()):
        growing.merge(element)
    return list(root.elements())


def elements_of(structure: Json) -> list[Json]:
    found: list[Json] = structure.get("snapshot", {}).get("element", [])
    if not found:
        raise SnapshotError(f"{structure.get('url')} has no snapshot")
    return found


class _Growing:
    """One snapshot that is being made. ``root`` is its own tree."""

    def __init__(self, root: Branch, url: str, find: Find) -> None:
        self._root = root
        self._url = url
        self._find = find

    def merge(self, element: Json) -> None:
        """Put one element of the differential where it belongs."""
        branch, sliced = self._root, False
        for step, slice_name in steps_of(element)[1:]:
            branch = self._step(branch, step, slice_name, element, sliced=sliced)
            sliced = sliced or bool(branch.slice_name)
        branch.element = self._merged(branch, element)
        if "type" in element:
            _narrow(branch)

    def _step(
        self, branch: Branch, step: str, slice_name: str, element: Json, *, sliced: bool
    ) -> Branch:
        if not branch.children:
            self.expand(branch)
        found = branch.child(step)
        if found is None:
            choice = choice_of(branch, step)
            if choice is None:
                text = f"{self._url}: {element.get('id') or element['path']}: there is no {step}"
                raise SnapshotError(text)
            return self._short(choice, step, element, sliced=sliced)
        return self._sliced(found, slice_name) if slice_name else found

    def _short(self, choice: Branch, step: str, element: Json, *, sliced: bool) -> Branch:
        """``valueQuantity``: within a slice the choice is of this type alone; elsewhere it is a
        slice of the choice, which has no other type if this one is required, or is all that
        an extension has.
        """
        if sliced:
            return self._only(choice, step)
        least = element.get("min", 0) if element["path"].endswith(f".{step}") else 0
        if least or self._root.step == "Extension":
            self._only(choice, step)
            least = max(least, choice.element["min"])
            choice.element = choice.element | {"slicing": BY_TYPE, "min": least}
        return self._sliced(choice, step)

    def _only(self, choice: Branch, step: str) -> Branch:
        bare = choice.step.removesuffix("[x]")
        choice.element = choice.element | {"type": [type_of(choice, step[len(bare) :])]}
        return choice

    def _sliced(self, branch: Branch, name: str) -> Branch:
        """The slice, made if it is new; a slice of a slice has that one's content."""
        found = branch.slice(name)
        if found is not None:
            return found
        parent = name.rpartition("/")[0]
        source = self._sliced(branch, parent) if parent else branch
        made = source.clone(name)
        made.element = made.element | {"min": 0}
        if "slicing" not in branch.element and not parent:
            if branch.step.endswith("[x]"):
                branch.element = branch.element | {"slicing": BY_TYPE | {"rules": "open"}}
            elif "xtension" in branch.step:
                branch.element = branch.element | {"slicing": BY_URL}
        if branch.step.endswith("[x]"):
            _typed(made, branch)
        after = [i for i, one in enumerate(branch.slices) if parent and _within(one, parent)]
        branch.slices.insert(after[-1] + 1 if after else len(branch.slices), made)
        return made

    def expand(self, branch: Branch) -> None:
        """Give a branch the children of its type, its profile or what it refers to."""
        reference = branch.element.get("contentReference")
        if reference:
            path = reference.partition("#")[2]
            branch.children = [one.copy() for one in self._content(path).children]
            return
        types = branch.element.get("type", ())
        codes = {_code(one) for one in types}
        if len(codes) != 1:
            codes, types = {"Element"}, ()
        profiles = [url for one in types for url in one.get("profile", ())]
        url = profiles[0] if len(profiles) == 1 else BASE + min(codes)
        found = self._find(url.partition("|")[0])
        if found is None and profiles:
            found = self._find(BASE + min(codes))
        if found is None:
            raise SnapshotError(f"{self._url}: {branch.step}: {url} is not known here")
        branch.children = [one.copy() for one in grown(elements_of(found)).children]

    def _content(self, path: str) -> Branch:
        """What a content reference leads to, as the base type has it."""
        definition = self._find(BASE + path.partition(".")[0])
        tree = grown(elements_of(definition)) if definition is not None else self._root
        found = located(tree, path)
        if found is None:
            raise SnapshotError(f"{self._url}: there is no {path}")
        return found

    def _merged(self, branch: Branch, given: Json) -> Json:
        base = branch.element
        merged = {**base, **{k: v for k, v in given.items() if k not in _NOT_MERGED}}
        for kind in _VALUES:
            if any(k.startswith(kind) for k in given):
                old = [k for k in base if k.startswith(kind) and k not in given]
                merged = {k: v for k, v in merged.items() if k not in old}
        if "type" in given:
            merged["type"] = _types(base.get("type", []), given["type"])
            self._of_profile(branch, merged)
        if "constraint" in given:
            merged["constraint"] = self._constraints(
                merged.get("constraint", []), given["constraint"]
            )
        for name in ("slicing", "binding"):
            if name in given and name in base:
                merged[name] = {**base[name], **given[name]}
        return merged

    def _of_profile(self, branch: Branch, merged: Json) -> None:
        """A type's single profile (an extension, say) brings its invariants, and children anew."""
        profiles = [url for one in merged["type"] for url in one.get("profile", ())]
        if len(profiles) != 1 or len(merged["type"]) != 1:
            return
        found = self._find(profiles[0].partition("|")[0])
        if found is None or not found.get("snapshot"):
            return
        first = elements_of(found)[0]
        merged["constraint"] = self._constraints(
            merged.get("constraint", []), first.get("constraint", [])
        )

    def _constraints(self, known: list[Json], given: list[Json]) -> list[Json]:
        keys = {one["key"] for one in given}
        kept = [one for one in known if one["key"] not in keys]
        return [*kept, *({"source": self._url, **one} for one in given)]


def _types(base: list[Json], given: list[Json]) -> list[Json]:
    """Types with what the base knows of how they are written (an ``id`` is a String)."""
    known = {one.get("code", ""): one.get("extension") for one in base}
    return [
        {**one, "extension": known[one.get("code", "")]}
        if known.get(one.get("code", "")) and "extension" not in one
        else one
        for one in given
    ]


def _code(type_: Json) -> str:
    for extension in type_.get("extension", ()):
        if extension["url"] == BASE + "structuredefinition-fhir-type":
            found: str = extension["valueUrl"]
            return found
    code: str = type_.get("code", "")
    return code


def _typed(made: Branch, branch: Branch) -> None:
    """A slice of a choice that is called after a type is of that type."""
    bare = branch.step.removesuffix("[x]")
    name = made.slice_name
    type_: Any = type_of(branch, name[len(bare) :]) if name.startswith(bare) else None
    if type_ is not None:
        made.element = made.element | {"type": [type_]}


def _narrow(branch: Branch) -> None:
    """Children of another type than the one that is left are not kept."""
    codes = {one.get("code", "") for one in branch.element["type"]}
    if len(codes) == 1 and not codes & _INLINE and branch.step.endswith("[x]"):
        kept = {"id", "extension"}
        if {one.step for one in branch.children} <= kept:
            branch.children = []


def _within(one: Branch, parent: str) -> bool:
    return one.slice_name == parent or one.slice_name.startswith(f"{parent}/")
