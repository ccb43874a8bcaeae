"""Export of fitted estimators to ONNX (extra "onnx")."""

from __future__ import annotations

import re
import typing

import numpy as np

from fastgd.errors import import_extra

if typing.TYPE_CHECKING:
    from onnx import ModelProto


class Exported:
    """Mixin with `to_onnx`."""

    def to_onnx(self) -> ModelProto:
        """The fitted model as an ONNX graph that computes its predictions, scores and probabilities.

        The input "X" has shape (n, d) and the dtype of `coef_`; after a fit with an offset there is a second, "offset",
        (n,). A regressor has one output, "prediction", of shape (n,) or (n, k). A classifier has the outputs "label",
        (n,), "scores", those of `decision_function`, and "probabilities", (n, k), for a loss that has them. Of "probit"
        it has not: runtimes have an operator for the normal distribution in single precision only.

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
        onnx = import_extra("onnx", "onnx", "to_onnx")
        W, b = self._weights_matrix()
        constants = {"W": W, "b": b, "columns": np.array([1]), "zero": np.zeros(1, W.dtype), "one": np.ones(1, W.dtype)}
        constants |= {
            "minus_one": -constants["one"],
            "half": constants["one"] / 2,
            "share": constants["one"] / W.shape[1],
        }
        constants["border"] = np.full(1, self._loss.border, W.dtype)
        nodes = ["product = MatMul (X, W)", "h = Add (product, b)"]
        if offset := bool(self.__dict__.get("_has_offset")):
            nodes[1:] = ["fixed = Add (product, b)", "column = Unsqueeze (offset, columns)", "h = Add (fixed, column)"]
        if not hasattr(self, "classes_"):
            shapes = {"prediction": "[n]" if self.coef_.ndim == 1 else "[n, ?]"}
            nodes.append("f = Exp (h)" if self._loss.link == "exp" else "f = Identity (h)")
            nodes.append("prediction = Squeeze (f, columns)" if self.coef_.ndim == 1 else "prediction = Identity (f)")
        else:
            classes = np.asarray(self.classes_)
            constants["classes"] = classes.astype(np.str_).astype(object) if classes.dtype.kind in "OU" else classes
            shapes = {"scores": "[n]" if len(self.coef_) == 1 else "[n, ?]", "label": "[n]"}
            if len(self.coef_) == 1:
                nodes += ["scores = Squeeze (h, columns)", "second = Greater (scores, border)"]
                nodes.append(f"number = Cast <to = {onnx.TensorProto.INT64}> (second)")
            else:
                nodes += ["scores = Identity (h)", "number = ArgMax <axis = 1, keepdims = 0> (h)"]
            nodes.append("label = Gather (classes, number)")
            if self._loss.link == "sigmoid" or self._loss.probability_nodes:
                shapes["probabilities"] = "[n, ?]"
                nodes += self._probability_nodes()
        return _model(onnx, type(self).__name__, nodes, shapes, constants, offset)

    def _probability_nodes(self):
        if own := self._loss.probability_nodes:
            if len(self.coef_) == 1:
                return [*own, "p_first = Sub (one, p)", "probabilities = Concat <axis = 1> (p_first, p)"]
            return [
                *own, "total = ReduceSum <keepdims = 1> (p, columns)", "none = Equal (total, zero)",
                "divisor = Where (none, one, total)", "parts = Div (p, divisor)",
                "probabilities = Where (none, share, parts)",
            ]  # fmt: skip
        if len(self.coef_) == 1:
            return [
                "minus_h = Neg (h)", "p_first = Sigmoid (minus_h)", "p_second = Sigmoid (h)",
                "probabilities = Concat <axis = 1> (p_first, p_second)",
            ]  # fmt: skip
        if self._activation() == "softmax":
            return ["probabilities = Softmax <axis = 1> (h)"]
        # One against the rest: σ(h)/Σσ(h) = softmax(log σ(h)), log σ(h) = min(h, 0) − log(1 + e^−|h|), written in
        # operators that runtimes support in double precision.
        return [
            "size = Abs (h)", "minus_size = Neg (size)", "tail = Exp (minus_size)", "sum = Add (one, tail)",
            "log_sum = Log (sum)", "least = Min (h, zero)", "logs = Sub (least, log_sum)",
            "probabilities = Softmax <axis = 1> (logs)",
        ]  # fmt: skip


def _model(onnx, name, nodes, shapes, constants, offset):
    """The checked model of nodes in ONNX's textual syntax, and of constants that they name."""
    from onnx import parser

    def kind(array):
        is_text = array.dtype.kind == "O"
        code = onnx.TensorProto.STRING if is_text else onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        return onnx.TensorProto.DataType.Name(code).lower()

    W, text = constants["W"], "\n".join(nodes)
    outputs = ", ".join(
        f"{kind(constants['classes'] if output == 'label' else W)}{shape} {output}" for output, shape in shapes.items()
    )
    # The versions are of 2022, which runtimes since then read.
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17], producer_name: "fastgd"> '
        f"{name} ({kind(W)}[n, {len(W)}] X{f', {kind(W)}[n] offset' * offset}) => ({outputs}) {{ {text} }}"
    )
    used = [constant for constant in constants if re.search(rf"\b{constant}\b", text)]
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.ascontiguousarray(constants[constant]), constant) for constant in used
    )
    onnx.checker.check_model(model, full_check=True)
    return model
