"""From a snapshot to closures: https://hl7.org/fhir/R4/profiling.html

What structural validation checks anyway (the cardinality, types and invariants of the type itself)
is left out, so that a profile costs what it adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from fhir_server.definitions.elements import Element, TypeRef
from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.definitions.registry import Definitions
from fhir_server.definitions.snapshot import BASE
from fhir_server.definitions.tree import Branch, grown
from fhir_server.fhirpath import Node
from fhir_server.fhirpath.node import children as children_of
from fhir_server.model.exchange import Json

from ..rules.invariants import ELSEWHERE, has_row
from ..rules.references import References
from .bindings import bound
from .discriminators import Discriminators, profiles_of
from .invariants import invariant
from .judging import Check, Judging
from .limits import limits
from .references import referring
from .slicing import DEFAULT, Match, Slice, Slicing, all_of, always, described
from .values import fitting, shown, stated

Find = Callable[[str], Json | None]
_INLINE: Final = frozenset({"BackboneElement", "Element"})
_SYSTEM: Final = "http://hl7.org/fhirpath/"
_ANY: Final = ((TypeRef("Resource"),),)
_CODED: Final = frozenset({"code", "Coding", "CodeableConcept", "Quantity", "string", "uri"})


class Compiler:
    """Makes checks of snapshots. ``find``: StructureDefinitions with snapshots, by url."""

    def __init__(self, definitions: Definitions, find: Find) -> None:
        self._definitions = definitions
        self._find = find
        self._references = References(definitions.resource_types)
        self._model = r4_model()
        self._own_rules = _rules(definitions)

    def compile(self, structure: Json) -> Check:
        """The check of a whole profile. ValueError where it cannot be used."""
        root = grown(structure["snapshot"]["element"])
        type_ = structure.get("type", root.step)
        return self._branch(root, type_, None) or _nothing

    def _branch(self, branch: Branch, path: str, base: Element | None) -> Check | None:
        """The check of one item. ``path``: of the definitions, "" where it is not known.
        ``base``: the element as its type has it.
        """
        checks = [*self._own(branch, base)]
        inner = [self._element(one, path) for one in branch.children]
        return _together([*checks, *(one for one in inner if one is not None)])

    def _own(self, branch: Branch, base: Element | None) -> Iterable[Check]:
        """What an element demands of each of its items, but for what is below them."""
        element = branch.element
        fits = fitting(element)
        if fits is not None:
            yield _value(fits, stated(element))
        yield from limits(element)
        for constraint in element.get("constraint", ()):
            rule = self._rule(constraint)
            if rule is not None:
                yield invariant(rule)
        types = element.get("type", ())
        codes = frozenset(_code(one) for one in types)
        if base is not None and (len(base.types) > 1 or base.types[:1] in _ANY):
            yield from self._typed(codes)
        if "binding" in element and (codes & _CODED or not codes):
            check = bound(element["binding"])
            if check is not None:
                yield check
        check = referring(types, self._references)
        if check is not None:
            yield check
        if any(one.get("profile") for one in types):
            yield _profiled(types)

    def _typed(self, codes: frozenset[str]) -> Iterable[Check]:
        if codes and not codes & {"Resource", "DomainResource", "*"}:
            yield _type(codes, self._model.is_subtype)

    def _rule(self, constraint: Json) -> Json | None:
        """The invariant to be evaluated; None for one that structural validation knows, and for
        what FHIR's own types only recommend.
        """
        source = constraint.get("source", BASE)
        name = source.removeprefix(BASE)
        own = source == BASE or (name != source and name in self._definitions.types)
        key = constraint["key"]
        if not own or key not in self._own_rules:
            return constraint
        expression = self._own_rules[key]
        return constraint | {"expression": expression} if expression else None

    # Elements: how many, which slices, then each item

    def _element(self, branch: Branch, path: str) -> Check | None:
        name = branch.step.removesuffix("[x]")
        base = self._base(path, name)
        least, most = branch.element.get("min", 0), _most(branch.element)
        if base is not None:
            least = least if least > base.min else 0
            most = None if base.max is not None and (most or 0) >= base.max else most
        below = self._path(branch, base, path)
        each = self._branch(branch, below, base)
        slicing = self._slicing(branch, below, base)
        if not least and most is None and each is None and slicing is None:
            return None
        return _counted(self._model, name, least, most, each, slicing)

    def _base(self, path: str, name: str) -> Element | None:
        try:
            found = self._definitions.children(path)
        except KeyError:
            return None
        return next((one for one in found if one.name == name), None)

    def _path(self, branch: Branch, base: Element | None, path: str) -> str:
        """Where the definitions keep what is below an item of this element."""
        codes = {_code(one) for one in branch.element.get("type", ())}
        if base is not None and base.content_reference is not None:
            return base.content_reference
        if len(codes) == 1:
            code = min(codes)
            if code in _INLINE and base is not None:
                return base.path
            return code
        return ""

    def _slicing(self, branch: Branch, path: str, base: Element | None) -> Slicing | None:
        slicing = branch.element.get("slicing")
        if not slicing or not branch.slices:
            return None
        return self._slices(branch, slicing, "", path, base)

    def _slices(
        self, branch: Branch, slicing: Json, within: str, path: str, base: Element | None
    ) -> Slicing:
        """The slices one level below ``within``: "" for the element's own."""
        prefix = f"{within}/" if within else ""
        own = [
            one
            for one in branch.slices
            if one.slice_name.startswith(prefix) and "/" not in one.slice_name[len(prefix) :]
        ]
        made = []
        for one in own:
            inner = one.element.get("slicing")
            deeper = any(s.slice_name.startswith(f"{one.slice_name}/") for s in branch.slices)
            made.append(
                Slice(
                    one.slice_name,
                    one.element.get("min", 0),
                    _most(one.element),
                    self._match(slicing, one),
                    self._branch(one, self._slice_path(one, path), base),
                    self._slices(branch, inner, one.slice_name, path, base)
                    if inner and deeper
                    else None,
                )
            )
        return Slicing(
            branch.step.removesuffix("[x]"),
            slicing.get("rules", "open"),
            bool(slicing.get("ordered")),
            tuple(made),
            described(slicing),
        )

    def _slice_path(self, branch: Branch, path: str) -> str:
        codes = {_code(one) for one in branch.element.get("type", ())}
        return min(codes) if len(codes) == 1 and not codes & _INLINE else path

    def _match(self, slicing: Json, branch: Branch) -> Match:
        if branch.slice_name == DEFAULT:
            return always
        discriminators = Discriminators(self._children)
        rows = slicing.get("discriminator", ())
        extension = profiles_of(branch) if _is_url(rows) else []
        if extension and branch.child("url") is None:
            return _url(extension[0])
        return all_of([discriminators.match(d["type"], d["path"], branch) for d in rows])

    def _children(self, branch: Branch) -> list[Branch]:
        """Those of the snapshot, else those of the profile or type."""
        if branch.children:
            return branch.children
        codes = [_code(one) for one in branch.element.get("type", ())]
        urls = profiles_of(branch) or [BASE + code for code in codes[:1]]
        found = self._find(urls[0]) if urls else None
        return grown(found["snapshot"]["element"]).children if found is not None else []


