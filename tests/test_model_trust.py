"""Model files from strangers: graphs that are not to be trusted."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from changed_model import Change, changed, message_of
from onnx import TensorProto, helper, numpy_helper

from restonnx.model import METADATA_KEY, read


def add_foreign_node(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Shell", [], ["x"], domain="evil.example"))


def add_foreign_node_in_a_branch(model: onnx.ModelProto) -> None:
    inside = helper.make_graph([helper.make_node("Shell", [], ["x"], domain="evil.example")], "then", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=inside, else_branch=inside))


def add_foreign_node_in_a_function(model: onnx.ModelProto) -> None:
    inside = helper.make_node("Shell", [], ["x"], domain="evil.example")
    model.functions.append(helper.make_function("f", "Local", [], [], [inside], []))


@pytest.mark.parametrize("change", [add_foreign_node, add_foreign_node_in_a_branch, add_foreign_node_in_a_function])
def test_operators_of_other_domains_are_refused(change: Change, tmp_path: Path) -> None:
    message = message_of(changed(tmp_path, change))
    assert 'the operator "Shell" of the domain "evil.example"' in message


@pytest.mark.parametrize("domain", ["ai.onnx", "com.microsoft"])
def test_operators_that_come_with_onnx_runtime_are_allowed(domain: str, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Gelu", ["restored"], ["unused"], domain=domain))

    read(changed(tmp_path, change))


def test_more_than_four_gibibytes_of_weights_are_refused(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(TensorProto(name="huge", data_type=TensorProto.FLOAT, dims=[2**20, 2**11]))

    message = message_of(changed(tmp_path, change))
    assert "8.0 GiB of weights; at most 4 GiB" in message


def external(location: str | None, *, name: str = "extra") -> Change:
    """Give the model a tensor of 4 values whose data lies at `location`."""

    def change(model: onnx.ModelProto) -> None:
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
        if location is not None:
            tensor.external_data.add(key="location", value=location)
        model.graph.initializer.append(tensor)

    return change


def write_weights(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.zeros(4, np.float32).tobytes())
    return path


@pytest.mark.parametrize("location", ["weights.bin", "sub/weights.bin", "sub/../weights.bin"])
def test_weights_inside_the_models_folder_are_allowed_and_counted(location: str, tmp_path: Path) -> None:
    write_weights(tmp_path / "sub" / "weights.bin")
    weights = write_weights(tmp_path / "weights.bin")
    path = changed(tmp_path, external(location))
    model = read(path)
    assert model.external == ((tmp_path / location).resolve(),)
    assert model.size_bytes == path.stat().st_size + weights.stat().st_size


def test_weights_written_by_the_onnx_package_are_found(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(onnx.load(tiny), path, save_as_external_data=True, location="m.data", size_threshold=0)
    assert read(path).external == ((tmp_path / "m.data").resolve(),)


@pytest.mark.parametrize("location", ["/etc/passwd", "C:\\Windows\\win.ini", "\\\\server\\share\\x", "C:x"])
def test_an_absolute_path_of_any_system_is_refused(location: str, tmp_path: Path) -> None:
    assert "an absolute path" in message_of(changed(tmp_path, external(location)))


@pytest.mark.parametrize("location", ["../secret.bin", "sub/../../secret.bin", "../model2/secret.bin"])
def test_weights_outside_the_models_folder_are_refused(location: str, tmp_path: Path) -> None:
    write_weights(tmp_path / "secret.bin")
    write_weights(tmp_path / "model2" / "secret.bin")
    (tmp_path / "model" / "sub").mkdir(parents=True)
    message = message_of(changed(tmp_path / "model", external(location)))
    assert "outside the model's folder" in message


def test_weights_behind_a_link_that_leaves_the_folder_are_refused(tmp_path: Path) -> None:
    secret = write_weights(tmp_path / "secret.bin")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").symlink_to(secret)
    assert "outside the model's folder" in message_of(changed(folder, external("weights.bin")))


def test_weights_below_a_linked_folder_that_leaves_are_refused(tmp_path: Path) -> None:
    write_weights(tmp_path / "elsewhere" / "weights.bin")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "sub").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert "outside the model's folder" in message_of(changed(folder, external("sub/weights.bin")))


@pytest.mark.parametrize("location", ["weights.bin", ".", "a\x00b", "x" * 5000])
def test_weights_that_are_missing_are_refused(location: str, tmp_path: Path) -> None:
    assert "which is missing" in message_of(changed(tmp_path, external(location)))


@pytest.mark.skipif(sys.platform == "win32", reason="a file name cannot hold * there")
@pytest.mark.parametrize("location", ["*/_ORT_MEM_ADDR_/*", "*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*"])
def test_a_memory_address_is_refused_even_where_a_file_of_that_name_exists(location: str, tmp_path: Path) -> None:
    write_weights(tmp_path / location)
    assert "a memory address" in message_of(changed(tmp_path, external(location)))


@pytest.mark.parametrize("location", [None, ""])
def test_external_weights_without_a_place_are_refused(location: str | None, tmp_path: Path) -> None:
    assert "without naming where" in message_of(changed(tmp_path, external(location)))


def test_a_tensor_that_only_names_a_place_is_held_for_external(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        tensor = numpy_helper.from_array(np.zeros(4, np.float32), "sly")
        tensor.external_data.add(key="location", value="/etc/passwd")
        model.graph.initializer.append(tensor)

    assert "an absolute path" in message_of(changed(tmp_path, change))


def test_a_second_metadata_entry_cannot_hide_behind_the_first(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.metadata_props.add(key=METADATA_KEY, value="{}")

    assert "no schema number" in message_of(changed(tmp_path, change))
