"""A fitted model as ONNX: the encoder and the network in one graph, in binary64 as here.

Inputs are the model's columns, each of shape (rows, 1). The graph needs opset 19, for comparing
texts; the operators are those of the standard's own domain.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError
from thinned.fit.encoding import FURTHEST, MISSING, Texts
from thinned.fit.folder import whole_file
from thinned.fit.model import Model
from thinned.fit.own_network import OwnNetwork
from thinned.fit.tables import Task
from thinned.version import __version__

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OUTPUTS", "export", "feeds", "proto"]

OPSET, IR_VERSION = 19, 9
# What the graph answers, by task.
OUTPUTS: dict[Task, tuple[str, ...]] = {
    "classification": ("label", "probabilities"),
    "regression": ("prediction",),
}


def export(model: Model, path: Path, overwrite: bool = False) -> None:
    """Write a model as an ONNX file: whole, or not at all.

    Raises
    ------
    ImportError if onnx is not installed. InputError if the file cannot be written.
    """
    content = proto(model).SerializeToString(deterministic=True)
    whole_file(path, lambda made: made.write_bytes(content), overwrite)


def feeds(model: Model, frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """What the graph is given for rows that the model has read: see `Result.frame`."""
    found: dict[str, NDArray[Any]] = {}
    for column in model.columns:
        cells = frame[column.name]
        if column.kind == "numeric":
            found[column.name] = cells.to_numpy(np.float64)[:, None]
        else:
            texts = [MISSING if cell is None else cell for cell in cells]
            found[column.name] = np.array(texts, dtype=object)[:, None]
    return found


def proto(model: Model) -> Any:
    """The ONNX ModelProto of a model.

    Outputs are `label`, shape (rows,), of the classes' type, and `probabilities`, float64 of shape
    (rows, classes), in the order of the classes; or `prediction`, float64 of shape (rows,).

    Raises
    ------
    ImportError if onnx is not installed.
    """
    import onnx
    from onnx import helper

    graph = _Graph(model)
    graph.encoder()
    graph.network()
    graph.answer()
    whole = helper.make_graph(
        graph.nodes, "thinned", graph.inputs, graph.outputs, initializer=graph.constants
    )
    made = helper.make_model(
        whole,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="thinned",
        producer_version=__version__,
    )
    columns = [{"name": c.name, "kind": c.kind} for c in model.columns]
    helper.set_model_props(
        made,
        {
            "thinned.columns": json.dumps(columns, ensure_ascii=False),
            "thinned.target": model.target,
            "thinned.classes": json.dumps(list(model.classes), ensure_ascii=False),
        },
    )
    onnx.checker.check_model(made)
    return made


class _Graph:
    """The graph as it grows. A value within it has a name that no column can have."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.constants: list[Any] = []
        self.x = ""
        if isinstance(model.network, OwnNetwork):
            raise InputError(
                f"thinned export: the network is {model.network.own.called}'s; export that "
                "module with "
                "torch.onnx.export: result.model.model_.network.module() gives it with its weights."
            )
        taken = {column.name for column in model.columns} & set(OUTPUTS[model.task])
        if taken:
            raise InputError(
                f"thinned export: a column is called {min(taken)!r}, as an output of the graph is; "
                "rename it and fit again."
            )

    def _name(self) -> str:
        return f"thinned/{len(self.nodes)}/{len(self.constants)}"

    def constant(self, value: NDArray[Any] | list[str]) -> str:
        """The name of an array, or of a list of texts."""
        from onnx import TensorProto, helper, numpy_helper

        name = self._name() + "/constant"
        if isinstance(value, list):
            raw: Any = [text.encode("utf-8") for text in value]
            made = helper.make_tensor(name, TensorProto.STRING, [len(value)], raw)
        else:
            made = numpy_helper.from_array(np.ascontiguousarray(value), name)
        self.constants.append(made)
        return name

    def node(self, kind: str, *inputs: str, name: str = "", **how: Any) -> str:
        """The name of an operator's one output."""
        from onnx import helper

        name = name or self._name()
        self.nodes.append(helper.make_node(kind, inputs, [name], **how))
        return name

    def _input(self, name: str, kind: int) -> str:
        from onnx import helper

        self.inputs.append(helper.make_tensor_value_info(name, kind, ["rows", 1]))
        return name

    def encoder(self) -> None:
        """Columns in the model's order; the network's inputs: numbers first, then texts."""
        from onnx import TensorProto

        kinds = {column.name: column.kind for column in self.model.columns}
        for name, kind in kinds.items():
            numeric = kind == "numeric"
            self._input(name, TensorProto.DOUBLE if numeric else TensorProto.STRING)
        parts = []
        numbers = self.model.encoder.numeric
        if numbers:
            names = [column.name for column in numbers]
            x = self.node("Concat", *names, axis=1) if len(names) > 1 else names[0]
            median, mean, scale = (
                self.constant(np.array([[getattr(c, what) for c in numbers]]))
                for what in ("median", "mean", "scale")
            )
            x = self.node("Where", self.node("IsNaN", x), median, x)
            x = self.node("Div", self.node("Sub", x, mean), scale)
            ends = (self.constant(np.array(end)) for end in (-FURTHEST, FURTHEST))
            parts.append(self.node("Clip", x, *ends))
        parts += [self._texts(column) for column in self.model.encoder.texts]
        x = self.node("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
        # Inputs are rounded to binary32, and everything after that is binary64: as in `answers`.
        x = self.node("Cast", x, to=TensorProto.FLOAT)
        self.x = self.node("Cast", x, to=TensorProto.DOUBLE)

    def _texts(self, column: Texts) -> str:
        """An input for each text, and 1 in the last one, where there is such, for all others."""
        from onnx import TensorProto

        parts = []
        if column.own:
            own = self.constant(list(column.own))
            same = self.node("Equal", column.name, own)
            parts.append(self.node("Cast", same, to=TensorProto.DOUBLE))
        if column.rare:
            axes = self.constant(np.array([1], np.int64))
            one = self.constant(np.array([[1.0]]))
            known = self.node("ReduceSum", parts[0], axes, keepdims=1)
            parts.append(self.node("Sub", one, known))
        return self.node("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]

    def network(self) -> None:
        network = self.model.network
        assert not isinstance(network, OwnNetwork)  # refused when the graph was begun
        last = len(network.weights) - 1
        for i, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
            product = self.node("MatMul", self.x, self.constant(weight.astype(np.float64)))
            self.x = self.node("Add", product, self.constant(bias.astype(np.float64)))
            if i < last:
                self.x = self.node("Relu", self.x)

    def answer(self) -> None:
        from onnx import TensorProto, helper

        model = self.model
        info = helper.make_tensor_value_info
        if model.task == "regression":
            scale, mean = (
                self.constant(np.array(float(one)))
                for one in (model.network.scale, model.network.mean)
            )
            x = self.node("Add", self.node("Mul", self.x, scale), mean)
            axes = self.constant(np.array([1], np.int64))
            self.node("Squeeze", x, axes, name="prediction")
            self.outputs = [info("prediction", TensorProto.DOUBLE, ["rows"])]
            return
        classes = list(model.classes)
        if isinstance(classes[0], str):
            labels, kind = self.constant(classes), TensorProto.STRING
        else:
            array = np.array(classes)
            labels = self.constant(array)
            kind = TensorProto.INT64 if array.dtype.kind == "i" else TensorProto.DOUBLE
        best = self.node("ArgMax", self.x, axis=1, keepdims=0)
        self.node("Gather", labels, best, name="label")
        self.node("Softmax", self.x, name="probabilities", axis=1)
        self.outputs = [
            info("label", kind, ["rows"]),
            info("probabilities", TensorProto.DOUBLE, ["rows", len(classes)]),
        ]
