"""Parts of a tensor as slices of it. The tracer writes torch's `chunk` and `split` as sequences of tensors, for which
CUDA has no kernel: the whole tensor would go to the CPU and back, in every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

SPLIT, TAKE = "SplitToSequence", "SequenceAt"


def as_slices(model: onnx.ModelProto) -> None:
    """Replace what is taken from a sequence of parts, whose lengths and place are constants, by slices."""
    from onnx import helper, numpy_helper

    graph = model.graph
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                known[node.output[0]] = numpy_helper.to_array(attribute.t)
            elif attribute.name in ("value_int", "value_ints"):
                known[node.output[0]] = np.array(helper.get_attribute_value(attribute))
    parts = {n.output[0]: n for n in graph.node if n.op_type == SPLIT and len(n.input) > 1 and n.input[1] in known}
    nodes = []
    for node in graph.node:
        place = int(known[node.input[1]]) if node.op_type == TAKE and node.input[1] in known else -1
        if place < 0 or node.input[0] not in parts:  # from the end, it would take the number of parts
            nodes.append(node)
            continue
        split, taken = parts[node.input[0]], node.output[0]
        lengths = known[split.input[1]]
        axis = next((attribute.i for attribute in split.attribute if attribute.name == "axis"), 0)
        bounds = {"starts": _start(lengths, place), "ends": _start(lengths, place + 1), "axes": axis}
        for name, value in bounds.items():
            graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), f"{taken}.{name}"))
        inputs = [split.input[0], *(f"{taken}.{name}" for name in bounds)]
        nodes.append(helper.make_node("Slice", inputs, [taken], name=node.name))
    used = {name for node in nodes for name in node.input}
    kept = [node for node in nodes if node.op_type != SPLIT or node.output[0] in used]
    del graph.node[:]
    graph.node.extend(kept)


def _start(lengths: np.ndarray, place: int) -> int:
    """Where a part begins; one number is the length of all."""
    return int(lengths) * place if lengths.ndim == 0 else int(lengths[:place].sum())
