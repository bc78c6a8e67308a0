"""How weights are stored; ONNX Runtime widens them once when it loads the graph, and the arithmetic is float32 always.

float32, as they were trained; float16, in half of the space; int8-weights, in little more than a quarter: those of
large convolutions as whole numbers from -127 to 127 and a scale for each output channel, all else as float16. The small
convolutions are near the image, where an error is seen most and least space is gained; networks that enlarge lose
nothing there, so of these it is all (docs/notes/speed.md). all-int8-weights: all convolutions, for models whose own
error is far above what rounding adds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from restonnx.errors import InputError
from restonnx.training.checkpoint import SCALE_SUFFIX
from restonnx.training.networks.backbone import Backbone

if TYPE_CHECKING:
    import onnx

BYTES = {"float32": 4, "float16": 2, "int8-weights": 1, "all-int8-weights": 1}
"""Of most weights."""
MOST = 127
LEAST = {"int8-weights": 2**15, "all-int8-weights": 0}
"""Weights from which on a convolution is stored in 8 bits: with 2**15 a 3 x 3 of 64 channels is, one of 48 is not."""


def check_precision(precision: str) -> None:
    if precision not in BYTES:
        raise InputError(f"precision must be one of {', '.join(BYTES)}, not {precision!r}")


def round_weights(module: nn.Module, precision: str) -> None:
    """Make every weight a number that can be stored so, so that storing changes nothing."""
    network = getattr(module, "network", None)
    # Measured on super-resolution-x2: networks that enlarge lose nothing near the image either.
    enlarges = isinstance(network, Backbone) and network.scale > 1
    for parameter in module.parameters():
        in_bytes = precision in LEAST and (enlarges or parameter.numel() >= LEAST[precision])
        if in_bytes and parameter.ndim == 4:
            parameter.data = _rounded_to_bytes(parameter.data)
        elif precision != "float32":
            parameter.data = parameter.data.to(torch.float16).to(parameter.dtype)


def store(model: onnx.ModelProto, precision: str) -> None:
    """Replace float32 initialisers by smaller ones of the same names, and nodes that widen them for their users.

    All but those that would be changed by it, such as the noise levels of a schedule.
    """
    from onnx import TensorProto, helper, numpy_helper

    if precision == "float32":
        return
    nodes, scales, widened = [], [], {}
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        name, exact = tensor.name, numpy_helper.to_array(tensor)
        whole = _whole_numbers(exact) if precision in LEAST else None
        values = _halved(exact) if whole is None else whole[0]
        if values is None:
            continue
        tensor.CopyFrom(numpy_helper.from_array(values, name))
        widened[name] = f"{name}.float32"
        if whole is None:
            nodes.append(helper.make_node("Cast", [name], [widened[name]], to=TensorProto.FLOAT))
        else:
            scales.append(numpy_helper.from_array(whole[1], name + SCALE_SUFFIX))
            nodes.append(helper.make_node("Cast", [name], [f"{name}.whole"], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Mul", [f"{name}.whole", name + SCALE_SUFFIX], [widened[name]]))
    _rename_inputs(model.graph, widened)
    model.graph.initializer.extend(scales)
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def _rounded_to_bytes(weight: Tensor) -> Tensor:
    """The nearest whole multiples of a scale for each output channel, whose largest weight is 127 of them.

    The scale has the 8 bits of a bfloat16, so that its multiples are exact in float32, and found again by `store`.
    """
    largest = weight.abs().amax(dim=(1, 2, 3), keepdim=True)
    scale = (largest / MOST).to(torch.bfloat16).to(weight.dtype)
    return torch.where(scale > 0, (weight / scale).round() * scale, torch.zeros_like(weight))


def _whole_numbers(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]] | None:
    """The whole numbers and the scales (out, 1, 1, 1) of a weight that was rounded so; None of any other."""
    if weight.ndim != 4 or not weight.size:
        return None
    scale = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / np.float32(MOST)
    scale[scale == 0] = 1
    whole = np.rint(weight / scale).astype(np.int8)
    return (whole, scale) if np.array_equal(whole.astype(np.float32) * scale, weight) else None


def _halved(exact: NDArray[np.float32]) -> NDArray[np.float16] | None:
    with np.errstate(over="ignore"):
        values = exact.astype(np.float16)
    return values if np.array_equal(values.astype(np.float32), exact) else None


def _rename_inputs(graph: Any, names: dict[str, str]) -> None:
    """Of all nodes, those of loops' bodies too."""
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_inputs(attribute.g, names)
