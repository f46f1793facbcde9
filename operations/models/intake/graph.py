"""What an ONNX file holds, read without loading it: https://onnx.ai/onnx/repo-docs/IR.html

Protocol buffers are walked by their wire format
(https://protobuf.dev/programming-guides/encoding/), so that nothing native meets the file
before it is judged. Refused: data in other files, operators of other domains than ONNX's own,
functions, training parts, tensors beyond what the file itself holds, loops (and loops in loops,
together) without a small fixed number of rounds, deep nesting. Raises ``GraphError``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Final, TypeAlias

DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml"})
MOST_NODES: Final = 100_000
MOST_TENSORS: Final = 100_000
MOST_ELEMENTS: Final = 128 * 1024 * 1024
"""Of all tensors together."""
MOST_ROUNDS: Final = 10_000
DEEPEST: Final = 8
"""Graphs inside graphs."""
INT64: Final = 7

Message: TypeAlias = memoryview
Value: TypeAlias = "int | memoryview"


class GraphError(Exception):
    """The graph is refused; the text is the reason."""


class Model:
    """Field numbers of ``ModelProto`` (onnx.proto3)."""

    IR_VERSION, GRAPH, OPSETS, TRAINING, FUNCTIONS = 1, 7, 8, 20, 25


class Graph:
    NODE, INITIALIZER, OUTPUT, INPUT, SPARSE = 1, 5, 12, 11, 15


class Node:
    INPUT, OUTPUT, OP_TYPE, ATTRIBUTE, DOMAIN = 1, 2, 4, 5, 7


class Attribute:
    TENSOR, GRAPH, TENSORS, GRAPHS, SPARSE, SPARSES = 5, 6, 10, 11, 22, 23


class Tensor:
    DIMS, TYPE, INT64S, NAME, RAW, EXTERNAL, LOCATION = 1, 2, 7, 8, 9, 13, 14


def judge(data: bytes) -> None:
    """Raises GraphError."""
    try:
        _Judging(len(data)).model(memoryview(data))
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise GraphError("model.onnx is not an ONNX file") from error


@dataclass(slots=True)
class _Judging:
    size: int
    nodes: int = 0
    tensors: int = 0
    elements: int = 0
    rounds: int = 1
    """Of the loops around."""
    constants: list[dict[str, int]] = field(default_factory=list)
    """Scalars of INT64 by name, of each graph around."""

    def model(self, model: Message) -> None:
        found = _by_number(model)
        if not found.get(Model.IR_VERSION) or len(found.get(Model.GRAPH, ())) != 1:
            raise GraphError("model.onnx is not an ONNX file")
        if found.get(Model.FUNCTIONS):
            raise GraphError("model.onnx defines functions of its own")
        if found.get(Model.TRAINING):
            raise GraphError("model.onnx holds a training part")
        for opset in found.get(Model.OPSETS, ()):
            _known_domain(_text(_by_number(_message(opset)).get(1, ())))
        self.graph(_message(found[Model.GRAPH][0]), 1)

    def graph(self, graph: Message, depth: int) -> None:
        if depth > DEEPEST:
            raise GraphError(f"model.onnx nests graphs more than {DEEPEST} deep")
        found = _by_number(graph)
        for sparse in found.get(Graph.SPARSE, ()):
            self.sparse(_message(sparse))
        self.constants.append({})
        for tensor in found.get(Graph.INITIALIZER, ()):
            self.tensor(_message(tensor))
        for node in found.get(Graph.NODE, ()):
            self.node(_message(node), depth)
        self.constants.pop()

    def node(self, node: Message, depth: int) -> None:
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise GraphError(f"model.onnx has more than {MOST_NODES} nodes")
        found = _by_number(node)
        _known_domain(_text(found.get(Node.DOMAIN, ())))
        operator = _text(found.get(Node.OP_TYPE, ()))
        inputs = [bytes(_message(name)).decode() for name in found.get(Node.INPUT, ())]
        outputs = [bytes(_message(name)).decode() for name in found.get(Node.OUTPUT, ())]
        around = self.rounds
        if operator == "Loop":
            own = self._rounds(inputs)
            if own < 0 or own * around > MOST_ROUNDS:
                raise GraphError(f"model.onnx loops without a fixed limit of {MOST_ROUNDS} rounds")
            self.rounds *= max(own, 1)
        for attribute in found.get(Node.ATTRIBUTE, ()):
            self.attribute(_message(attribute), depth, outputs if operator == "Constant" else [])
        self.rounds = around

    def _rounds(self, inputs: Sequence[str]) -> int:
        name = inputs[0] if inputs else ""
        for known in reversed(self.constants):
            if name in known:
                return known[name]
        return -1

    def attribute(self, attribute: Message, depth: int, names: Sequence[str]) -> None:
        found = _by_number(attribute)
        for number in (Attribute.TENSOR, Attribute.TENSORS):
            for tensor in found.get(number, ()):
                self.tensor(_message(tensor), names)
        for number in (Attribute.SPARSE, Attribute.SPARSES):
            for sparse in found.get(number, ()):
                self.sparse(_message(sparse))
        for number in (Attribute.GRAPH, Attribute.GRAPHS):
            for graph in found.get(number, ()):
                self.graph(_message(graph), depth + 1)

    def tensor(self, tensor: Message, names: Sequence[str] = ()) -> None:
        """An initialiser, or the value of a Constant that has these ``names``."""
        found = _by_number(tensor)
        if found.get(Tensor.EXTERNAL) or any(found.get(Tensor.LOCATION, ())):
            raise GraphError("model.onnx keeps data in another file")
        dims = _numbers(found.get(Tensor.DIMS, ()))
        if any(size < 0 for size in dims):
            raise GraphError("model.onnx has a tensor of negative size")
        self.tensors += 1
        self.elements += prod(dims)
        # The smallest element takes half a byte (INT4), so a tensor is no larger than the file.
        if prod(dims) > 2 * self.size or self.elements > MOST_ELEMENTS:
            raise GraphError("model.onnx has a tensor that is larger than its data")
        if self.tensors > MOST_TENSORS:
            raise GraphError(f"model.onnx has more than {MOST_TENSORS} tensors")
        if prod(dims) == 1 and found.get(Tensor.TYPE) == [INT64]:
            for name in names or [_text(found.get(Tensor.NAME, ()))]:
                self.constants[-1][name] = _scalar(found)

    def sparse(self, sparse: Message) -> None:
        """``SparseTensorProto``: values, indices, dims (of the dense form)."""
        found = _by_number(sparse)
        for number in (1, 2):
            for tensor in found.get(number, ()):
                self.tensor(_message(tensor))
        dims = _numbers(found.get(3, ()))
        if any(size < 0 for size in dims) or prod(dims) > MOST_ELEMENTS // 16:
            raise GraphError("model.onnx has a sparse tensor that is too large")


def _known_domain(domain: str) -> None:
    if domain not in DOMAINS:
        raise GraphError(f"model.onnx uses operators of the domain {domain[:60]!a}")


def _scalar(found: dict[int, list[Value]]) -> int:
    raw = found.get(Tensor.RAW)
    if raw:
        return int.from_bytes(_message(raw[0])[:8], "little", signed=True)
    values = _numbers(found.get(Tensor.INT64S, ()))
    return values[0] if values else -1


def _by_number(message: Message) -> dict[int, list[Value]]:
    """The values of a message by field number."""
    found: dict[int, list[Value]] = {}
    for number, value in _fields(message):
        found.setdefault(number, []).append(value)
    return found


def _fields(message: Message) -> Iterator[tuple[int, Value]]:
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError("groups are not used")
        if at + size > end or number == 0:
            raise ValueError("a field is cut off")
        yield number, message[at : at + size]
        at += size


def _varint(message: Message, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _numbers(values: Sequence[Value]) -> list[int]:
    """Repeated int64, packed or not."""
    found: list[int] = []
    for value in values:
        if isinstance(value, int):
            found.append(_signed(value))
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            found.append(_signed(number))
    return found


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _message(value: Value) -> Message:
    if isinstance(value, int):
        raise ValueError("a message is expected")
    return value


def _text(values: Sequence[Value]) -> str:
    return bytes(_message(values[-1])).decode() if values else ""
