"""From rules and definitions to closures: each resource is walked once.

A node's rule is the first in the profile's order that matches the node or one above it in the
same resource. Which one that is depends on the path from the root, so it is decided when a
path is met for the first time: the state on the way down is the best rule so far and the rules
that may still match below. A ``where`` is asked at its node and picks a variant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from fhir_server.fhirpath.syntax import Syntax
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unprocessable
from operations.deid.elements import Elements, Field
from operations.deid.handlers import (
    Handler,
    Spot,
    Walk,
    complex_,
    dropping,
    fillers,
    owning,
    primitive,
    unknown,
    whole_extension,
)
from operations.deid.paths import (
    Advance,
    Open,
    Path,
    enter_element,
    enter_resource,
    equals_literal,
)
from operations.deid.run import Run
from operations.deid.subjects import subject_of
from operations.deid.transforms.base import SUBJECT, Method, Site, unchanged

Truth: TypeAlias = Callable[[Json], bool]


class State(NamedTuple):
    """``rule``: the best so far (the number of rules: the default); ``open``: better ones that
    may match below; ``owned``: the rule's method answers for the whole value above."""

    rule: int
    open: frozenset[Open]
    owned: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A profile, bound: the path, method and leave-a-mark flag of each rule, the default's
    method last. A rule with a union of paths is here once for each; ``numbers``: its place in the
    profile. ``needs``: of all methods."""

    paths: tuple[Path, ...]
    methods: tuple[Method, ...]
    leaves: tuple[bool, ...]
    keeps: frozenset[int]
    numbers: tuple[int, ...]
    needs: frozenset[str]


class Table(dict[str, Handler]):
    """The handlers of one object's properties, made when a property is first met.

    A property that the definitions do not have goes, and is not remembered: its name is the
    sender's.
    """

    def __init__(self, make: Callable[[str], Handler | None]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: str) -> Handler:
        handler = self._make(key)
        if handler is None:
            return unknown
        self[key] = handler
        return handler


class Compiler:
    """``resource(type)`` is the walk of a resource type; compiled parts are shared and kept."""

    def __init__(
        self,
        plan: Plan,
        elements: Elements,
        truth: Callable[[Syntax], Truth],
        label: Callable[[Json], None],
    ) -> None:
        self._plan, self._elements = plan, elements
        self._truth, self._label = truth, label
        self._resources: dict[str, Walk] = {}
        self._walks: dict[tuple[str, State], Walk] = {}
        self._named = {step.value for path in plan.paths for step in path}
        self._entered: dict[tuple[frozenset[Open], str, str], list[Advance]] = {}
        self._states: dict[tuple[State, str, str], State] = {}

    def resource(self, type_: str) -> Walk:
        """Raises Unprocessable for an unknown type."""
        walk = self._resources.get(type_)
        if walk is None:
            if type_ not in self._elements.resource_types:
                raise Unprocessable("unknown resource type", code="structure")
            ancestry = self._elements.ancestry(type_)
            start = State(len(self._plan.paths), frozenset())
            advances = enter_resource(self._plan.paths, ancestry)
            walk = self._variants(start, advances, lambda s: self._walk(type_, s))
            self._resources[type_] = walk
        return walk

    def whole(self, resource: Json, run: Run) -> Json:
        """A resource that is not contained: names inside are its own, it bears the labels."""
        own = f"{resource.get('resourceType')}/{resource.get('id', '')}"
        subject = subject_of(resource, run) if SUBJECT in self._plan.needs else own
        outer, inside = run.open_container(own, subject), run.inside
        run.inside = False
        around = run.open_bundle(resource) if resource.get("resourceType") == "Bundle" else run.here
        result = self._counted(resource, run)
        run.inside, run.here = inside, around
        run.close_container(outer)
        self._label(result)
        return result

    def deciding(self) -> frozenset[int]:
        """The rules (their numbers) that decide about some element of some type."""
        last, done = len(self._plan.paths), set[tuple[str, State]]()
        rules: set[int] = set()
        todo: list[tuple[str, State]] = []
        for type_ in self._elements.resource_types:
            start = State(last, frozenset())
            advances = enter_resource(self._plan.paths, self._elements.ancestry(type_))
            todo += [(type_, state) for state in self._possible(start, advances)]
        while todo:
            content, state = todo.pop()
            rules.add(state.rule)
            if (content, state) not in done:
                done.add((content, state))
                for field in self._elements.fields(content).values():
                    for here in self._possible(state, self._enter(state, field)):
                        rules.add(here.rule)
                        todo += self._inside(field, f"{content}.{field.name}", here, state)
        return frozenset(self._plan.numbers[rule] for rule in rules if rule < last)

    def _possible(self, state: State, advances: list[Advance]) -> set[State]:
        """With none, all, or one of the conditions holding."""
        wheres = frozenset(where for advance in advances for where in advance.where)
        holding = {frozenset[Syntax](), wheres, *(frozenset((where,)) for where in wheres)}
        return {self._advance(state, advances, some) for some in holding}

    def _inside(
        self, field: Field, path: str, here: State, above: State
    ) -> list[tuple[str, State]]:
        """What is walked below a field: nothing where a rule takes the whole of it."""
        if field.type == "Resource":
            return []
        if not field.content:
            return [("Element", self._beside(field, here, above))]
        method = self._plan.methods[here.rule]
        if method.drops and not here.owned and self._only_drops(here):
            return []
        matched = here.rule != above.rule
        if matched and method.node(Site(path, field.key, field.type)) is not None:
            inner = State(here.rule, here.open, owned=True)
            return [(field.content, inner)] if here.open else []
        return [(field.content, here)]

    def _counted(self, resource: Json, run: Run) -> Json:
        """A resource of any type, counted from its type on."""
        type_ = str(resource.get("resourceType"))
        walk, above = self.resource(type_), run.at
        run.at = run.tally.at(type_)
        result = walk(resource, run)
        run.at = above
        return result

    def _variants(
        self, state: State, advances: list[Advance], build: Callable[[State], Walk]
    ) -> Walk:
        """The walk of a state, or one that first asks the conditions of its rules."""
        wheres = list(dict.fromkeys(w for a in advances for w in a.where))
        if not wheres:
            return build(self._advance(state, advances, frozenset()))
        tests = [(where, self._test(where)) for where in wheres]
        variants: dict[frozenset[Syntax], Walk] = {}

        def choose(src: Json, run: Run) -> Json:
            holding = frozenset(where for where, test in tests if test(src))
            walk = variants.get(holding)
            if walk is None:
                walk = variants[holding] = build(self._advance(state, advances, holding))
            return walk(src, run)

        return choose

    def _test(self, where: Syntax) -> Truth:
        urls = equals_literal(where, "url")
        if urls is not None:
            return lambda node: node.get("url") in urls
        return self._truth(where)

    def _enter(self, state: State, field: Field) -> list[Advance]:
        """What the open rules become at a field. Names that no rule speaks of are all alike."""
        name = field.name if field.name in self._named else ""
        key = (state.open, name, field.type)
        advances = self._entered.get(key)
        if advances is None:
            advances = enter_element(self._plan.paths, state.open, name, field.type)
            self._entered[key] = advances
        return advances

    def _advance(self, state: State, advances: list[Advance], holding: frozenset[Syntax]) -> State:
        holds = [a for a in advances if holding.issuperset(a.where)]
        rule = min([state.rule, *[a.rule for a in holds if a.step is None]])
        opened = frozenset(
            [Open(a.rule, a.step) for a in holds if a.step is not None and a.rule < rule]
        )
        return State(rule, opened, state.owned and rule == state.rule)

    def _unconditional(self, state: State, field: Field) -> State:
        """The state at a field if no condition holds."""
        name = field.name if field.name in self._named else ""
        key = (state, name, field.type)
        found = self._states.get(key)
        if found is None:
            found = self._advance(state, self._enter(state, field), frozenset())
            self._states[key] = found
        return found

    def _walk(self, content: str, state: State) -> Walk:
        key = (content, state)
        if key not in self._walks:
            self._walks[key] = self._object(content, state)
        return self._walks[key]

    def _object(self, content: str, state: State) -> Walk:
        fields = self._elements.fields(content)
        required = fillers(fields, self._elements)
        resource = content in self._elements.resource_types

        def make(key: str) -> Handler | None:
            if resource and key == "resourceType":
                return _copy_type
            field = fields.get(key)
            if field is not None:
                return self._field(field, content, state)
            field = fields.get(key[1:]) if key.startswith("_") else None
            if field is None or field.content or field.type == "Resource":
                return None
            return _alone(field.key, self._field(field, content, state))

        table = Table(make)

        def walk(src: Json, run: Run) -> Json:
            out: Json = {}
            for key in src:
                table[key](src, out, run)
            if out:
                for fill in required:
                    fill(src, out, run)
            return out

        return walk

    def _field(self, field: Field, content: str, state: State) -> Handler:
        path = f"{content}.{field.name}"
        here = self._unconditional(state, field)
        if field.type == "Resource":
            return self._nested(field, path, here, state)
        if not field.content:
            return self._primitive(field, path, here, state)
        advances = self._enter(state, field)
        walk = self._variants(state, advances, lambda s: self._complex(field, path, s, state))
        return complex_(field, path, walk, self._leave(here, state))

    def _primitive(self, field: Field, path: str, here: State, above: State) -> Handler:
        method = self._plan.methods[here.rule]
        leaf = (
            unchanged
            if here.owned
            else method.leaf(Site(path, field.key, field.type, field.values))
        )
        side = self._walk("Element", self._beside(field, here, above))
        spot = Spot(field, path, self._number(here.rule), self._leave(here, above), here.owned)
        return primitive(spot, leaf, side)

    def _beside(self, field: Field, here: State, above: State) -> State:
        """The state for id and extensions of a primitive: what keeps a value does not by that
        keep what is beside it."""
        if here.owned or here.rule not in self._plan.keeps:
            return State(here.rule, here.open)
        passing = [a for a in self._enter(above, field) if a.step is not None]
        return self._advance(above, passing, frozenset())

    def _complex(self, field: Field, path: str, here: State, above: State) -> Walk:
        method = self._plan.methods[here.rule]
        if method.drops and not here.owned and self._only_drops(here):
            return dropping(self._number(here.rule))
        matched = here.rule != above.rule
        node = method.node(Site(path, field.key, field.type)) if matched else None
        if node is not None:
            inner = State(here.rule, here.open, owned=True)
            walked = self._walk(field.content, inner) if here.open else None
            return owning(self._number(here.rule), walked, node)
        walk = self._walk(field.content, here)
        if field.type == "Extension":
            return whole_extension(self._number(here.rule), walk)
        return walk

    def _nested(self, field: Field, path: str, here: State, above: State) -> Handler:
        """A resource inside: the rules start afresh, unless one takes the element itself."""
        gone = here.rule != above.rule and self._plan.methods[here.rule].drops
        drop = dropping(self._number(here.rule))

        def walk(src: Json, run: Run) -> Json:
            if gone:
                return drop(src, run)
            if field.key != "contained":
                return self.whole(src, run)
            run.inside = True
            result = self._counted(src, run)
            run.inside = False
            return result

        return complex_(field, path, walk, leave=False)

    def _only_drops(self, state: State) -> bool:
        """Would every rule that may still match take its node away as well?"""
        return all(self._plan.methods[o.rule].drops for o in state.open)

    def _leave(self, here: State, above: State) -> bool:
        return self._plan.leaves[here.rule] and here.rule != above.rule

    def _number(self, rule: int) -> int | None:
        return self._plan.numbers[rule] if rule < len(self._plan.paths) else None


def _copy_type(src: Json, out: Json, _run: Run) -> None:
    out["resourceType"] = src["resourceType"]


def _alone(key: str, handler: Handler) -> Handler:
    """``_key`` without ``key``; with it, the handler of ``key`` has done both."""

    def handle(src: Json, out: Json, run: Run) -> None:
        if key not in src:
            handler(src, out, run)

    return handle
