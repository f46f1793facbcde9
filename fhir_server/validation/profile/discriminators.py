"""Discriminators: https://hl7.org/fhir/R4/profiling.html#discriminator

value and pattern: what the slice fixes at the path, or a required binding there. exists: whether
the slice demands or forbids it. type: the types that it allows. profile: those that it names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fhir_server.definitions.tree import Branch, choice_of
from fhir_server.fhirpath import Expression, FhirPathError, Node
from fhir_server.fhirpath.node import Collection
from fhir_server.fhirpath.parse import parse
from fhir_server.fhirpath.syntax import Call, Literal, Member, Syntax, Variable
from fhir_server.model.exchange import Json

from .bindings import member
from .judging import Judging, Membership
from .slicing import Match, always
from .values import Fits, fitting

EXTENSION: Final = "Extension"
Children = Callable[[Branch], list[Branch]]
"""The children of a branch, those of its type or profile if it has none of its own."""
At = Callable[[Node, Judging], list[Node]]


class Discriminators:
    """Makes matches of discriminators. ``children``: how a definition is walked further down.
    ``structure``: of a profile that a type names.
    """

    def __init__(self, children: Children) -> None:
        self._children = children

    def match(self, kind: str, path: str, branch: Branch) -> Match:
        """The test whether an item is in the slice ``branch``. ValueError: it cannot be made."""
        at = located(path)
        target, resolved = self._walk(parse(path), branch)
        if kind == "type":
            return _by_type(at, target, resolved=resolved)
        if kind == "profile":
            return _by_profile(at, target, resolved=resolved)
        if kind == "exists":
            return _by_presence(at, target)
        if kind in ("value", "pattern"):
            return self._by_value(at, target)
        raise ValueError(f"a discriminator {kind!r} is not known")

    def _walk(self, tree: Syntax, branch: Branch) -> tuple[Branch, bool]:
        """Where a path leads to in the definition, and whether through ``resolve()`` last."""
        match tree:
            case Variable("$this"):
                return branch, False
            case Member(base, name):
                above = self._walk(base, branch)[0] if base is not None else branch
                return self._below(above, name), False
            case Call(base, "resolve", ()):
                above = self._walk(base, branch)[0] if base is not None else branch
                return above, True
            case Call(base, "ofType", (Member(None, type_),)):
                above = self._walk(base, branch)[0] if base is not None else branch
                return self._of_type(above, type_), False
            case Call(base, "extension", (Literal(url),)):
                above = self._walk(base, branch)[0] if base is not None else branch
                return self._extension(above, str(url)), False
        raise ValueError("a discriminator has a path of names, ofType, extension and resolve")

    def _below(self, branch: Branch, name: str) -> Branch:
        for one in self._children(branch):
            if one.step in (name, f"{name}[x]"):
                return one.slices[0] if len(one.slices) == 1 and _narrowed(one) else one
        raise ValueError(f"a discriminator names {name}, which {branch.step} does not have")

    def _of_type(self, branch: Branch, type_: str) -> Branch:
        for one in branch.slices:
            if [t.get("code") for t in one.element.get("type", ())] == [type_]:
                return one
        return branch

    def _extension(self, branch: Branch, url: str) -> Branch:
        extension = self._below(branch, "extension")
        for one in extension.slices:
            if url in profiles_of(one):
                return one
        return extension

    def _by_value(self, at: At, target: Branch) -> Match:
        tests = self._tests(target, "")
        bound = _bound(target)
        if not tests and bound is None:
            # nothing is demanded there, so that nothing tells the slice apart
            least, most = target.element.get("min", 0), target.element.get("max", "*")
            return _by_presence(at, target) if least or most == "0" else always

        def match(node: Node, judging: Judging) -> bool | None:
            found: list[bool | None] = [
                bound is None or _in(one, bound, judging)
                for one in at(node, judging)
                if all(_met(one, path, fits, judging) for path, fits in tests)
            ]
            return True if True in found else None if None in found else False

        return match

    def _tests(self, target: Branch, path: str) -> list[tuple[str, Fits]]:
        """Fixed values and patterns at the element, else those of what is below it."""
        fits = fitting(target.element)
        if fits is not None:
            return [(path, fits)]
        found = []
        for one in target.children:
            if one.element.get("min", 0):
                step = one.step.removesuffix("[x]")
                found += self._tests(one, f"{path}.{step}" if path else step)
                for inner in one.slices:
                    if inner.element.get("min", 0):
                        found += self._tests(inner, f"{path}.{step}" if path else step)
        return found


def _narrowed(branch: Branch) -> bool:
    return branch.step.endswith("[x]")


def profiles_of(branch: Branch) -> list[str]:
    types = branch.element.get("type", ())
    return [url.partition("|")[0] for one in types for url in one.get("profile", ())]


def targets_of(branch: Branch) -> list[str]:
    types = branch.element.get("type", ())
    return [url.partition("|")[0] for one in types for url in one.get("targetProfile", ())]


def _bound(branch: Branch) -> str | None:
    binding: Json = branch.element.get("binding", {})
    return binding.get("valueSet") if binding.get("strength") == "required" else None


def located(path: str) -> At:
    """Where in an instance a path leads to. A path that is usual is walked by FHIRPath too."""
    if path == "$this":
        return lambda node, judging: [node]
    if path.endswith("resolve()"):
        before = located(path.removesuffix("resolve()").removesuffix(".") or "$this")
        return lambda node, judging: _resolved(before(node, judging), judging)
    if "resolve()." in path:
        head, _, tail = path.partition("resolve().")
        first, rest = located(f"{head}resolve()"), located(tail)
        return lambda node, judging: [
            found for one in first(node, judging) for found in rest(one, judging)
        ]
    expression = Expression(path)

    def at(node: Node, judging: Judging) -> list[Node]:
        try:
            found: Collection = expression.items(node, judging.context)
        except FhirPathError:
            return []
        return [one for one in found if isinstance(one, Node)]

    return at


def _resolved(nodes: list[Node], judging: Judging) -> list[Node]:
    found = []
    for node in nodes:
        text = node.value.get("reference") if isinstance(node.value, dict) else node.value
        target = judging.resolve(text, node) if isinstance(text, str) else None
        if target is not None:
            found.append(target)
    return found


def _met(node: Node, path: str, fits: Fits, judging: Judging) -> bool:
    if not path:
        return fits(node.value)
    return any(fits(one.value) for one in located(path)(node, judging))


def _in(node: Node, value_set: str, judging: Judging) -> bool | None:
    codes: Membership | None = judging.ask("value-set", value_set)
    return None if codes is None else member(codes, node, judging)


def _by_presence(at: At, target: Branch) -> Match:
    if target.element.get("max") == "0":
        return lambda node, judging: not at(node, judging)
    return lambda node, judging: bool(at(node, judging))


def _by_type(at: At, target: Branch, *, resolved: bool) -> Match:
    if resolved:
        urls = targets_of(target)

        def targeted(node: Node, judging: Judging) -> bool:
            types = {(judging.definitions.structure(url) or {}).get("type") for url in urls}
            return any(one.type in types for one in at(node, judging))

        return targeted
    codes = {one.get("code") for one in target.element.get("type", ())}
    return lambda node, judging: any(one.type in codes for one in at(node, judging))


def _by_profile(at: At, target: Branch, *, resolved: bool) -> Match:
    urls = targets_of(target) if resolved else profiles_of(target)

    def match(node: Node, judging: Judging) -> bool:
        return any(
            _is_typed(one, url, judging) and judging.conforms(one, url)
            for one in at(node, judging)
            for url in urls
        )

    return match


def _is_typed(node: Node, url: str, judging: Judging) -> bool:
    """A profile of another type is not looked at."""
    found = judging.definitions.structure(url)
    return found is not None and found.get("type") in (node.type, "Resource", "Element")


__all__ = ["Discriminators", "choice_of", "located", "profiles_of"]
