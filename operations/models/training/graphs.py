"""Graphs of sums, in doubles: what is made of each feature, weighted, and a link to a probability.

Written by hand, so that a graph is the same for the same parameters.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from fhir_server.model.problem import NotSupported

from .evaluation import Vector
from .spec import Pipeline

OPSET, ML_OPSET, IR = 17, 3, 8
Link: TypeAlias = Literal["Sigmoid", "cloglog"]
"""The inverse of the logit; 1 - exp(-exp(score)), of proportional hazards."""


class Column(NamedTuple):
    """What is made of a feature. ``place``: of the feature; ``kind``: as in ``Pipeline``."""

    name: str
    place: int
    kind: Literal["plain", "log1p", "above", "hinge"] = "plain"
    bounds: tuple[float, ...] = ()

    def of(self, values: Vector) -> Vector:
        """``values``: of the feature."""
        if self.kind == "log1p":
            return np.log(values + 1)
        if self.kind == "above":
            counted: Vector = sum((values > bound) for bound in self.bounds) + np.zeros_like(values)
            return counted
        if self.kind == "hinge":
            return np.maximum(values - self.bounds[0], 0)
        return values


def columns_of(names: Sequence[str], how: Pipeline) -> tuple[Column, ...]:
    found = []
    for place, name in enumerate(names):
        if name in how.log1p:
            found.append(Column(f"log(1 + {name})", place, "log1p"))
        elif name in how.above:
            bounds = how.above[name]
            found.append(
                Column(f"{name} above {', '.join(map(str, bounds))}", place, "above", bounds)
            )
        else:
            found.append(Column(name, place))
        if name in how.hinge:
            bound = how.hinge[name]
            found.append(Column(f"{name} beyond {bound}", place, "hinge", (bound,)))
    return tuple(found)


def laid_out(columns: Sequence[Column], values: Vector) -> Vector:
    """[rows, columns], from [rows, features]."""
    return np.column_stack([column.of(values[:, column.place]) for column in columns])


def told(columns: Sequence[Column], slopes: Vector) -> dict[str, float]:
    return {column.name: float(slope) for column, slope in zip(columns, slopes, strict=True)}


def needed(module: str) -> Any:
    """A module of the extra ``train``. Raises NotSupported where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NotSupported(
            f"training needs {module.partition('.')[0]}: install vehr[train]"
        ) from error


class Nodes:
    """Of a graph that is being written."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        made = needed("onnx.helper").make_node(operator, list(inputs), [output], **attributes)
        self.nodes.append(made)
        return output

    def constant(self, value: float, name: str) -> str:
        made = needed("onnx.numpy_helper").from_array(np.array([value]), name)
        self.constants.append(made)
        return name

    def column(self, column: Column, feature: str, i: int) -> str:
        """The name of what holds it."""
        if column.kind == "log1p":
            more = self.node("Add", [feature, self.constant(1.0, f"one{i}")], f"more{i}")
            return self.node("Log", [more], f"column{i}")
        if column.kind == "hinge":
            bound = self.constant(column.bounds[0], f"bound{i}")
            beyond = self.node("Sub", [feature, bound], f"beyond{i}")
            return self.node("Max", [beyond, self.constant(0.0, f"zero{i}")], f"column{i}")
        if column.kind == "above":
            double, steps = needed("onnx").TensorProto.DOUBLE, []
            for j, least in enumerate(column.bounds):
                limit = self.constant(least, f"bound{i}.{j}")
                over = self.node("Greater", [feature, limit], f"over{i}.{j}")
                steps.append(self.node("Cast", [over], f"step{i}.{j}", to=double))
            return self.node("Sum", steps, f"column{i}")
        return feature


def summed(
    names: Sequence[str],
    output: str,
    columns: Sequence[Column],
    slopes: Vector,
    constant: float,
    link: Link,
) -> bytes:
    """The graph of a weighted sum."""
    graph, terms = Nodes(), []
    base = graph.constant(constant, "constant")
    for i, column in enumerate(columns):
        weight = graph.constant(float(slopes[i]), f"weight{i}")
        value = graph.column(column, names[column.place], i)
        terms.append(graph.node("Mul", [value, weight], f"term{i}"))
    graph.node("Sum", [*terms, base], "score")
    if link == "Sigmoid":
        graph.node("Sigmoid", ["score"], output)
    else:
        graph.node("Exp", ["score"], "hazard")
        graph.node("Neg", ["hazard"], "less")
        graph.node("Exp", ["less"], "free")
        graph.node("Sub", [graph.constant(1.0, "all"), "free"], output)
    return written(names, output, graph.nodes, graph.constants)


def written(names: Sequence[str], output: str, nodes: list[Any], constants: list[Any]) -> bytes:
    onnx, helper = needed("onnx"), needed("onnx.helper")
    double = onnx.TensorProto.DOUBLE
    graph = helper.make_graph(
        nodes,
        "trained",
        [helper.make_tensor_value_info(name, double, ["N"]) for name in names],
        [helper.make_tensor_value_info(output, double, ["N"])],
        constants,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="vehr", ir_version=IR)
    onnx.checker.check_model(model)
    written: bytes = model.SerializeToString(deterministic=True)
    return written
