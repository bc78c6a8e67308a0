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
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from restonnx.errors import ModelError

if TYPE_CHECKING:
    import onnx

Feeds = Mapping[str, NDArray[np.float32]]
ROUNDED = ("Conv", "Relu")
"""Operators that are computed in integers. Sums stay float: what residual blocks add to would be rounded each time."""
RANGES = "Percentile"
"""How the range of a value follows from what it was on the images: but for one of 100,000, which is clipped."""


def quantise(model: bytes, calibration: Sequence[Feeds]) -> onnx.ModelProto:
    """The graph with its inner convolutions in integers of 8 bits: weights by channel, 7 bits of them (see below).

    calibration: what the graph is fed with to see the ranges of its values.
    Float stay the first convolutions, which see the image, the last, whose result becomes one, and the one before that.
    Raises ModelError where nothing could be made an integer.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder, _unadvised():
        plain, rounded = Path(folder) / "plain.onnx", Path(folder) / "rounded.onnx"
        _fold(model, plain)
        float_nodes = at_the_image(onnx.load(plain).graph)
        quantize_static(
            plain,
            rounded,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(ROUNDED),
            nodes_to_exclude=float_nodes,
            per_channel=True,
            # Without it processors that have AVX2 and no VNNI saturate: they add pairs of products in 16 bits.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[RANGES],
        )
        done = onnx.load(rounded)
    if not any(node.op_type == "QuantizeLinear" for node in done.graph.node):
        raise ModelError("int8: the graph has no convolution between the first and the last ones")
    return done


def at_the_image(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that stay float: convolutions that see the image, or values at its size, or make them; those
    right before the last; and everything that computes at the image's size.

    What comes out right before the last one holds the noise that is taken away, pixel by pixel: no other is as
    costly to round (docs/notes/speed.md).
    """
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
    others = [
        node.name
        for node in graph.node
        if node.op_type in ROUNDED and node.op_type != "Conv" and any(sees_the_image(name) for name in node.input)
    ]
    before = [node.name for node, following in pairwise(convolutions) if following.name in last]
    return sorted({*first, *before, *last, *others})


def _fold(model: bytes, out: Path) -> None:
    """Write the graph as ONNX Runtime simplifies it: weights are plain float32 constants, and every node has a name."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(out)
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    folded = onnx.load(out)
    for number, node in enumerate(folded.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    del folded.opset_import[1:]  # it lists every set of operators that it knows
    onnx.save(folded, out)


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
