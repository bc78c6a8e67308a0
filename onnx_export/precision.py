"""Arithmetic in int8: convolutions whose inputs and weights are integers of 8 bits, with ranges that were measured
beforehand on images (QDQ form: each value is rounded and widened again in the file, and runtimes that can do so compute
between the two in integers). How weights are stored otherwise: see `stored`.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from restonnx.errors import ModelError

if TYPE_CHECKING:
    import onnx

Feeds = Mapping[str, NDArray[np.float32]]
Range = tuple[float, int]
"""Of integers from 0 to 255: the step between two of them, and the one that means 0."""


@dataclass(frozen=True)
class Rounding:
    """What of a graph is computed in integers."""

    operators: tuple[str, ...]
    all_but_the_last: bool
    """So the convolution right before the last one, too, whose result holds the noise that is taken away, pixel by
    pixel: no other is as costly to round (docs/notes/speed.md)."""


CALIBRATED = Rounding(("Conv", "Relu"), all_but_the_last=False)
"""Sums stay float: what residual blocks add to would be rounded each time."""
TUNED = Rounding((*CALIBRATED.operators, "Add", "LeakyRelu", "Resize"), all_but_the_last=True)
"""Where weights and ranges have learned to live with it (`tuning`); faster by a third."""
LARGEST_WEIGHT = 64
"""Integers of weights are from -64 to 64: processors that have AVX2 and no VNNI add pairs of products in 16 bits, and
would saturate with more."""
RANGES = "Percentile"
"""How the range of a value follows from what it was on the images: but for one of 100,000, which is clipped."""


def quantise(
    plain: onnx.ModelProto,
    calibration: Sequence[Feeds],
    *,
    rounding: Rounding = CALIBRATED,
    ranges: Mapping[str, Range] | None = None,
) -> onnx.ModelProto:
    """The graph with its inner convolutions in integers of 8 bits: weights by channel, 7 bits of them.

    plain: what `fold` made.  calibration: what the graph is fed with to see the ranges of its values.
    ranges: those that are known already, by the values' names.
    Float stay the first convolutions, which see the image, and the last, whose result becomes one.
    Raises ModelError where nothing could be made an integer.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    known = {
        name: [{"scale": np.array(scale, np.float32), "zero_point": np.array(zero, np.uint8)}]
        for name, (scale, zero) in (ranges or {}).items()
    }
    with tempfile.TemporaryDirectory() as folder, _unadvised():
        given, done = Path(folder) / "plain.onnx", Path(folder) / "rounded.onnx"
        onnx.save(plain, given)
        quantize_static(
            given,
            done,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(rounding.operators),
            nodes_to_exclude=at_the_image(plain.graph, rounding),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[RANGES],
            extra_options={"TensorQuantOverrides": known} if known else {},
        )
        model = onnx.load(done)
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise ModelError("int8: the graph has no convolution between the first and the last ones")
    return model


def at_the_image(graph: onnx.GraphProto, rounding: Rounding) -> list[str]:
    """Names of the nodes that stay float: convolutions that see the image, or values at its size, or make them; those
    right before the last, unless they are rounded too; and everything that computes at the image's size."""
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    made_by = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)

    def sees_the_image(name: str) -> bool:
        """Whether there is no convolution between the graph's inputs, or its results, and this value."""
        node = made_by.get(name)
        if node is None:
            return any(name == value.name for value in graph.input)
        if node.op_type == "Conv":
            return False
        return node.op_type == "DepthToSpace" or any(sees_the_image(given) for given in node.input)

    def becomes_an_image(name: str) -> bool:
        """Whether the value is shuffled to the size of the image, or is the result, with no convolution between."""
        if any(name == value.name for value in graph.output):
            return True
        return any(
            user.op_type != "Conv" and (user.op_type == "DepthToSpace" or becomes_an_image(user.output[0]))
            for user in users.get(name, ())
        )

    first = [node.name for node in convolutions if sees_the_image(node.input[0])]
    last = [node.name for node in convolutions if becomes_an_image(node.output[0])]
    others = [node for node in graph.node if node.op_type in rounding.operators and node.op_type != "Conv"]
    others = [node.name for node in others if any(sees_the_image(name) for name in node.input)]
    before = [node.name for node, following in pairwise(convolutions) if following.name in last]
    return sorted({*first, *([] if rounding.all_but_the_last else before), *last, *others})


def keep_layout(plain: onnx.ModelProto) -> None:
    """Put a convolution of 1 x 1 that changes nothing behind those that stay float and whose result another one sees.

    ONNX Runtime computes integer convolutions with the channels last and float ones with the channels first. Sums that
    begin with the result of a float one stay in its layout, and every block changes it back and forth; not so those of
    integers alone. Of `denoise` ten changes of layout become four, for 1 % more products.
    """
    from onnx import helper, numpy_helper

    graph = plain.graph
    float_nodes, weights = at_the_image(graph, TUNED), {tensor.name: tensor for tensor in graph.initializer}
    into_others = {node.input[0] for node in graph.node if node.op_type == "Conv"}
    nodes = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type != "Conv" or node.name not in float_nodes or node.output[0] not in into_others:
            continue
        name, channels = node.output[0], weights[node.input[1]].dims[0]
        node.output[0] = f"{name}_float"
        weight = np.eye(channels, dtype=np.float32).reshape(channels, channels, 1, 1)
        graph.initializer.append(numpy_helper.from_array(weight, f"{name}_same"))
        given = [node.output[0], f"{name}_same"]
        nodes.append(helper.make_node("Conv", given, [name], name=f"{node.name}_same", kernel_shape=[1, 1]))
    del graph.node[:]
    graph.node.extend(nodes)


def fold(model: bytes) -> onnx.ModelProto:
    """The graph as ONNX Runtime simplifies it: weights are plain float32 constants, and every node has a name."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "plain.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(out)
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        folded = onnx.load(out)
    for number, node in enumerate(folded.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    del folded.opset_import[1:]  # it lists every set of operators that it knows
    return folded


@contextmanager
def _unadvised() -> Iterator[None]:
    """Without its progress, and the advice to simplify the graph first, which was done."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


class _Reader:
    """The inputs one after the other, as the measuring of ranges asks for them."""

    def __init__(self, calibration: Sequence[Feeds]) -> None:
        self._left = iter(calibration)

    def get_next(self) -> Feeds | None:
        return next(self._left, None)
