"""What a mask takes out of one resource, once it is known what is hidden.

Where an item of a list of primitives goes, what ``_name`` says beside it goes too, and ``null``
keeps the places of the others (https://hl7.org/fhir/R4/json.html#primitive).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from fhir_server.access.own_words import UNTRUE
from fhir_server.definitions.elements import Element, TypeRef
from fhir_server.definitions.registry import Definitions
from fhir_server.model.exchange import Json

MASKED: Final = {
    "extension": [
        {
            "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
            "valueCode": "masked",
        }
    ]
}
"""In the place of what a resource must have. https://hl7.org/fhir/R4/extension-data-absent-reason"""

WHOLE: Final = frozenset({"Composition.section"})
"""What tells in words what it lists: where anything in it is hidden, only the rest of the list is
left, and nothing if there is none."""
_LISTING: Final = frozenset({"id", "entry", "section", "mode", "orderedBy"})
_CARRIERS: Final = frozenset({"Bundle.entry"})
"""What carries a resource goes with it."""
_WORDS: Final = frozenset({"string", "markdown", "code", "id", "base64Binary"})
"""Types that refer to nothing (``Reference.reference`` is looked at with its object)."""

Pair = tuple[Any, Any]
"""An element as JSON has it: under its name, and under ``_name``; None where it has nothing."""
NOTHING: Final[Pair] = (None, None)


