"""Models in integers of 8 bits: what becomes an integer, what stays float, how near the result is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason='exporting needs torch: pip install "restonnx[train]"')

import onnx
from skimage import data
from tiny_model import tiny_model
from typer.testing import CliRunner

from restonnx.cli import app
from restonnx.errors import InputError, ModelError
from restonnx.model import read
from restonnx.onnx_export.export import Export
from restonnx.onnx_export.int8 import calibration, export_int8
from restonnx.restore import Restorer
from restonnx.training import checkpoint as checkpoints


@pytest.fixture(scope="module")
def rounded(whole: Path, photographs: Path) -> Export:
    return export_int8(whole, whole.with_name("small-int8.onnx"), calibrate=photographs, images=3)


def test_the_file_says_what_it_is_and_is_no_checkpoint(whole: Path, rounded: Export) -> None:
    before, after = read(whole).metadata, read(rounded.path).metadata
    assert (after.name, after.precision) == ("small-int8", "int8")
    assert (after.title, after.description) == (
        "Small, in integers",
        "For tests; in integers of 8 bits, for processors that are fast at them.",
    )
    assert before.tile.halo < after.tile.halo == before.tile.halo_exact
    assert (before.tile.preferred, after.tile.preferred) == (1536, 1792)
    unchanged = before.model_dump(exclude={"name", "title", "description", "precision", "measured", "tile"})
    assert unchanged.items() <= after.model_dump().items()
    with pytest.raises(ModelError, match="computes in integers"):
        checkpoints.load(rounded.path)


def test_the_inner_convolutions_are_integers_and_those_at_the_image_are_not(rounded: Export) -> None:
    graph = onnx.load(rounded.path).graph
    integers = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    inner = [node for node in convolutions if node.input[1] in integers]
    shuffled = {node.input[0] for node in graph.node if node.op_type == "DepthToSpace"}
    # Two levels of one block and one block on the way up, a step up and one down; then a block at each of two steps,
    # whose second convolution is the last but one.
    assert len(inner) == 3 * 2 + 2 + 2 * 1
    assert all(node.input[0] in integers for node in inner)
    # The image is seen once, and at each of the steps that make an image in the end.
    assert len(convolutions) - len(inner) == 1 + 2 * 3
    assert sum(node.output[0] in shuffled for node in convolutions) == 2
    assert not any(node.output[0] in shuffled for node in inner)


def test_the_result_is_near_that_of_the_float_model(whole: Path, rounded: Export) -> None:
    image = data.astronaut()[100:200, 100:180]
    expected, found = (Restorer(path, device="cpu")(image).astype(float) for path in (whole, rounded.path))
    assert 0 < np.sqrt(((found - expected) ** 2).mean()) < 0.02 * np.ptp(expected)
    assert 0 < max(rounded.errors) < 1


def test_what_it_is_calibrated_on_is_the_same_every_time(whole: Path, photographs: Path) -> None:
    recipe, metadata = checkpoints.load(whole).recipe, read(whole).metadata
    first, again = (calibration(recipe, metadata, photographs, 2) for _ in range(2))
    assert [feed.keys() for feed in first] == [{"image", "noise"}] * 2
    assert first[0]["noise"].shape == (1, 2, 3, 192, 192)
    for one, other in zip(first, again, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert not np.array_equal(first[0]["image"], first[1]["image"])


def test_a_model_that_takes_more_than_images_is_refused(tmp_path: Path, photographs: Path) -> None:
    model = tiny_model(tmp_path, extra=("noise_level",))
    with pytest.raises(InputError, match="tiny takes noise_level too"):
        export_int8(model, tmp_path / "out.onnx", calibrate=photographs)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("given", [["--precision", "int8"], ["--calibrate", "photographs"]])
def test_the_command_wants_photographs_with_int8_and_only_then(tmp_path: Path, given: list[str]) -> None:
    result = CliRunner().invoke(app, ["export", "denoise", "-o", str(tmp_path / "x.onnx"), *given])
    assert result.exit_code == 1
    assert "--precision int8 and --calibrate FOLDER go together" in result.stderr
