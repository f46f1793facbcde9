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
