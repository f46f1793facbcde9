"""Tiny graphs that misbehave, and a package folder to put a graph in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper


def _model(nodes: list, constants: list = ()) -> ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["N"])
    y = helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)
    graph = helper.make_graph(nodes, "g", [x], [y], initializer=list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _constant(name: str, value: object, kind: type = np.float64):
    return numpy_helper.from_array(np.asarray(value, dtype=kind), name)


def identity() -> ModelProto:
    return _model([helper.make_node("Identity", ["x"], ["y"])])


def log() -> ModelProto:
    """y = ln x: NaN below zero, -inf at zero."""
    return _model([helper.make_node("Log", ["x"], ["y"])])


def shrinking() -> ModelProto:
    """One value whatever the number of rows."""
    return _model([helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1)])


def hanging() -> ModelProto:
    """A loop of 2**62 rounds."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_out"]),
            helper.make_node("Identity", ["v"], ["v_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.DOUBLE, None),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_out", TensorProto.DOUBLE, None),
        ],
    )
    loop = helper.make_node("Loop", ["rounds", "", "x"], ["y"], body=body)
    return _model([loop], [_constant("rounds", 2**62, np.int64)])


def hungry() -> ModelProto:
    """Asks for 2**40 doubles."""
    fill = helper.make_node("ConstantOfShape", ["shape"], ["big"], value=_constant("one", [1.0]))
    reduce = helper.make_node("ReduceSum", ["big"], ["total"], keepdims=1)
    add = helper.make_node("Add", ["x", "total"], ["y"])
    return _model([fill, reduce, add], [_constant("shape", [2**40], np.int64)])


def outside() -> ModelProto:
    """A constant whose data lie in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.DOUBLE, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return _model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor])


@dataclass(frozen=True)
class Lone:
    """A graph without manifests, as the runtime sees a package."""

    id: str
    graph: Path
    sha256: str

    @classmethod
    def of(cls, folder: Path, name: str, model: ModelProto) -> Lone:
        path = folder / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        return cls(name, path, hashlib.sha256(path.read_bytes()).hexdigest())


def scaled(factor: float) -> ModelProto:
    """y = x * factor."""
    return _model([helper.make_node("Mul", ["x", "f"], ["y"])], [_constant("f", factor)])


def foreign(domain: str) -> ModelProto:
    """An operator of another domain."""
    node = helper.make_node("Scale", ["x"], ["y"], domain=domain)
    model = _model([node])
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def with_function() -> ModelProto:
    """A function of its own."""
    model = identity()
    body = [helper.make_node("Identity", ["a"], ["b"])]
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("", "Own", ["a"], ["b"], body, opset))
    return model


def overstated(elements: int = 2**40) -> ModelProto:
    """A tensor that says it is larger than its data."""
    tensor = TensorProto(
        name="w", data_type=TensorProto.DOUBLE, dims=[elements], raw_data=b"\0" * 8
    )
    return _model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor])


def deep(levels: int = 12) -> ModelProto:
    """If inside If inside If."""
    inner = helper.make_node("Identity", ["x"], ["y0"])
    for level in range(1, levels + 1):
        out = helper.make_tensor_value_info(f"y{level - 1}", TensorProto.DOUBLE, None)
        branch = helper.make_graph([inner], f"b{level}", [], [out])
        inner = helper.make_node(
            "If", ["yes"], [f"y{level}"], then_branch=branch, else_branch=branch
        )
    return _model(
        [inner, helper.make_node("Identity", [f"y{levels}"], ["y"])],
        [_constant("yes", True, np.bool_)],
    )


def short_loop(*rounds: int) -> ModelProto:
    """A loop of so many rounds, and within it the next."""
    model = hanging()
    outer = model.graph.node[0]
    model.graph.initializer[0].CopyFrom(_constant("rounds", rounds[0], np.int64))
    for depth, more in enumerate(rounds[1:]):
        inner = hanging().graph.node[0]
        inner.input[0], inner.input[2], inner.output[0] = f"rounds{depth}", "v", "v_out"
        body = outer.attribute[0].g
        body.node[1].CopyFrom(inner)
        model.graph.initializer.append(_constant(f"rounds{depth}", more, np.int64))
        outer = body.node[1]
    return model


def mixing() -> ModelProto:
    """Each row less the mean of all."""
    mean = helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0)
    return _model([mean, helper.make_node("Sub", ["x", "m"], ["y"])])


def growing() -> ModelProto:
    """A million values whatever the number of rows."""
    node = helper.make_node("Expand", ["x", "shape"], ["y"])
    return _model([node], [_constant("shape", [1_000_000, 1], np.int64)])


def above(limit: float, then: str) -> ModelProto:
    """y = x / 1000; beyond ``limit`` it fails: ``nan``, ``hang``, ``memory`` or ``size``."""
    rounds = 2**62 if then == "hang" else 0
    body = hanging().graph.node[0].attribute[0].g
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "limit"], ["over"]),
        helper.make_node("Mul", ["x", "f"], ["sound"]),
    ]
    value = helper.make_tensor_value_info
    bad = {
        "nan": [
            helper.make_node("Sub", ["limit", "most"], ["less"]),
            helper.make_node("Log", ["less"], ["nan"]),
            helper.make_node("Mul", ["x", "nan"], ["bad"]),
        ],
        "hang": [helper.make_node("Loop", ["rounds", "", "x"], ["bad"], body=body)],
        "memory": [
            helper.make_node("ConstantOfShape", ["huge"], ["big"], value=_constant("one", [1.0])),
            helper.make_node("ReduceSum", ["big"], ["total"], keepdims=0),
            helper.make_node("Add", ["x", "total"], ["bad"]),
        ],
        "size": [helper.make_node("Expand", ["x", "wide"], ["bad"])],
    }[then]
    out = [value("bad", TensorProto.DOUBLE, None)]
    kept = helper.make_node("Identity", ["sound"], ["good"])
    good = helper.make_graph([kept], "good", [], [value("good", TensorProto.DOUBLE, None)])
    then_branch = helper.make_graph(bad, "bad", [], out)
    nodes.append(helper.make_node("If", ["over"], ["y"], then_branch=then_branch, else_branch=good))
    constants = [
        _constant("f", 0.001),
        _constant("limit", limit),
        _constant("rounds", rounds, np.int64),
        _constant("huge", [2**40], np.int64),
        _constant("wide", [1_000_000, 1], np.int64),
    ]
    return _model(nodes, constants)
