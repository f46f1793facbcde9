"""A Pratt parser for FHIRPath 2.0: http://hl7.org/fhirpath/N1/#grammar."""

from __future__ import annotations

from decimal import Decimal

from fhir_server.fhirpath.errors import FhirPathSyntaxError
from fhir_server.fhirpath.lex import Kind, Token, tokenize
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
from fhir_server.fhirpath.values import CALENDAR_UNITS, Date, DateTime, Quantity, Time

# http://hl7.org/fhirpath/N1/#operator-precedence, weakest first
_LEVELS = (
    ("implies",),
    ("or", "xor"),
    ("and",),
    ("in", "contains"),
    ("=", "~", "!=", "!~"),
    ("<", ">", "<=", ">="),
    ("|",),
    ("is", "as"),
    ("+", "-", "&"),
    ("*", "/", "div", "mod"),
)
PRECEDENCE = {operator: i + 1 for i, level in enumerate(_LEVELS) for operator in level}
_UNARY = len(_LEVELS) + 1
_TYPE_OPERATORS = frozenset(("is", "as"))
_NAMES_AND_OPERATORS = frozenset(("as", "contains", "in", "is"))
_NAMESPACES = frozenset(("FHIR", "System"))

MAX_NESTING = 50
"""Brackets, arguments and operands inside each other."""
MAX_CHAIN = 300
"""Steps or operators in a row (``a.b.c``, ``a | b | c``)."""


def parse(text: str) -> Syntax:
    """The syntax tree of an expression. Raises FhirPathSyntaxError."""
    parser = _Parser(tokenize(text))
    tree = parser.expression(0)
    if parser.token.kind is not Kind.END:
        raise parser.unexpected()
    return tree


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._nesting = 0
        self._links = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._next]

    def advance(self) -> Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def unexpected(self) -> FhirPathSyntaxError:
        kind, text, position = self.token
        what = "end of expression" if kind is Kind.END else repr(text)
        return FhirPathSyntaxError(f"Unexpected {what}", position)

    def at(self, symbol: str) -> bool:
        return self.token.kind is Kind.SYMBOL and self.token.text == symbol

    def accept(self, symbol: str) -> bool:
        if self.at(symbol):
            self._next += 1
            return True
        return False

    def expect(self, symbol: str) -> None:
        if not self.accept(symbol):
            raise self.unexpected()

    def expression(self, floor: int) -> Syntax:
        """Everything that binds tighter than ``floor``."""
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise FhirPathSyntaxError("Nested too deeply", self.token.position)
        tree = self.operand()
        while (operator := self.operator()) and PRECEDENCE[operator] > floor:
            self.link()
            self.advance()
            if operator in _TYPE_OPERATORS:
                tree = TypeTest(operator, tree, self.type_name())
            else:
                tree = Binary(operator, tree, self.expression(PRECEDENCE[operator]))
        self._nesting -= 1
        return tree

    def link(self) -> None:
        self._links += 1
        if self._links > MAX_CHAIN:
            raise FhirPathSyntaxError("Too many steps", self.token.position)

    def operator(self) -> str:
        kind, text, _ = self.token
        return text if kind in (Kind.SYMBOL, Kind.WORD) and text in PRECEDENCE else ""

    def operand(self) -> Syntax:
        for sign in ("+", "-"):
            if self.accept(sign):
                return Unary(sign, self.expression(_UNARY))
        return self.postfix(self.term())

    def postfix(self, tree: Syntax) -> Syntax:
        while True:
            if self.accept("."):
                tree = self.invocation(tree)
            elif self.accept("["):
                tree = Indexer(tree, self.expression(0))
                self.expect("]")
            else:
                return tree
            self.link()

    def term(self) -> Syntax:
        kind, text, _ = self.token
        match kind:
            case Kind.NUMBER | Kind.STRING | Kind.DATE | Kind.TIME:
                return self.literal()
            case Kind.VARIABLE:
                self.advance()
                return Variable(text)
            case Kind.DELIMITED:
                return self.invocation(None)
            case Kind.WORD if text in ("true", "false"):
                self.advance()
                return Literal(text == "true")
            case Kind.WORD if text not in PRECEDENCE or text in _NAMES_AND_OPERATORS:
                return self.invocation(None)
        if self.accept("("):
            tree = self.expression(0)
            self.expect(")")
            return tree
        if self.accept("{"):
            self.expect("}")
            return Empty()
        if self.accept("%"):
            return self.constant()
        raise self.unexpected()

    def constant(self) -> Syntax:
        if self.token.kind not in (Kind.WORD, Kind.DELIMITED, Kind.STRING):
            raise self.unexpected()
        return Constant(self.advance().text)

    def name(self) -> str:
        if self.token.kind not in (Kind.WORD, Kind.DELIMITED):
            raise self.unexpected()
        return self.advance().text

    def invocation(self, base: Syntax | None) -> Syntax:
        name = self.name()
        if not self.accept("("):
            return Member(base, name)
        arguments: list[Syntax] = []
        if not self.accept(")"):
            arguments.append(self.expression(0))
            while self.accept(","):
                arguments.append(self.expression(0))
            self.expect(")")
        return Call(base, name, tuple(arguments))

    def type_name(self) -> TypeName:
        name = self.name()
        if name in _NAMESPACES and self.accept("."):
            return TypeName(name, self.name())
        return TypeName(None, name)

    def literal(self) -> Syntax:
        kind, text, position = self.advance()
        if kind is Kind.STRING:
            return Literal(text)
        if kind is Kind.NUMBER:
            return self.number(text)
        try:
            if kind is Kind.TIME:
                return Literal(Time.parse(text[2:]))
            if "T" in text:
                return Literal(DateTime.parse(text[1:]))
            return Literal(Date.parse(text[1:]))
        except ValueError as error:
            raise FhirPathSyntaxError(str(error), position) from None

    def number(self, text: str) -> Syntax:
        if len(text) > 100:
            raise FhirPathSyntaxError("Number too long", self.token.position)
        unit = self.token
        if unit.kind is Kind.STRING or (unit.kind is Kind.WORD and unit.text in CALENDAR_UNITS):
            self.advance()
            return Literal(Quantity(Decimal(text), CALENDAR_UNITS.get(unit.text, unit.text)))
        return Literal(Decimal(text) if "." in text else int(text))
