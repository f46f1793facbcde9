"""``python train.py OUT UK.jsonl EN.jsonl NOTES.jsonl GOLD.jsonl``: the model, as ONNX.

``GOLD`` counts twice. Features are dropped at random, lists and whole words more often, so that
the model does not lean on what a name or word of another text will not be in.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from operations.deid.text.tagging.features import BUCKETS, PADDING, SLOTS, features, tokens
from operations.deid.text.tagging.lexicon import Lexicon
from operations.deid.text.tagging.tagger import FOLDER, OUTPUTS

WIDTH, HIDDEN, LABELS = 32, 64, 4
PASSES, RATE, BATCH = 5, 3e-3, 6000
DROPPED = np.full(SLOTS, 0.08)
DROPPED[0], DROPPED[9:16], DROPPED[17], DROPPED[19] = 0.25, 0.15, 0.15, 0.15


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e = nn.EmbeddingBag(BUCKETS, WIDTH, mode="sum", padding_idx=0)
        nn.init.normal_(self.e.weight, 0, 0.1)
        self.e.weight.data[0] = 0
        self.c1 = nn.Conv1d(WIDTH, HIDDEN, 5, padding=2)
        self.c2 = nn.Conv1d(HIDDEN, HIDDEN, 3, padding=1)
        self.o = nn.Linear(HIDDEN, LABELS)
        self.drop = nn.Dropout(0.2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.c1(self.drop(self.e(rows).t().unsqueeze(0))))
        hidden = hidden + torch.relu(self.c2(self.drop(hidden)))
        return self.o(hidden.squeeze(0).t())


def documents(file: Path, lexicon: Lexicon) -> list[tuple[np.ndarray, np.ndarray]]:
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return [
        (
            np.array(list(features(tokens(line["text"]), lexicon)), dtype=np.int64),
            np.array(line["labels"], dtype=np.int64),
        )
        for line in lines
    ]


def trained(corpus: list[tuple[np.ndarray, np.ndarray]]) -> Net:
    torch.manual_seed(1)
    net, chance = Net(), np.random.default_rng(1)
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
    weight = torch.tensor([1.0, 1.5, 1.0, 1.0])
    pad = np.zeros((PADDING, SLOTS), np.int64), np.full(PADDING, -1)
    for turn in range(PASSES):
        optimiser.param_groups[0]["lr"] = RATE * (1 - turn / PASSES)
        random.Random(turn).shuffle(corpus)
        batch: list[tuple[np.ndarray, np.ndarray]] = []
        for document in corpus:
            batch += [document, pad]
            if sum(len(labels) for _, labels in batch) > BATCH:
                rows = np.concatenate([rows for rows, _ in batch])
                lost = (chance.random(rows.shape) < DROPPED) & (rows[:, 17] > 0)[:, None]
                labels = torch.from_numpy(np.concatenate([labels for _, labels in batch]))
                said = net(torch.from_numpy(np.where(lost, 0, rows)))
                loss = nn.functional.cross_entropy(said, labels, weight, ignore_index=-1)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                batch = []
    return net


def graph(net: Net) -> onnx.ModelProto:
    """Inputs ``f00`` to ``f19``: double vectors of buckets. Outputs: probabilities."""
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    table = state["e.weight"]
    scale = np.abs(table).max(0) / 127
    constants = {
        "table": np.clip(np.round(table / scale), -127, 127).astype(np.int8),
        "scale": scale.astype(np.float32),
        "one": np.array([1]),
        "zero": np.array([0]),
        "ow": state["o.weight"].T.copy(),
        "ob": state["o.bias"],
    } | {f"{c}{p[0]}": state[f"{c}.{p}"] for c in ("c1", "c2") for p in ("weight", "bias")}
    node, slots = helper.make_node, [f"f{slot:02}" for slot in range(SLOTS)]
    nodes = [node("Cast", [s], [f"i{s}"], to=TensorProto.INT64) for s in slots]
    nodes += [node("Unsqueeze", [f"i{s}", "one"], [f"u{s}"]) for s in slots]
    nodes += [
        node("Concat", [f"u{s}" for s in slots], ["ids"], axis=1),
        node("Gather", ["table", "ids"], ["small"]),
        node("Cast", ["small"], ["rows"], to=TensorProto.FLOAT),
        node("ReduceSum", ["rows", "one"], ["sum"], keepdims=0),
        node("Mul", ["sum", "scale"], ["x"]),
        node("Transpose", ["x"], ["xt"], perm=[1, 0]),
        node("Unsqueeze", ["xt", "zero"], ["x3"]),
        node("Conv", ["x3", "c1w", "c1b"], ["h1"], pads=[2, 2]),
        node("Relu", ["h1"], ["r1"]),
        node("Conv", ["r1", "c2w", "c2b"], ["h2"], pads=[1, 1]),
        node("Relu", ["h2"], ["r2"]),
        node("Add", ["r1", "r2"], ["h3"]),
        node("Squeeze", ["h3", "zero"], ["hs"]),
        node("Transpose", ["hs"], ["ht"], perm=[1, 0]),
        node("MatMul", ["ht", "ow"], ["m"]),
        node("Add", ["m", "ob"], ["logits"]),
        node("Softmax", ["logits"], ["p"], axis=1),
    ]
    for at, name in enumerate(OUTPUTS, 1):
        constants[f"k{at}"] = np.array(at)
        nodes.append(node("Gather", ["p", f"k{at}"], [f"{name}32"], axis=1))
        nodes.append(node("Cast", [f"{name}32"], [name], to=TensorProto.DOUBLE))
    made = helper.make_graph(
        nodes,
        "name_tagger",
        [helper.make_tensor_value_info(s, TensorProto.DOUBLE, ["N"]) for s in slots],
        [helper.make_tensor_value_info(n, TensorProto.DOUBLE, ["N"]) for n in OUTPUTS],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def main() -> None:
    out, *files = map(Path, sys.argv[1:])
    lexicon = Lexicon.read(FOLDER / "lists")
    corpora = [documents(file, lexicon) for file in files]
    net = trained([document for corpus in (*corpora, corpora[-1]) for document in corpus])
    onnx.save(graph(net.eval()), str(out))


if __name__ == "__main__":
    main()