class Strip:
    """Takes out of a resource what ``gone`` says of a reference or URL.

    A string is no reference: whoever wrote it could tell by its going that what it names is there.
    """

    def __init__(
        self,
        definitions: Definitions,
        gone: Callable[[str], bool],
        copies: Collection[str] = (),
    ) -> None:
        """``copies``: ids of contained resources that go."""
        self._definitions = definitions
        self._gone = gone
        self.copies: Final = frozenset(copies)
        self._touched = False
        self._within: set[int] = set()

    def resource(self, resource: Json) -> Json:
        """What is left; the same object if nothing goes."""
        whole = resource
        self._touched = False
        if self.copies:
            kept = [c for c in resource["contained"] if c.get("id", "") not in self.copies]
            whole = {**resource, "contained": kept}
            self._touched = True
        found = self._members(whole, whole["resourceType"], root=True)
        if found is None:
            found = {name: whole[name] for name in ("resourceType", "id", "meta") if name in whole}
        if not self._touched:
            return resource
        found.pop("text", None)
        if not found.get("contained", True):
            del found["contained"]
        for path in UNTRUE:
            type_, _, name = path.partition(".")
            if type_ == resource["resourceType"]:
                found.pop(name, None)
        return found

    def renamed(self, copies: Mapping[str, str]) -> Strip:
        """The same for contained resources that are given other ids."""
        old, new = ({f"#{id_}" for id_ in ids} for ids in (copies, copies.values()))
        gone = self._gone
        left = (self.copies - copies.keys()) | set(copies.values())
        return Strip(self._definitions, lambda s: s in new or (s not in old and gone(s)), left)

    def item(self, pair: Pair, path: str, name: str) -> Pair | None:
        """What is left of one item of the member ``name`` of what is at ``path``: the same object
        if nothing goes; None: nothing is left."""
        value = pair[0]
        if name == "contained" and type(value) is dict:
            if value.get("id", "") in self.copies:
                return None
            self._within.add(id(value))
        before, self._touched = self._touched, False
        left = self._pair(pair, *self.below(path, name))
        self._touched = before
        self._within.discard(id(value))
        return left

    def below(self, path: str, name: str) -> tuple[str, bool]:
        """Where the members of a member are described, and whether it is of a type that refers to
        nothing; "" if the definitions do not know."""
        element, type_ = self.known(path).get(name, (None, None))
        below = ""
        if element is not None and type_ is not None:
            below = path_below(element.path, element.content_reference, type_.code)
        return below, below in _WORDS or name == "system" or (name == "url" and path == "Extension")

    def known(self, path: str) -> Mapping[str, tuple[Element, TypeRef]]:
        """The members of what is at a path."""
        return self._definitions.members(path) if path else {}

    def _members(self, node: Json, path: str, *, root: bool = False) -> Json | None:
        """What is left of an object; None: it cannot be without what goes."""
        known = self.known(path)
        found: Json = {}
        lefts: dict[str, Pair] = {}
        self._within.update(map(id, node.get("contained", ())))
        for said, child in node.items():
            if said in ("meta", "text") and root:
                found[said] = child
                continue
            side = int(said[0] == "_")
            name = said[side:]
            if (left := lefts.get(name)) is None:
                left = lefts[name] = self._element(pair_of(node, name), path, name)
            if left[side] is not None:
                found[said] = left[side]
            elif left[1 - side] is None and name in known and known[name][0].min:
                if not root:
                    return None
                masked = [MASKED] if type(child) is list else MASKED
                found[f"_{name}" if known[name][1].code[0].islower() else name] = masked
        return found

    def _element(self, pair: Pair, path: str, name: str) -> Pair:
        below, words = self.below(path, name)
        if pair[1] is None:
            if words:
                return pair
            return self._value(pair[0], below), None
        if not (type(pair[0]) is list or type(pair[1]) is list):
            return self._pair(pair, below, words) or NOTHING
        items = zipped(pair)
        kept = [left for item in items if (left := self._pair(item, below, words)) is not None]
        same = len(kept) == len(items) and all(map(_same, kept, items))
        return pair if same else unzipped(kept)

    def _pair(self, pair: Pair, below: str, words: bool) -> Pair | None:
        """What is left of an item; what is beside a value goes with it."""
        value, beside = pair
        left = value if words else self._value(value, below)
        if left is None and value is not None:
            return None
        more = self._value(beside, "Element")
        if left is value and more is beside:
            return pair
        return None if left is None and more is None else (left, more)

    def _value(self, child: Any, path: str) -> Any:
        kind = type(child)
        if kind is str:
            if not self._gone(child):
                return child
            self._touched = True
            return None
        if kind is list:
            kept = [left for item in child if (left := self._value(item, path)) is not None]
            same = len(kept) == len(child) and all(map(_same, kept, child))
            return child if same else kept or None
        return self._object(child, path) if kind is dict else child

    def _object(self, node: Json, path: str) -> Json | None:
        names = [node.get("reference"), node.get("url") if path != "Extension" else None]
        if "resourceType" in node and path in ("", "Resource"):
            path = node["resourceType"]
            if id(node) not in self._within:
                names.append(f"{path}/{node.get('id')}")
        if any(type(name) is str and self._gone(name) for name in names):
            self._touched = True
            return None
        before, self._touched = self._touched, False
        found = self._members(node, path) if path else self._loose(node)
        touched, self._touched = self._touched, self._touched or before
        if not touched:
            return node
        if not found or (path in _CARRIERS and len(found) < len(node)):
            return None
        if path == "Extension" and found.keys() <= {"id", "url"}:
            return None
        return _wordless(found) if path in WHOLE else found

    def _loose(self, node: Json) -> Json | None:
        """Of what the definitions do not know, an object without the members that go."""
        pairs = {name: self._value(child, "") for name, child in node.items()}
        return {name: left for name, left in pairs.items() if left is not None}


def pair_of(node: Json, name: str) -> Pair:
    """An element of an object."""
    return node.get(name), node.get(f"_{name}")


def zipped(pair: Pair) -> list[Pair]:
    """The items of a list, each with what is beside it."""
    lists = [side if type(side) is list else [] for side in pair]
    length = max(map(len, lists))
    values, elements = [side + [None] * (length - len(side)) for side in lists]
    return list(zip(values, elements, strict=True))


def unzipped(items: Collection[Pair]) -> Pair:
    """The list, or the two lists, of such items."""
    values, elements = [item[0] for item in items], [item[1] for item in items]
    return _unless_empty(values), _unless_empty(elements)


def _unless_empty(items: list[Any]) -> list[Any] | None:
    return None if all(item is None for item in items) else items


def _wordless(section: Json) -> Json | None:
    """What is left of a section without title, code and text; None if it lists nothing more."""
    kept = {name: child for name, child in section.items() if name in _LISTING}
    return kept if kept.keys() & {"entry", "section"} else None


def _same(one: Any, other: Any) -> bool:
    return one is other


def path_below(path: str, shared: str | None, type_: str) -> str:
    """Where the definitions describe the members of an element."""
    if shared is not None:
        return shared
    return path if type_ in ("BackboneElement", "Element") else type_
