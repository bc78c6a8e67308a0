from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from restonnx.onnx_export.freeze import Port
from restonnx.onnx_export.pieces import Builder
from restonnx.onnx_export.stored import store

PORTS = (Port("image", "image", ("N", 1, "H", "W")),)


def piece() -> onnx.ModelProto:
    """y = net.weight x + constant, and whether all of it is below 100."""
    stored = [
        numpy_helper.from_array(np.array([2.0], np.float32), "net.weight"),
        numpy_helper.from_array(np.array([1.0], np.float32), "constant"),
        numpy_helper.from_array(np.array(100.0, np.float32), "limit"),
        numpy_helper.from_array(np.array([3.0], np.float32), "net.unread"),
    ]
    nodes = [
        helper.make_node("Mul", ["x", "net.weight"], ["product"], name="a"),
        helper.make_node("Add", ["product", "constant"], ["y"], name="b"),
        helper.make_node("ReduceMax", ["y"], ["highest"], keepdims=0, name="c"),
        helper.make_node("Less", ["highest", "limit"], ["below"], name="d"),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    below = helper.make_tensor_value_info("below", TensorProto.BOOL, [])
    return helper.make_model(helper.make_graph(nodes, "piece", [x], [y, below], stored))


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": image})
    return found


IMAGE = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)


def test_a_piece_that_is_called_twice_stores_its_weights_once() -> None:
    builder, traced = Builder(), piece()
    once, _ = builder.call(traced, {"x": "image"})
    twice, _ = builder.call(traced, {"x": once})
    model = builder.model(PORTS, twice, channels=1)
    np.testing.assert_array_equal(run(model, IMAGE), 4 * IMAGE + 3)
    names = [tensor.name for tensor in model.graph.initializer]
    assert names.count("net.weight") == 1
    assert len(names) == len(set(names)) == 3  # without the one that no node reads


def test_a_loop_runs_a_piece_so_many_times() -> None:
    builder, traced = Builder(), piece()
    count = builder.constant(np.array(3))
    (found,) = builder.loop(count, ("image",), lambda inside, _, carried: inside.call(traced, {"x": carried[0]})[:1])
    model = builder.model(PORTS, found, channels=1)
    np.testing.assert_array_equal(run(model, IMAGE), 8 * IMAGE + 7)
    assert sum(node.op_type == "Mul" for node in model.graph.node) == 0  # it stands in the body, once


def test_a_loop_ends_when_its_body_says_so() -> None:
    builder, traced = Builder(), piece()
    count, going = builder.constant(np.array(1000)), builder.constant(np.array(True))
    (found,) = builder.loop(
        count, ("image",), lambda inside, _, carried: inside.call(traced, {"x": carried[0]}), going=going
    )
    assert 100 <= run(builder.model(PORTS, found, channels=1), IMAGE).max() < 300


def test_weights_in_a_loop_can_be_stored_as_half() -> None:
    builder, traced = Builder(), piece()
    (found,) = builder.loop(
        builder.constant(np.array(3)), ("image",), lambda inside, _, carried: inside.call(traced, {"x": carried[0]})[:1]
    )
    model = builder.model(PORTS, found, channels=1)
    store(model, "float16")
    np.testing.assert_array_equal(run(model, IMAGE), 8 * IMAGE + 7)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "net.weight")
    assert weight.data_type == TensorProto.FLOAT16


def test_what_half_precision_would_change_is_kept() -> None:
    exact = numpy_helper.from_array(np.array([1.0001, 1e-9], np.float32), "table")
    builder = Builder()
    builder.stored["table"] = exact
    model = builder.model(PORTS, "image", channels=1)
    store(model, "float16")
    assert model.graph.initializer[0].data_type == TensorProto.FLOAT
