"""How weights are stored.  float16 halves the file; ONNX Runtime widens them once when it loads the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    import onnx


def round_to_half(module: nn.Module) -> None:
    """Make every weight exactly representable in float16, so that storing it so changes nothing."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(torch.float16).to(parameter.dtype)


def store_as_half(model: onnx.ModelProto) -> None:
    """Replace the float32 initialisers by float16 ones of the same names and a Cast that feeds their users.

    All but those that would be changed by it, such as the noise levels of a schedule.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    widened = {}
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        exact = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            values = exact.astype(np.float16)
        if not np.array_equal(values.astype(np.float32), exact):
            continue
        widened[tensor.name] = f"{tensor.name}.float32"
        casts.append(helper.make_node("Cast", [tensor.name], [widened[tensor.name]], to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    _rename_inputs(model.graph, widened)
    for node in reversed(casts):
        model.graph.node.insert(0, node)


def _rename_inputs(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Of all nodes, those of loops' bodies too."""
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_inputs(attribute.g, names)
