"""Graphs put together from traced pieces: a piece is traced once and stands once in the file, however often it runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from restonnx.onnx_export.freeze import OPSET, Port

if TYPE_CHECKING:
    import onnx

IR_VERSION = 10
"""The first one with opset 20, which every ONNX Runtime that reads it reads."""


class Builder:
    """Nodes in the order in which they run; values are known by their names.

    The body of a loop is another builder with the same stored tensors, and sees the values around it.
    """

    def __init__(self, around: Builder | None = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, onnx.TensorProto] = around.stored if around else {}
        self._numbers: itertools.count[int] = around._numbers if around else itertools.count()
        self._pieces: dict[int, str] = around._pieces if around else {}

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The output of a new node."""
        from onnx import helper

        name = self._new(kind)
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = self._new("constant")
        self.stored[name] = numpy_helper.from_array(values, name)
        return name

    def call(self, piece: onnx.ModelProto, inputs: Mapping[str, str]) -> tuple[str, ...]:
        """The outputs of a traced graph, given values for its inputs by name.

        The names of weights, which contain a dot, are kept; all others become unique. What the piece does not read is
        left out.
        """
        graph, number = piece.graph, self._new("piece")
        read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
        names = {value.name: inputs[value.name] for value in graph.input}
        names[""] = ""
        own = self._pieces.setdefault(id(piece), number)
        for tensor in graph.initializer:
            if tensor.name not in read:
                continue
            names[tensor.name] = tensor.name if "." in tensor.name else f"{own}.{tensor.name}"
            if names[tensor.name] not in self.stored:
                stored = self.stored[names[tensor.name]] = type(tensor)()
                stored.CopyFrom(tensor)
                stored.name = names[tensor.name]
        for node in graph.node:
            copy = type(node)()
            copy.CopyFrom(node)
            copy.name = node.name and f"{number}/{node.name}"
            for values in (copy.input, copy.output):
                for i, name in enumerate(values):
                    values[i] = names.setdefault(name, f"{number}/{name}")
            self.nodes.append(copy)
        return tuple(names[value.name] for value in graph.output)

    def loop(
        self,
        count: str,
        carried: Sequence[str],
        body: Callable[[Builder, str, tuple[str, ...]], tuple[str, ...]],
        *,
        going: str | None = None,
    ) -> tuple[str, ...]:
        """What the carried values have become after `count` rounds.

        body: (builder, number of the round, carried values) -> the carried values after it; where `going` (whether
        to begin at all) is given, followed by whether to go on.
        """
        from onnx import TensorProto, helper

        inside = Builder(self)
        number, still = self._new("round"), self._new("still")
        inputs = tuple(self._new("carried") for _ in carried)
        results = body(inside, number, inputs)
        goes_on = results[-1] if going else inside.node("Identity", still)
        # The value of a body must be its own, not one that it sees or was given.
        outputs = [inside.node("Identity", name) for name in results[: len(carried)]]
        tensor = helper.make_tensor_value_info
        graph = helper.make_graph(
            inside.nodes,
            self._new("body"),
            [tensor(number, TensorProto.INT64, []), tensor(still, TensorProto.BOOL, [])]
            + [tensor(name, TensorProto.FLOAT, None) for name in inputs],
            [tensor(goes_on, TensorProto.BOOL, None)] + [tensor(name, TensorProto.FLOAT, None) for name in outputs],
        )
        names = [self._new("looped") for _ in carried]
        begins = going or self.constant(np.array(True))
        self.nodes.append(helper.make_node("Loop", [count, begins, *carried], names, body=graph))
        return tuple(names)

    def model(self, ports: tuple[Port, ...], restored: str, channels: int) -> onnx.ModelProto:
        """The graph from these inputs to the value `restored`."""
        from onnx import TensorProto, helper

        self.nodes.append(helper.make_node("Identity", [restored], ["restored"]))
        inputs = [helper.make_tensor_value_info(p.name, TensorProto.FLOAT, list(p.shape)) for p in ports]
        output = helper.make_tensor_value_info("restored", TensorProto.FLOAT, ["N", channels, "H_out", "W_out"])
        graph = helper.make_graph(self.nodes, "restonnx", inputs, [output], list(self.stored.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="restonnx")

    def _new(self, kind: str) -> str:
        return f"{kind}_{next(self._numbers)}"
