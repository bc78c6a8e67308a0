"""Weights and ranges that know of the rounding: the float graph in torch, rounded where its sibling of integers rounds,
trained for a while to give what the float graph gives.

Rounding lets the gradient through as if it were not there (the straight-through estimator of Bengio et al. 2013, arXiv
1308.3432); so the steps between integers are learned as well (Esser et al. 2020, arXiv 1902.08153).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from restonnx.errors import ModelError
from restonnx.onnx_export.precision import LARGEST_WEIGHT, Range

if TYPE_CHECKING:
    import onnx

RATES = {"weights": 1e-4, "steps": 1e-2, "zeros": 1e-1}
"""Of Adam: for weights, for logarithms of the steps between integers, and for the integers that mean 0."""
PERFECT = 1e-6
"""Mean square error below which a crop counts as one on which the float graph is all but perfect."""

Feeds = Mapping[str, Tensor]
Report = Callable[[int, int, float], object]


class RoundedGraph(nn.Module):
    """A graph of convolutions and what lies between them, with weights, biases and ranges as parameters."""

    def __init__(self, plain: onnx.ModelProto, rounded: onnx.ModelProto) -> None:
        """plain: the float graph (`precision.fold`).  rounded: what `precision.quantise` made of it.

        Raises ModelError for an operator that is not known here.
        """
        from onnx import numpy_helper

        super().__init__()
        self._free: Tensor
        self._nodes = list(plain.graph.node)
        self._result = plain.graph.output[0].name
        if unknown := {node.op_type for node in self._nodes} - OPERATORS.keys():
            raise ModelError(f"int8: tuning does not know the operator {sorted(unknown)[0]}: leave it out")
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in plain.graph.initializer}
        convolutions = [node for node in self._nodes if node.op_type == "Conv"]
        self._learned = list(dict.fromkeys(name for node in convolutions for name in node.input[1:]))
        self.weights = nn.ParameterList(torch.from_numpy(values[name].copy()) for name in self._learned)
        self._constants = {n: torch.from_numpy(v.copy()) for n, v in values.items() if n not in self._learned}

        integers = {tensor.name: numpy_helper.to_array(tensor) for tensor in rounded.graph.initializer}
        self._integer_weights = {node.input[1] for node in convolutions if f"{node.input[1]}_quantized" in integers}
        # What is enlarged by repeating has the range of what is repeated.
        self._repeats = {node.output[0]: node.input[0] for node in self._nodes if node.op_type == "Resize"}
        found = [node for node in rounded.graph.node if node.op_type == "QuantizeLinear"]
        found = [node for node in found if node.input[0] not in self._repeats]
        self._range = {node.input[0]: number for number, node in enumerate(found)}
        # A Relu behind an integer convolution is left out of the file: what is below 0 is clipped, as 0 is the lowest.
        lowest = {node.output[0] for node in self._nodes if node.op_type == "Relu"}
        self.register_buffer("_free", torch.tensor([float(node.input[0] not in lowest) for node in found]))
        self.steps = nn.Parameter(torch.tensor([math.log(integers[node.input[1]]) for node in found]))
        self.zeros = nn.Parameter(torch.tensor([float(integers[node.input[2]]) for node in found]))

    def forward(self, feeds: Feeds, *, rounding: bool = True) -> Tensor:
        """The graph's result; with `rounding` False that of the float graph with the weights as they are now."""
        values: dict[str, Tensor] = {**self._constants, **feeds}
        if rounding:
            values = {name: self._rounded(name, value) for name, value in values.items()}
        values |= dict(zip(self._learned, self.weights, strict=True))
        for node in self._nodes:
            given = [values[name] for name in node.input if name]
            if rounding and node.op_type == "Conv" and node.input[1] in self._integer_weights:
                given = [given[0], *self._integers(node.input[0], *given[1:])]
            value = OPERATORS[node.op_type](_attributes(node), *given)
            values[node.output[0]] = self._rounded(node.output[0], value) if rounding else value
        return values[self._result]

    def write_to(self, plain: onnx.ModelProto) -> dict[str, Range]:
        """Put the weights as they are now into the float graph; returns the ranges, by the values' names."""
        from onnx import numpy_helper

        learned: dict[str, NDArray[Any]] = {
            name: weight.detach().numpy() for name, weight in zip(self._learned, self.weights, strict=True)
        }
        for tensor in plain.graph.initializer:
            if tensor.name in learned:
                tensor.CopyFrom(numpy_helper.from_array(learned[tensor.name], tensor.name))
        steps, zeros = (
            self.steps.detach().exp().tolist(),
            (self._free * self.zeros).round().clamp(0, 255).int().tolist(),
        )
        return {name: (steps[number], zeros[number]) for name, number in self._range.items()}

    def _rounded(self, name: str, value: Tensor) -> Tensor:
        number = self._range.get(name)
        if number is None:
            return value
        step, zero = self.steps[number].exp(), _straight_through((self._free * self.zeros)[number].clamp(0, 255))
        return (_straight_through((value / step + zero).clamp(0, 255)) - zero) * step

    def _integers(self, name: str, weight: Tensor, bias: Tensor | None = None) -> list[Tensor]:
        """A convolution's weights and biases as `precision.quantise` rounds them, `name` being what it sees: weights by
        output channel, evenly around 0, and biases by the product of the steps of both."""
        step = weight.detach().abs().amax(dim=(1, 2, 3)).clamp_min(1e-12) / LARGEST_WEIGHT
        zeros = torch.zeros(len(step), dtype=torch.int32)
        rounded = torch.fake_quantize_per_channel_affine(weight, step, zeros, 0, -LARGEST_WEIGHT, LARGEST_WEIGHT)
        if bias is None:
            return [rounded]
        step = step * self.steps[self._range[self._repeats.get(name, name)]].detach().exp()
        return [rounded, _straight_through(bias / step) * step]


