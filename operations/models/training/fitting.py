"""From rows to a graph: a scikit-learn pipeline, and the same function as ONNX in doubles.

All kinds are written by hand from their parameters, so that the graph does nothing else and is
the same for the same parameters: logistic regression and proportional hazards as a sum, scaling
folded in; boosted trees as a TreeEnsembleRegressor of ai.onnx.ml 3
(https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleRegressor.html). ``parity`` compares
the two on every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fhir_server.model.problem import Unprocessable

from .dataset import Line
from .evaluation import Vector
from .graphs import Column, columns_of, laid_out, needed, summed, told, written
from .spec import Spec
from .survival import ProportionalHazards, horizon

PARITY: Final = 1e-6
"""By how much the graph may differ; single precision of the sums of trees."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """``pipeline``: of scikit-learn, or like one; ``weights``: by column, of a sum; ``columns``:
    what it takes of the features, None: these."""

    pipeline: Any
    graph: bytes
    weights: dict[str, float]
    columns: tuple[Column, ...] | None = None

    def probability(self, values: Vector) -> Vector:
        """By the pipeline. ``values``: [rows, features]."""
        table = values if self.columns is None else laid_out(self.columns, values)
        found: Vector = self.pipeline.predict_proba(table)[:, 1].astype(np.float64)
        return found


def versions() -> dict[str, str]:
    """Of what the fit depends on."""
    names = ("sklearn", "onnx", "onnxruntime", "numpy")
    return {name: str(needed(name).__version__) for name in names}


def fit(names: Sequence[str], spec: Spec, lines: Sequence[Line]) -> Fitted:
    """``names``: of the features. The same bytes for the same arguments and versions."""
    how, output = spec.pipeline, spec.outcome.name
    if how.kind == "cox":
        return _hazards(names, spec, lines)
    known = [line for line in lines if line.weight > 0]
    values = np.array([line.values for line in known], dtype=np.float64)
    happened = np.array([line.happened for line in known], dtype=np.float64)
    weight = np.array([line.weight for line in known], dtype=np.float64)
    if how.kind == "logistic":
        columns = columns_of(names, how)
        scaler = needed("sklearn.preprocessing").StandardScaler()
        linear = needed("sklearn.linear_model").LogisticRegression(C=how.c, max_iter=2000)
        pipeline = needed("sklearn.pipeline").make_pipeline(scaler, linear)
        pipeline.fit(laid_out(columns, values), happened, logisticregression__sample_weight=weight)
        slopes = linear.coef_[0] / scaler.scale_
        constant = float(linear.intercept_[0] - (slopes * scaler.mean_).sum())
        graph = summed(names, output, columns, slopes, constant, "Sigmoid")
        return Fitted(pipeline, graph, told(columns, slopes), columns)
    boosted = needed("sklearn.ensemble").GradientBoostingClassifier(
        n_estimators=how.trees,
        max_depth=how.depth,
        learning_rate=how.rate,
        subsample=0.8,
        random_state=spec.seed,
    )
    boosted.fit(values, happened, sample_weight=weight)
    return Fitted(boosted, _trees(names, output, boosted), {})


def _hazards(names: Sequence[str], spec: Spec, lines: Sequence[Line]) -> Fitted:
    """Of every row with a time, whether or not it was followed up to the horizon."""
    if any(line.followed is None for line in lines):
        raise Unprocessable("pipeline: proportional hazards need rows with times")
    columns = columns_of(names, spec.pipeline)
    table = laid_out(columns, np.array([line.values for line in lines], dtype=np.float64))
    days = np.array([line.followed.days for line in lines if line.followed], dtype=np.float64)
    event = np.array([line.followed.event for line in lines if line.followed], dtype=np.float64)
    cox = ProportionalHazards(horizon(spec.outcome.within)).fit(table, days, event)
    constant = float(np.log(cox.hazard))
    graph = summed(names, spec.outcome.name, columns, cox.coef, constant, "cloglog")
    return Fitted(cox, graph, told(columns, cox.coef), columns)


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
    return written(names, output, nodes, [last])


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
