"""From rows to a graph: a scikit-learn pipeline, and the same function as ONNX in doubles.

Both kinds are written by hand from their parameters, so that the graph does nothing else and is
the same for the same parameters: logistic regression as a sum, its scaling folded in; boosted
trees as a TreeEnsembleRegressor of ai.onnx.ml 3
(https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleRegressor.html). ``parity`` compares
the two on every row.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fhir_server.model.problem import NotSupported

from .evaluation import Vector
from .spec import Pipeline

OPSET, ML_OPSET, IR = 17, 3, 8
PARITY: Final = 1e-6
"""By how much the graph may differ; single precision of the sums of trees."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """``pipeline``: of scikit-learn; ``weights``: by feature, of a logistic one."""

    pipeline: Any
    graph: bytes
    weights: dict[str, float]

    def probability(self, values: Vector) -> Vector:
        """By scikit-learn. ``values``: [rows, features]."""
        found: Vector = self.pipeline.predict_proba(values)[:, 1].astype(np.float64)
        return found


def needed(module: str) -> Any:
    """A module of the extra ``train``. Raises NotSupported where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NotSupported(
            f"training needs {module.partition('.')[0]}: install vehr[train]"
        ) from error


def versions() -> dict[str, str]:
    """Of what the fit depends on."""
    names = ("sklearn", "onnx", "onnxruntime", "numpy")
    return {name: str(needed(name).__version__) for name in names}


def fit(
    names: Sequence[str], output: str, values: Vector, happened: Vector, how: Pipeline, seed: int
) -> Fitted:
    """``values``: [rows, features]. The same bytes for the same arguments and versions."""
    if how.kind == "logistic":
        scaler = needed("sklearn.preprocessing").StandardScaler()
        linear = needed("sklearn.linear_model").LogisticRegression(C=how.c, max_iter=2000)
        pipeline = needed("sklearn.pipeline").make_pipeline(scaler, linear)
        pipeline.fit(values, happened)
        slopes = linear.coef_[0] / scaler.scale_
        constant = float(linear.intercept_[0] - (slopes * scaler.mean_).sum())
        graph = _linear(names, output, slopes, constant)
        return Fitted(pipeline, graph, dict(zip(names, map(float, slopes), strict=True)))
    boosted = needed("sklearn.ensemble").GradientBoostingClassifier(
        n_estimators=how.trees,
        max_depth=how.depth,
        learning_rate=how.rate,
        subsample=0.8,
        random_state=seed,
    )
    boosted.fit(values, happened)
    return Fitted(boosted, _trees(names, output, boosted), {})


def run(graph: bytes, names: Sequence[str], output: str, values: Vector) -> Vector:
    """By onnxruntime."""
    onnxruntime = needed("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    columns = {name: np.ascontiguousarray(values[:, i]) for i, name in enumerate(names)}
    found: Vector = np.asarray(session.run([output], columns)[0], dtype=np.float64)
    return found


def parity(fitted: Fitted, names: Sequence[str], output: str, values: Vector) -> float:
    """The greatest difference between the two, over all rows."""
    ours = run(fitted.graph, names, output, values)
    return float(np.abs(ours - fitted.probability(values)).max())


def _linear(names: Sequence[str], output: str, slopes: Vector, constant: float) -> bytes:
    helper, numpy_helper = needed("onnx.helper"), needed("onnx.numpy_helper")
    nodes, constants = [], [numpy_helper.from_array(np.array([constant]), "constant")]
    for i, name in enumerate(names):
        constants.append(numpy_helper.from_array(np.array([float(slopes[i])]), f"weight{i}"))
        nodes.append(helper.make_node("Mul", [name, f"weight{i}"], [f"term{i}"]))
    terms = [f"term{i}" for i in range(len(names))]
    nodes.append(helper.make_node("Sum", [*terms, "constant"], ["score"]))
    nodes.append(helper.make_node("Sigmoid", ["score"], [output]))
    return _written(names, output, nodes, constants)


def _trees(names: Sequence[str], output: str, boosted: Any) -> bytes:
    helper, numpy_helper = needed("onnx.helper"), needed("onnx.numpy_helper")
    double, single = needed("onnx").TensorProto.DOUBLE, needed("onnx").TensorProto.FLOAT
    nodes, columns = [], []
    for i, name in enumerate(names):
        # scikit-learn compares values in single precision with bounds in double.
        nodes.append(helper.make_node("Cast", [name], [f"single{i}"], to=single))
        nodes.append(helper.make_node("Cast", [f"single{i}"], [f"double{i}"], to=double))
        nodes.append(helper.make_node("Unsqueeze", [f"double{i}", "last"], [f"column{i}"]))
        columns.append(f"column{i}")
    nodes.append(helper.make_node("Concat", columns, ["table"], axis=1))
    attributes = _ensemble(boosted)
    doubles = {
        name: helper.make_tensor(name, double, [len(values)], values)
        for name, values in attributes.pop("tensors").items()
    }
    nodes.append(
        helper.make_node(
            "TreeEnsembleRegressor",
            ["table"],
            ["sums"],
            domain="ai.onnx.ml",
            n_targets=1,
            **attributes,
            **doubles,
        )
    )
    nodes.append(helper.make_node("Squeeze", ["sums", "last"], ["flat"]))
    nodes.append(helper.make_node("Cast", ["flat"], ["score"], to=double))
    nodes.append(helper.make_node("Sigmoid", ["score"], [output]))
    last = numpy_helper.from_array(np.array([1], dtype=np.int64), "last")
    return _written(names, output, nodes, [last])


def _ensemble(boosted: Any) -> dict[str, Any]:
    """The trees as the attributes of the operator; ``tensors``: those of doubles."""
    rows: dict[str, list[Any]] = {}
    tensors: dict[str, list[float]] = {"nodes_values_as_tensor": [], "target_weights_as_tensor": []}

    def row(**values: Any) -> None:
        for name, value in values.items():
            rows.setdefault(name, []).append(value)

    for number, (estimator,) in enumerate(boosted.estimators_):
        tree = estimator.tree_
        for node in range(tree.node_count):
            leaf = tree.children_left[node] < 0
            row(
                nodes_treeids=number,
                nodes_nodeids=node,
                nodes_featureids=max(int(tree.feature[node]), 0),
                nodes_modes="LEAF" if leaf else "BRANCH_LEQ",
                nodes_truenodeids=0 if leaf else int(tree.children_left[node]),
                nodes_falsenodeids=0 if leaf else int(tree.children_right[node]),
                nodes_missing_value_tracks_true=0,
            )
            bound = 0.0 if leaf else float(tree.threshold[node])
            tensors["nodes_values_as_tensor"].append(bound)
            if leaf:
                row(target_treeids=number, target_nodeids=node, target_ids=0)
                weight = float(tree.value[node, 0, 0]) * boosted.learning_rate
                tensors["target_weights_as_tensor"].append(weight)
    prior = float(boosted.init_.class_prior_[1])
    tensors["base_values_as_tensor"] = [float(np.log(prior) - np.log1p(-prior))]
    return {**rows, "tensors": tensors}


def _written(names: Sequence[str], output: str, nodes: list[Any], constants: list[Any]) -> bytes:
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