def _rules(definitions: Definitions) -> Mapping[str, str]:
    """Key of an invariant of FHIR's own types -> its expression, "" where it need not be
    evaluated: structural validation has a row for it, or it only recommends.
    """
    found: dict[str, str] = {}
    for type_ in definitions.types.values():
        for path, element in type_.elements.items():
            for one in element.constraints:
                known = one.key in ELSEWHERE or has_row(path, one.key)
                found[one.key] = "" if known or one.severity != "error" else one.expression
    return found


def _nothing(node: Node, judging: Judging) -> None:
    """A profile that adds nothing."""


def _together(checks: list[Check]) -> Check | None:
    if len(checks) <= 1:
        return checks[0] if checks else None
    all_ = tuple(checks)

    def check(node: Node, judging: Judging) -> None:
        for one in all_:
            one(node, judging)

    return check


def _counted(
    model: Any,
    name: str,
    least: int,
    most: int | None,
    each: Check | None,
    slicing: Slicing | None,
) -> Check:
    elements = model.elements

    def check(node: Node, judging: Judging) -> None:
        properties = elements(node.property.path).get(name)
        if properties is None:
            return
        items: list[Node] = []
        children_of(node, properties, items)
        if len(items) < least:
            many = (
                f"at least {least} are required, not {len(items)}" if least > 1 else "is required"
            )
            judging.add(node, "required", f"{name}: {many}", name)
        if most is not None and len(items) > most:
            many = f"at most {most} are allowed, not {len(items)}" if most else "is not allowed"
            judging.add(items[max(most, 0)], "structure", f"{name}: {many}")
        if each is not None:
            for item in items:
                each(item, judging)
        if slicing is not None:
            slicing.judge(items, node, judging)

    return check


def _most(element: Json) -> int | None:
    most = element.get("max", "*")
    return None if most == "*" else int(most)


def _code(type_: Json) -> str:
    """The FHIR type of a row, also where it says how the type is written."""
    for extension in type_.get("extension", ()):
        if extension.get("url") == BASE + "structuredefinition-fhir-type":
            return str(extension.get("valueUrl", ""))
    code: str = type_.get("code", "")
    return "string" if code.startswith(_SYSTEM) else code


def _value(fits: Callable[[Any], bool], said: Any) -> Check:
    kind, expected = said

    def check(node: Node, judging: Judging) -> None:
        if not fits(node.value):
            verb = "must be" if kind == "fixed" else "must have"
            judging.add(node, "value", f"{verb} {shown(expected)}")

    return check


def _type(codes: frozenset[str], is_subtype: Callable[[str, str], bool]) -> Check:
    def check(node: Node, judging: Judging) -> None:
        type_ = node.type
        if type_ not in codes and not any(is_subtype(type_, one) for one in codes):
            judging.add(node, "structure", f"must be {' or '.join(sorted(codes))}, not {type_}")

    return check


def _profiled(types: Iterable[Json]) -> Check:
    """A value conforms to one of the profiles that its type may have."""
    rows = [(_code(one), tuple(one.get("profile", ()))) for one in types]

    def check(node: Node, judging: Judging) -> None:
        free = any(not urls for code, urls in rows if code in (node.type, "Resource"))
        urls = [url for code, urls in rows if code in (node.type, "Resource") for url in urls]
        if free or not urls:
            return
        if len(urls) == 1:
            profile = judging.definitions.profile(urls[0])
            if profile is not None:
                judging.run(profile, node)
        elif not any(judging.conforms(node, url) for url in urls):
            judging.add(node, "structure", f"conforms to none of {', '.join(urls)}")

    return check


def _is_url(rows: Iterable[Json]) -> bool:
    return [(d.get("type"), d.get("path")) for d in rows] == [("value", "url")]


def _url(url: str) -> Match:
    bare = url.partition("|")[0]
    return lambda node, judging: isinstance(node.value, dict) and node.value.get("url") == bare