def tune(
    graph: RoundedGraph, batches: Iterable[tuple[Tensor, Feeds]], iterations: int, report: Report | None = None
) -> None:
    """Train so that rounding adds as little as can be to the error that the float graph has anyway.

    The loss is the mean square of what rounding changes in an image, as a share of the float graph's own mean square
    error there: strong and weak noise count alike. 2.3 % of it cost 0.1 dB.

    batches: clean images (N, C, H, W) in the graph's values, and what the graph is fed with.
    report: called as report(done, total, loss).
    """
    whole_graph = copy.deepcopy(graph).requires_grad_(False)
    groups = {"weights": list(graph.weights), "steps": [graph.steps], "zeros": [graph.zeros]}
    optimizer = torch.optim.Adam([{"params": group} for group in groups.values()])
    for done, (clean, feeds) in zip(range(iterations), batches, strict=False):
        for group, rate in zip(optimizer.param_groups, RATES.values(), strict=True):
            group["lr"] = rate * (1 + math.cos(math.pi * done / iterations)) / 2
        whole = whole_graph(feeds, rounding=False)
        added = (graph(feeds) - whole).square().mean(dim=(1, 2, 3))
        own = (whole - clean).square().mean(dim=(1, 2, 3))
        loss = (added / own.clamp_min(PERFECT)).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(graph.weights, 1.0)
        optimizer.step()
        graph.zeros.data.clamp_(0, 255)  # beyond, no gradient would bring them back
        if report is not None:
            report(done + 1, iterations, float(loss.detach()))


def _straight_through(value: Tensor) -> Tensor:
    """Rounded, with the gradient of what is not."""
    return value + (value.round() - value).detach()


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _convolved(given: Mapping[str, Any], value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if given.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ModelError("int8: tuning knows convolutions with pads that are given alone")
    top, left, bottom, right = given.get("pads", (0, 0, 0, 0))
    value = F.pad(value, (left, right, top, bottom))
    return F.conv2d(
        value, weight, bias, given.get("strides", 1), dilation=given.get("dilations", 1), groups=given.get("group", 1)
    )


def _shuffled(given: Mapping[str, Any], value: Tensor) -> Tensor:
    if given.get("mode") != b"CRD":
        raise ModelError("int8: tuning knows DepthToSpace in the order of PixelShuffle alone")
    return F.pixel_shuffle(value, given["blocksize"])


def _repeated(given: Mapping[str, Any], value: Tensor, scales: Tensor) -> Tensor:
    if given.get("mode", b"nearest") != b"nearest":
        raise ModelError("int8: tuning knows Resize to the nearest neighbour alone")
    return F.interpolate(value, scale_factor=scales[2:].tolist(), mode="nearest")


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda _, a, b: a + b,
    "Sub": lambda _, a, b: a - b,
    "Mul": lambda _, a, b: a * b,
    "Div": lambda _, a, b: a / b,
    "Concat": lambda given, *values: torch.cat(values, dim=given["axis"]),
    "Conv": _convolved,
    "DepthToSpace": _shuffled,
    "Gather": lambda given, value, index: torch.select(value, given.get("axis", 0), int(index)),
    "LeakyRelu": lambda given, value: F.leaky_relu(value, given.get("alpha", 0.01)),
    "Relu": lambda _, value: F.relu(value),
    "Resize": _repeated,
    "Transpose": lambda given, value: value.permute(given["perm"]),
}
"""Of ONNX, as functions of a node's attributes and its inputs."""
