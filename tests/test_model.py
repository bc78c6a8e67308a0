"""Model files: metadata that is complete and consistent, and graphs that keep what it promises."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from changed_model import Change, changed, message_of, value_info
from onnx import TensorProto, helper
from pydantic import ValidationError
from tiny_model import EXTRA, tiny_metadata, tiny_model

from restonnx.model import Metadata, read

# --- what is read


def test_a_sound_file_gives_its_metadata_inputs_outputs_and_hash(tiny: Path) -> None:
    model = read(tiny)
    assert model.path == tiny
    assert model.metadata == Metadata.model_validate(tiny_metadata())
    assert [tensor.name for tensor in model.inputs] == ["image", "noise"]
    assert model.outputs[0].shape == (None, 3, None, None)
    assert model.size_bytes == tiny.stat().st_size
    assert model.sha256 == hashlib.sha256(tiny.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "options",
    [
        {"channels": 1},
        {"draws": 0},
        {"scale": 2},
        {"draws": 15, "multiple": 16},
        {"domain": "linear_rgb"},
        {"extra": EXTRA},
        {"noise_channels": 4, "noise_stride": 4},
        {"whole": True},
    ],
)
def test_every_kind_of_tiny_model_is_sound(options: dict[str, Any], tmp_path: Path) -> None:
    read(tiny_model(tmp_path / "m.onnx", **options))


def test_a_path_may_be_text(tiny: Path) -> None:
    assert read(str(tiny)) == read(tiny)


def test_metadata_survives_the_way_through_json() -> None:
    metadata = Metadata.model_validate(tiny_metadata(channels=1, domain="display_gray", scale=2))
    assert json.loads(metadata.to_json())["schema"] == 1
    assert Metadata.model_validate_json(metadata.to_json()) == metadata


def test_metadata_cannot_be_changed(tiny: Path) -> None:
    with pytest.raises(ValidationError):
        read(tiny).metadata.name = "other"  # type: ignore[misc]


# --- metadata that is refused


def test_a_file_of_another_program_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda model: model.ClearField("metadata_props"))
    message = message_of(path)
    assert 'made by another program ("restonnx tests")' in message
    assert "`restonnx export`" in message


def test_a_producer_with_control_characters_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.ClearField("metadata_props")
        model.producer_name = "evil\x1b[2J\nname" + "x" * 500

    message = message_of(changed(tmp_path, change))
    assert "evil?[2J?name" in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "must be a JSON object"),
        ("{}", "no schema number"),
        ('{"schema": 2}', 'schema "2", but this restonnx reads schema 1'),
        ('{"schema": "1"}', 'schema "1"'),
        ('{"schema": true}', 'schema "True"'),
    ],
)
def test_metadata_of_an_unknown_form_is_refused(text: str, words: str, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.metadata_props[0].value = text

    assert words in message_of(changed(tmp_path, change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": None}, '"task"'),
        ({"name": "Upper Case"}, '"name"'),
        ({"name": "../escape"}, '"name"'),
        ({"surprise": 1}, '"surprise"'),
        ({"domain": "cmyk"}, '"domain"'),
        ({"precision": "float8"}, '"precision"'),
        ({"scale": 0}, '"scale"'),
        ({"channels": "many"}, '"channels"'),
        ({"channels": 1}, "channels must be 3 for display_rgb, not 1"),
        ({"range": [1.0, 0.0]}, "range must rise"),
        ({"range": [0.0]}, '"range'),
        ({"measured": {"psnr": "high"}}, '"measured.psnr"'),
        ({"sampler": {"family": "magic"}}, '"sampler.family"'),
        ({"sampler": {"draws": 1001}}, '"sampler.draws"'),
        ({"sampler": {"draws": 0}}, "inputs must begin with the roles image (draws is 0)"),
        ({"sampler": {"steps": 0}}, '"sampler.steps"'),
        ({"tile": {"mode": "mosaic"}}, '"tile.mode"'),
        ({"tile": {"multiple": 0}}, '"tile.multiple"'),
        ({"tile": {"multiple": 128}}, "at least multiple (128)"),
        ({"tile": {"preferred": 65540}}, '"tile.preferred"'),
        ({"tile": {"halo": 32}}, "more than twice the halo (32)"),
        ({"tile": {"halo": -1}}, '"tile.halo"'),
        ({"inputs": [{"name": "noise", "role": "noise"}]}, "inputs must begin with the roles image, noise"),
        ({"inputs": [{"name": "x", "role": "image"}, {"name": "y", "role": "noise"}]}, "these very names"),
        ({"inputs": [{"name": "image", "role": "picture"}]}, '"inputs.0.role"'),
        (
            {"inputs": [*tiny_metadata()["inputs"], *({"name": n, "role": "mask"} for n in "ab")]},
            "inputs must have different roles",
        ),
        ({"sampler": {"noise_channels": 0}}, '"sampler.noise_channels"'),
        ({"sampler": {"noise_stride": 0}}, '"sampler.noise_stride"'),
        (
            {"sampler": {"noise_stride": 8}},
            "tile.multiple (4) times scale (1) must be a multiple of sampler.noise_stride (8)",
        ),
    ],
    ids=str,
)
def test_wrong_metadata_is_refused_by_the_name_of_the_field(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    message = message_of(tiny_model(tmp_path / "m.onnx", metadata=change))
    assert "is not valid" in message
    assert words in message


def test_not_a_number_is_no_measured_quality(tmp_path: Path) -> None:
    assert '"measured.psnr"' in message_of(
        tiny_model(tmp_path / "m.onnx", metadata={"measured": {"psnr": float("nan")}})
    )


def test_noise_has_the_size_and_channels_of_the_result_unless_the_sampler_says_otherwise() -> None:
    plain = tiny_metadata(scale=2)
    metadata = Metadata.model_validate(plain)
    assert metadata.noise_channels == 3
    assert metadata.noise_window(slice(4, 16), slice(0, 8)) == (slice(8, 32), slice(0, 16))
    plain["sampler"] |= {"noise_channels": 5, "noise_stride": 8}
    metadata = Metadata.model_validate(plain)
    assert metadata.noise_channels == 5
    assert metadata.noise_window(slice(4, 16), slice(0, 8)) == (slice(1, 4), slice(0, 2))


def test_metadata_without_the_newer_fields_is_read() -> None:
    assert "noise_stride" not in tiny_metadata()["sampler"]
    assert Metadata.model_validate(tiny_metadata()).sampler.noise_stride == 1


# --- graphs that contradict their metadata


def rename_input(model: onnx.ModelProto) -> None:
    value_info(model, "image").name = "picture"
    model.graph.node[0].input[0] = "picture"


def swap_inputs(model: onnx.ModelProto) -> None:
    first, second = model.graph.input
    del model.graph.input[:]
    model.graph.input.extend([second, first])


def drop_noise(model: onnx.ModelProto) -> None:
    del model.graph.input[1]


def extra_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [None, 1, None, None]))


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = model.graph.node[-1].output[0] = "result"


def second_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("add_5", TensorProto.FLOAT, None))


def retype(name: str, kind: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        value_info(model, name).type.tensor_type.elem_type = kind

    return change


def reshape(name: str, shape: list[int | str | None] | None) -> Change:
    def change(model: onnx.ModelProto) -> None:
        new = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        value_info(model, name).CopyFrom(new)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (rename_input, 'names the inputs "image", "noise", but the graph takes "picture", "noise"'),
        (swap_inputs, 'but the graph takes "noise", "image"'),
        (drop_noise, 'but the graph takes "image"'),
        (extra_input, 'but the graph takes "image", "noise", "mask"'),
        (rename_output, 'must have the one output "restored", not "result"'),
        (second_output, 'must have the one output "restored", not "restored", "add_5"'),
        (retype("image", TensorProto.DOUBLE), 'the input "image" is float64; it must be float32'),
        (retype("noise", TensorProto.FLOAT16), 'the input "noise" is float16; it must be float32'),
        (retype("restored", TensorProto.UINT8), 'the output "restored" is uint8; it must be float32'),
        (
            reshape("image", ["n", "h", "w"]),
            'the input "image" has 3 dimensions; it must have 4 (N, C, H, W)',
        ),
        (reshape("image", None), 'the input "image" has no known shape'),
        (reshape("noise", ["n", 3, "h", "w"]), 'the input "noise" has 4 dimensions; it must have 5'),
        (reshape("restored", [3, "h", "w"]), 'the output "restored" has 3 dimensions'),
        (reshape("image", ["n", 4, "h", "w"]), 'the input "image" has 4 channels, but the metadata says 3'),
        (reshape("image", ["n", "c", "h", "w"]), "has an open number of channels, but the metadata says 3"),
        (reshape("noise", ["n", 7, 3, "h", "w"]), 'the input "noise" has 7 draws, but the metadata says 2'),
        (
            reshape("noise", ["n", 2, 1, "h", "w"]),
            'the input "noise" has 1 channels, but the metadata says 3',
        ),
        (reshape("restored", ["n", 1, "h", "w"]), 'the output "restored" has 1 channels'),
        (reshape("image", [1, 3, "h", "w"]), "fixed to N = 1; N, H and W must be left open"),
        (reshape("image", ["n", 3, 64, "w"]), "fixed to H = 64"),
        (reshape("noise", ["n", 2, 3, "h", 64]), "fixed to W = 64"),
    ],
)
def test_a_graph_that_contradicts_its_metadata_is_refused(change: Change, words: str, tmp_path: Path) -> None:
    assert words in message_of(changed(tmp_path, change))


@pytest.mark.parametrize(
    ("role", "shape", "words"),
    [
        ("noise_level", ["n"], 'the input "x_noise_level" has 1 dimensions; it must have 4 (N, C, H, W)'),
        ("noise_level", ["n", 3, 1, 1], "has 3 channels, but a noise_level has 1"),
        ("noise_level", ["n", 1, "h", "w"], "has an open number of rows, but a noise_level has 1"),
        ("noise_level", [1, 1, 1, 1], "is fixed to N = 1; N must be left open"),
        ("mask", ["n", 3, "h", "w"], 'the input "x_mask" has 3 channels, but a mask has 1'),
        ("mask", ["n", 1, 64, "w"], "is fixed to H = 64; N, H and W must be left open"),
        ("kernel", ["h", "w"], 'the input "x_kernel" has 2 dimensions; it must have 4'),
        ("kernel", ["n", 1, 25, 25], "is fixed to H = 25"),
        ("reference", ["n", 1, "h", "w"], 'the input "x_reference" has 1 channels, but the metadata says 3'),
    ],
)
def test_a_further_input_of_another_form_is_refused(
    role: str, shape: list[int | str | None], words: str, tmp_path: Path
) -> None:
    assert words in message_of(changed(tmp_path, reshape(f"x_{role}", shape), extra=EXTRA))


@pytest.mark.parametrize(
    ("channels", "height", "words"),
    [(3, "h", 'the input "noise" has 3 channels, but the metadata says 4'), (4, 16, "is fixed to H = 16")],
)
def test_noise_of_a_latent_model_must_have_the_channels_of_its_metadata(
    channels: int, height: int | str, words: str, tmp_path: Path
) -> None:
    change = reshape("noise", ["n", 2, channels, height, "w"])
    assert words in message_of(changed(tmp_path, change, noise_channels=4, noise_stride=4))


def test_a_further_input_that_is_not_float32_is_refused(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input.append(helper.make_tensor_value_info("sigma", TensorProto.INT64, [1]))

    inputs = [*tiny_metadata()["inputs"], {"name": "sigma", "role": "noise_level"}]
    path = changed(tmp_path, change, metadata={"inputs": inputs})
    assert 'the input "sigma" is int64; it must be float32' in message_of(path)
