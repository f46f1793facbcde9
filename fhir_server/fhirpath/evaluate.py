"""Evaluation: the syntax tree compiled to closures, once per expression.

A compiled expression is called with ``$this`` (which is also what a name without a base
starts from) and the run. http://hl7.org/fhirpath/N1/, https://hl7.org/fhir/R4/fhirpath.html
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias, assert_never

from fhir_server.fhirpath.constants import constant
from fhir_server.fhirpath.context import Context, Lambda, Run
from fhir_server.fhirpath.errors import FhirPathError, FhirPathNotSupported
from fhir_server.fhirpath.functions import FUNCTIONS, NOT_YET
from fhir_server.fhirpath.functions.registry import Function, Kind, SortKey
from fhir_server.fhirpath.functions.types import as_type, is_type
from fhir_server.fhirpath.node import (
    CONVERTED,
    Collection,
    Json,
    Node,
    Property,
    Untyped,
    children,
    root,
)
from fhir_server.fhirpath.operators import LOGIC, OPERATORS, boolean, equals, negative, positive
from fhir_server.fhirpath.parse import parse
from fhir_server.fhirpath.syntax import (
    Binary,
    Call,
    Constant,
    Empty,
    Indexer,
    Literal,
    Member,
    Syntax,
    TypeName,
    TypeTest,
    Unary,
    Variable,
)
from fhir_server.fhirpath.values import System

Value: TypeAlias = System | dict[str, Json]
_DEFAULT = Context()
_UNEVALUATED = frozenset((Kind.LAMBDA, Kind.KEY, Kind.TYPE))


class Expression:
    """A compiled expression, free of state: share it."""

    __slots__ = ("_run", "text", "tree")

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = parse(text)
        self._run = _compile(self.tree)

    @classmethod
    def of(cls, tree: Syntax, text: str) -> Expression:
        """The expression of a tree that is already parsed, such as a criterion of another;
        ``text`` names it in errors."""
        made = cls.__new__(cls)
        made.text, made.tree, made._run = text, tree, _compile(tree)
        return made

    def items(self, subject: Json | Node, context: Context = _DEFAULT) -> Collection:
        """The result as elements (Node) and System values.

        ``subject``: a resource, or a Node of one. Raises FhirPathError.
        """
        start = subject if isinstance(subject, Node) else root(subject)
        top = start
        while top.parent is not None:
            top = top.parent
        if context.resource is not None:
            top = root(context.resource)
        return self._run([start], Run(context, start, top))

    def evaluate(self, subject: Json | Node, context: Context = _DEFAULT) -> list[Value]:
        """The result as values: System values, and the JSON of elements.

        Elements of a date type and the like come as the text they are in JSON; elements
        without a value (only extensions) are left out.
        """
        items = self.items(subject, context)
        values = [item.value if isinstance(item, Node) else item for item in items]
        return [value for value in values if value is not None]

    def locate(self, subject: Json | Node, context: Context = _DEFAULT) -> list[Node]:
        """The elements of the result, each with its place (see Node); values are left out."""
        return [item for item in self.items(subject, context) if isinstance(item, Node)]

    def truth(self, subject: Json | Node, context: Context = _DEFAULT) -> bool | None:
        """The result as a boolean, None when empty.

        An invariant of R4 is broken when this is False: several published ones are empty on
        what they are not about (ref-1 on a Reference with only a display).
        """
        return boolean(self.items(subject, context), self.text[:50])

    def holds(self, subject: Json | Node, context: Context = _DEFAULT) -> bool:
        """Whether the result is true: empty is not."""
        return self.truth(subject, context) is True

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


@lru_cache(maxsize=4096)
def compile(text: str) -> Expression:
    """The expression of a text, kept: for those of definitions, models and profiles.

    What a client sends once is better given to ``Expression``, which keeps nothing.
    Raises FhirPathSyntaxError, FhirPathNotSupported (an unknown function) or FhirPathError
    (a wrong number of arguments).
    """
    return Expression(text)


def locate(text: str, resource: Json, context: Context = _DEFAULT) -> list[Node]:
    """Where in a resource an expression hits."""
    return compile(text).locate(resource, context)


def _compile(tree: Syntax) -> Lambda:
    match tree:
        case Empty():
            return lambda this, run: []
        case Literal(value):
            return lambda this, run: [value]
        case Variable(name):
            return _VARIABLES[name]
        case Constant(name):
            return lambda this, run: constant(name, run)
        case Member(None, name):
            return _first_member(name)
        case Member(base, name):
            assert base is not None
            return _after(_compile(base), _member(name))
        case Call():
            return _call(tree)
        case Indexer(base, index):
            return _indexer(_compile(base), _compile(index))
        case Unary(operator, operand):
            return _unary(operator, _compile(operand))
        case Binary(operator, left, right):
            if operator == "=" and isinstance(right, Literal) and isinstance(right.value, str):
                return _equals_text(_compile(left), right.value)
            return _binary(operator, _compile(left), _compile(right))
        case TypeTest(operator, operand, type_):
            return _type_test(operator, _compile(operand), type_)
        case _:
            assert_never(tree)


_VARIABLES: dict[str, Lambda] = {
    "$this": lambda this, run: this,
    "$index": lambda this, run: [] if run.index is None else [run.index],
    "$total": lambda this, run: run.total,
}


def _after(first: Lambda, then: Lambda) -> Lambda:
    return lambda this, run: then(first(this, run), run)


def _member(name: str) -> Lambda:
    plain = (Property(name, name),)

    def step(items: Collection, run: Run) -> Collection:
        run.left -= len(items) + 1
        if run.left < 0:
            run.spend(0)
        model = run.model
        path = None
        properties: tuple[Property, ...] = ()
        found: list[Any] = []
        for item in items:
            if type(item) is not Node:
                _refuse_member(item, name, run)
                continue
            if model is None or not item.property.path:
                children(item, Untyped.named(item, name, plain), found)
                continue
            if item.property.path is not path:
                path = item.property.path
                properties = model.elements(path).get(name, ())
                if not properties:
                    _refuse_member(item, name, run)
            children(item, properties, found)
        return found

    return step


def _refuse_member(item: Any, name: str, run: Run) -> None:
    if run.context.strict:
        where = item.type if isinstance(item, Node) else "a System value"
        raise FhirPathError(f"{where} has no element {name}")


def _first_member(name: str) -> Lambda:
    """A name at the start: the type of the context, or an element of it."""
    step = _member(name)
    if not name[0].isupper():
        return step

    def start(this: Collection, run: Run) -> Collection:
        for item in this:
            if type(item) is Node and item.property.type:
                if item.property.type == name:
                    return this
                if run.model is not None and run.model.is_subtype(item.property.type, name):
                    return this
        return step(this, run)

    return start


def _indexer(base: Lambda, index: Lambda) -> Lambda:
    def at(this: Collection, run: Run) -> Collection:
        items = base(this, run)
        position = index(this, run)
        if not position:
            return []
        i = position[0].system if isinstance(position[0], Node) else position[0]
        if len(position) > 1 or isinstance(i, bool) or not isinstance(i, int):
            raise FhirPathError("An index is one Integer")
        return items[i : i + 1] if i >= 0 else []

    return at


def _unary(operator: str, operand: Lambda) -> Lambda:
    apply = negative if operator == "-" else positive
    return lambda this, run: apply(operand(this, run))


def _binary(operator: str, left: Lambda, right: Lambda) -> Lambda:
    if operator in LOGIC:
        return _logic(operator, left, right)
    apply = OPERATORS[operator]

    def binary(this: Collection, run: Run) -> Collection:
        run.spend(1)
        return apply(run, left(this, run), right(this, run))

    return binary


def _equals_text(left: Lambda, text: str) -> Lambda:
    """``code = 'x'``, the commonest of all criteria, without the general road."""

    def equals_text(this: Collection, run: Run) -> Collection:
        run.left -= 1
        items = left(this, run)
        if len(items) == 1:
            item = items[0]
            if type(item) is Node and item.property.type not in CONVERTED:
                value = item.value
                if type(value) is str:
                    return [value == text]
        return equals(run, items, [text])

    return equals_text


def _logic(operator: str, left: Lambda, right: Lambda) -> Lambda:
    table, settled = LOGIC[operator]

    def logic(this: Collection, run: Run) -> Collection:
        a = boolean(left(this, run), operator)
        if a is not None and a is settled:
            return [table(a, None) is True]
        answer = table(a, boolean(right(this, run), operator))
        return [] if answer is None else [answer]

    return logic


def _type_test(operator: str, operand: Lambda, type_: TypeName) -> Lambda:
    if operator == "is":
        return lambda this, run: is_type(run, operand(this, run), type_)
    # more than one item: the R4 search parameters filter by ``as``
    return lambda this, run: as_type(run, operand(this, run), type_)


def _call(tree: Call) -> Lambda:
    function = FUNCTIONS.get(tree.name)
    if function is None:
        known = "is not supported yet" if tree.name in NOT_YET else "is unknown"
        raise FhirPathNotSupported(f"Function {tree.name}() {known}")
    if len(tree.arguments) < function.required:
        raise FhirPathError(f"{tree.name}() takes at least {function.required} arguments")
    kinds = [function.kind(i) for i in range(len(tree.arguments))]
    base = _VARIABLES["$this"] if tree.base is None else _compile(tree.base)
    if not kinds:
        call = function.call
        return lambda this, run: call(run, base(this, run))
    fixed = [
        _argument(kind, argument) for kind, argument in zip(kinds, tree.arguments, strict=True)
    ]
    if any(kind in _UNEVALUATED for kind in kinds):
        return _lazy(function, base, kinds, fixed)
    return _eager(function, base, fixed)


def _argument(kind: Kind, argument: Syntax) -> Any:
    match kind, argument:
        case Kind.TYPE, _:
            return _type_name(argument)
        case Kind.KEY, Unary("-", operand):
            return SortKey(_compile(operand), descending=True)
        case Kind.KEY, _:
            return SortKey(_compile(argument), descending=False)
    return _compile(argument)


def _eager(function: Function, base: Lambda, arguments: list[Lambda]) -> Lambda:
    call = function.call

    def eager(this: Collection, run: Run) -> Collection:
        return call(run, base(this, run), *[argument(this, run) for argument in arguments])

    return eager


def _lazy(function: Function, base: Lambda, kinds: list[Kind], fixed: list[Any]) -> Lambda:
    call = function.call
    if all(kind in _UNEVALUATED for kind in kinds):
        return lambda this, run: call(run, base(this, run), *fixed)

    def lazy(this: Collection, run: Run) -> Collection:
        arguments = [
            argument if kind in _UNEVALUATED else argument(this, run)
            for kind, argument in zip(kinds, fixed, strict=True)
        ]
        return call(run, base(this, run), *arguments)

    return lazy


def _type_name(argument: Syntax) -> TypeName:
    match argument:
        case Member(None, name):
            return TypeName(None, name)
        case Member(Member(None, namespace), name):
            return TypeName(namespace, name)
    raise FhirPathError("A type is a name such as FHIR.Patient")
