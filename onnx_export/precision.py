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
    """Replace every float32 initialiser by a float16 one of the same name and a Cast that feeds its users."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    widened = {}
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor).astype(np.float16)
        widened[tensor.name] = f"{tensor.name}.float32"
        casts.append(helper.make_node("Cast", [tensor.name], [widened[tensor.name]], to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = widened.get(name, name)
    for node in reversed(casts):
        model.graph.node.insert(0, node)
