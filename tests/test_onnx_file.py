"""The ONNX parser: it sees what the onnx package sees, reads no weights, and answers rubbish in one line."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import changed_model
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tiny_model import tiny_graph, tiny_model

from restonnx.errors import ModelError
from restonnx.onnx_file import MAX_FILE_BYTES, TensorInfo, parse


def saved(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def graph() -> onnx.ModelProto:
    return tiny_graph(channels=3, draws=2, scale=1, multiple=4, blur=True, fail=None, convs=0)


def external_tensor(location: str = "weights.bin") -> onnx.TensorProto:
    tensor = TensorProto(name="outside", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def branch(*nodes: onnx.NodeProto, initialisers: tuple[onnx.TensorProto, ...] = ()) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "branch", [], [], list(initialisers))


message_of = partial(changed_model.message_of, by=parse)


def test_the_parser_sees_what_the_onnx_package_sees(tiny: Path) -> None:
    expected, found = onnx.load(tiny), parse(tiny)
    assert found.producer == expected.producer_name
    assert found.metadata == {entry.key: entry.value for entry in expected.metadata_props}
    assert found.operators == {(node.domain, node.op_type) for node in expected.graph.node}
    assert found.inputs == (
        TensorInfo("image", "float32", (None, 3, None, None)),
        TensorInfo("noise", "float32", (None, 2, 3, None, None)),
    )
    assert found.outputs == (TensorInfo("restored", "float32", (None, 3, None, None)),)
    weights = sum(numpy_helper.to_array(tensor).nbytes for tensor in expected.graph.initializer)
    assert found.weight_bytes == weights
    assert found.size_bytes == tiny.stat().st_size
    assert found.external == ()


def test_an_input_with_a_stored_value_is_no_input(tmp_path: Path) -> None:
    model = graph()
    model.graph.input.append(helper.make_tensor_value_info("average", TensorProto.FLOAT, [3, 3, 3, 3]))
    assert [tensor.name for tensor in parse(saved(model, tmp_path / "m.onnx")).inputs] == ["image", "noise"]


def test_an_output_without_a_shape_has_none(tmp_path: Path) -> None:
    model = graph()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert parse(saved(model, tmp_path / "m.onnx")).outputs[0].shape is None


def test_weights_are_never_read_into_memory(tmp_path: Path) -> None:
    model = graph()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(16_000_000, np.float32), "large"))
    path = saved(model, tmp_path / "large.onnx")
    parse(path)  # the message classes are made once
    tracemalloc.start()
    try:
        found = parse(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.weight_bytes > 64_000_000
    assert peak < 1_000_000


def test_operators_of_sub_graphs_and_functions_are_found(tmp_path: Path) -> None:
    model = graph()
    inner = helper.make_node("Inner", [], ["a"], domain="deep")
    middle = helper.make_node("If", ["c"], ["b"], then_branch=branch(inner), else_branch=branch())
    model.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=branch(middle), else_branch=branch()))
    default = helper.make_attribute("body", branch(helper.make_node("Default", [], ["e"], domain="default")))
    function = helper.make_function(
        "f", "Local", [], [], [helper.make_node("Called", [], ["f"], domain="function")], [], [], [default]
    )
    model.functions.append(function)
    found = parse(saved(model, tmp_path / "m.onnx")).operators
    assert {("deep", "Inner"), ("function", "Called"), ("default", "Default"), ("", "If")} <= found


def as_initialiser(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    model.graph.initializer.append(tensor)


def as_constant(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["x"], value=tensor))


def as_list_of_tensors(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    model.graph.node.append(helper.make_node("Odd", [], ["x"], values=[tensor]))


def as_sparse_initialiser(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=tensor, dims=[8]))


def as_sparse_constant(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    sparse = onnx.SparseTensorProto(indices=tensor, dims=[8])
    model.graph.node.append(helper.make_node("Constant", [], ["x"], sparse_value=sparse))


def in_a_sub_graph(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    inside = branch(initialisers=(tensor,))
    model.graph.node.append(helper.make_node("If", ["c"], ["x"], then_branch=inside, else_branch=branch()))


def in_a_function(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    constant = helper.make_node("Constant", [], ["x"], value=tensor)
    model.functions.append(helper.make_function("f", "Local", [], [], [constant], []))


PLACES = (
    as_initialiser,
    as_constant,
    as_list_of_tensors,
    as_sparse_initialiser,
    as_sparse_constant,
    in_a_sub_graph,
    in_a_function,
)


@pytest.mark.parametrize("put", PLACES, ids=lambda put: put.__name__)
def test_external_data_is_found_wherever_a_tensor_may_stand(
    put: Callable[[onnx.ModelProto, onnx.TensorProto], None], tmp_path: Path
) -> None:
    model = graph()
    put(model, external_tensor("far/weights.bin"))
    assert parse(saved(model, tmp_path / "m.onnx")).external == ("far/weights.bin",)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "there is no model file" in message_of(tmp_path / "none.onnx")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "is a folder" in message_of(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    assert "is empty" in message_of(tmp_path / "m.onnx")


@pytest.mark.parametrize("text", ["Hello, this is no model.\n", "<!DOCTYPE html>\n<html></html>", "ä" * 3000, "\n"])
def test_a_text_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text(text, encoding="utf-8")
    assert "is a text file" in message_of(path)


def test_a_git_lfs_pointer_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", encoding="utf-8")
    assert "`git lfs pull`" in message_of(path)


@pytest.mark.parametrize("head", [b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", bytes(64), b"\xff" * 64])
def test_a_file_of_another_kind_is_refused(head: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(head + bytes(range(256)) * 4)
    assert "is not an ONNX model" in message_of(path)


def test_a_protobuf_without_a_graph_is_refused(tmp_path: Path) -> None:
    assert "is not an ONNX model" in message_of(saved(onnx.ModelProto(ir_version=10), tmp_path / "m.onnx"))


def test_a_truncated_file_is_called_truncated(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny.read_bytes()[: tiny.stat().st_size // 2])
    message = message_of(path)
    assert "is truncated" in message
    assert "copy it again" in message


def test_a_file_of_more_than_four_gibibytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # sparse: takes no room on the disk
    assert "at most 4 GiB" in message_of(path)


def test_a_tensor_with_a_negative_dimension_is_refused(tmp_path: Path) -> None:
    model = graph()
    model.graph.initializer[0].dims[0] = -3
    assert "negative dimension" in message_of(saved(model, tmp_path / "m.onnx"))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_damage_is_either_survived_or_answered_in_one_line(data: st.DataObject) -> None:
    good, path = damageable()
    content = bytearray(good)
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(good)))])
    try:
        parse(path)
    except ModelError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message


@given(length=st.integers(1, 1000))
@settings(max_examples=60, deadline=None)
def test_a_file_cut_anywhere_before_its_end_is_never_taken_for_a_whole_one(length: int) -> None:
    good, path = damageable()
    path.write_bytes(good[:-length])
    try:
        metadata = parse(path).metadata
    except ModelError:
        return
    assert not metadata  # cut between two fields, after the graph: what comes last is the metadata


_damageable: list[tuple[bytes, Path]] = []


def damageable() -> tuple[bytes, Path]:
    """The bytes of a sound model, and a path to write damaged ones to; made once."""
    return _damageable[0]


@pytest.fixture(scope="module", autouse=True)
def _prepare_damageable(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    _damageable.append((tiny_model(folder / "good.onnx").read_bytes(), folder / "bad.onnx"))
