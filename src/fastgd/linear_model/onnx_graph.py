"""Export of fitted estimators to ONNX (extra "onnx")."""

from __future__ import annotations

import typing

import numpy as np

from fastgd.errors import import_extra

if typing.TYPE_CHECKING:
    from onnx import ModelProto


class Exported:
    """Mixin with `to_onnx`."""

    def to_onnx(self) -> ModelProto:
        """The fitted model as an ONNX graph that computes its predictions, scores and probabilities.

        The input "X" has shape (n, d) and the dtype of `coef_`. A regressor has one output, "prediction", of shape (n,)
        or (n, k). A classifier has the outputs "label", (n,), "scores", those of `decision_function`, and for
        loss="log_loss" "probabilities", (n, k); other losses' are a function of the scores (`fastgd.losses`), which
        runtimes have no operators for in double precision.

        Returns
        -------
        onnx.ModelProto
            `onnx.save(model.to_onnx(), path)` saves it.

        Raises
        ------
        ImportError
            The package onnx is not installed.
        sklearn.exceptions.NotFittedError
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "coef_")
        import_extra("onnx", "onnx", "to_onnx")
        graph = _Graph(np.asarray(self.coef_))
        is_one = self.coef_.ndim == 1 or len(self.coef_) == 1
        h = graph.add("Add", graph.add("MatMul", "X", graph.constant(np.atleast_2d(self.coef_).T)),
                      graph.constant(self.intercept_))  # fmt: skip
        if not hasattr(self, "classes_"):
            h = graph.add("Exp", h) if self._loss.link == "exp" else h
            is_flat = self.coef_.ndim == 1
            graph.output("prediction", graph.flat(h) if is_flat else h, 1 if is_flat else 2)
            return graph.model(type(self).__name__)
        if is_one:
            flat, border = graph.flat(h), graph.constant(np.full(1, self._loss.border, self.coef_.dtype))
            number = graph.add("Cast", graph.add("Greater", flat, border), to=graph.INT64)
            graph.output("scores", flat, 1)
        else:
            number = graph.add("ArgMax", h, axis=1, keepdims=0)
            graph.output("scores", h, 2)
        classes = np.asarray(self.classes_)
        classes = classes.astype(np.str_).astype(object) if classes.dtype.kind in "OU" else classes
        graph.output("label", graph.add("Gather", graph.constant(classes), number), 1, classes.dtype)
        if self._loss.link == "sigmoid":
            graph.output("probabilities", self._probabilities(graph, h, is_one), 2)
        return graph.model(type(self).__name__)

    def _probabilities(self, graph, h, is_one):
        if is_one:
            return graph.add("Concat", graph.add("Sigmoid", graph.add("Neg", h)), graph.add("Sigmoid", h), axis=1)
        if self._is_softmax():
            return graph.add("Softmax", h, axis=1)
        # One against the rest: σ(h)/Σσ(h) = softmax(log σ(h)), log σ(h) = min(h, 0) − log(1 + e^−|h|), written in
        # operators that runtimes support in double precision.
        zero, one = (graph.constant(np.full(1, value, self.coef_.dtype)) for value in (0, 1))
        tail = graph.add("Log", graph.add("Add", one, graph.add("Exp", graph.add("Neg", graph.add("Abs", h)))))
        return graph.add("Softmax", graph.add("Sub", graph.add("Min", h, zero), tail), axis=1)


class _Graph:
    """A graph under construction; the output of each node is named by operator and number."""

    def __init__(self, coef):
        import onnx

        self._onnx, self._dtype, self._columns = onnx, coef.dtype, coef.shape[-1]
        self._nodes, self._constants, self._outputs = [], [], []
        self.INT64 = onnx.TensorProto.INT64

    def add(self, operator, *inputs, **attributes):
        """Add a node of that operator; returns the name of its output."""
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def flat(self, column):
        """A column (n, 1) as a vector (n,)."""
        return self.add("Squeeze", column, self.constant(np.array([1])))

    def constant(self, array):
        """Add an array; returns its name."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def output(self, name, source, ndim, dtype=None):
        """Make the node `source` the output `name` of the graph."""
        self._nodes.append(self._onnx.helper.make_node("Identity", [source], [name]))
        self._outputs.append(self._value(name, dtype or self._dtype, ["n", None][:ndim]))

    def _value(self, name, dtype, shape):
        kind = self._onnx.TensorProto.STRING if dtype.kind == "O" else self._onnx.helper.np_dtype_to_tensor_dtype(dtype)
        return self._onnx.helper.make_tensor_value_info(name, kind, shape)

    def model(self, name):
        """The finished and checked ONNX model."""
        helper = self._onnx.helper
        X = self._value("X", self._dtype, ["n", self._columns])
        graph = helper.make_graph(self._nodes, name, [X], self._outputs, self._constants)
        model = helper.make_model(
            graph, producer_name="fastgd", opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        )  # versions of 2022, which runtimes since then read
        self._onnx.checker.check_model(model, full_check=True)
        return model
