"""Weights and ranges that are tuned for integers: the graph in torch is the graph that is shipped, and tuning helps."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason='exporting needs torch: pip install "restonnx[train]"')

import onnx
import onnxruntime
import torch
from onnx import helper
from typer.testing import CliRunner

from restonnx.cli import app
from restonnx.errors import ModelError
from restonnx.model import read
from restonnx.onnx_export.int8 import calibration, export_int8
from restonnx.onnx_export.precision import TUNED, Feeds, fold, keep_layout, quantise
from restonnx.onnx_export.tuning import RoundedGraph, tune
from restonnx.restore import Restorer
from restonnx.training import checkpoint as checkpoints

Array = np.ndarray


@pytest.fixture(scope="module")
def feeds(shallow: Path, photographs: Path) -> list[Feeds]:
    found = calibration(checkpoints.load(shallow).recipe, read(shallow).metadata, photographs, 3)
    return [{name: value[..., :64, :64] for name, value in feed.items()} for feed in found]


@pytest.fixture(scope="module")
def graphs(shallow: Path, feeds: list[Feeds]) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The float graph, and that of integers."""
    plain = fold(shallow.read_bytes())
    keep_layout(plain)
    return plain, quantise(plain, feeds, rounding=TUNED)


def run(model: onnx.ModelProto, feeds: Feeds) -> Array:
    """As the operators are defined: nothing is fused, and nothing computed in integers that is not said to be."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))[0]


def rms(difference: Array) -> float:
    return float(np.sqrt((difference**2).mean()))


def tensors(feeds: Feeds) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in feeds.items()}


def test_torch_computes_both_graphs(graphs: tuple[onnx.ModelProto, onnx.ModelProto], feeds: list[Feeds]) -> None:
    plain, rounded = graphs
    graph = RoundedGraph(plain, rounded)
    with torch.no_grad():
        exact, coarse = (graph(tensors(feeds[0]), rounding=rounding).numpy() for rounding in (False, True))
    expected = run(plain, feeds[0])
    np.testing.assert_allclose(exact, expected, atol=1e-5)
    assert rms(run(rounded, feeds[0]) - expected) > 1e-3
    # But for a value right between two integers, which may fall to either.
    assert (np.abs(coarse - run(rounded, feeds[0])) < 1e-5).mean() > 0.999


def test_what_keeps_the_layout_changes_nothing(shallow: Path, feeds: list[Feeds]) -> None:
    plain = fold(shallow.read_bytes())
    before, count = run(plain, feeds[0]), len(plain.graph.node)
    keep_layout(plain)
    onnx.checker.check_model(plain)
    assert len(plain.graph.node) == count + 1  # behind the encoder's first convolution
    np.testing.assert_array_equal(run(plain, feeds[0]), before)


def test_tuning_finds_better_ranges_and_what_is_written_is_what_was_tuned(
    graphs: tuple[onnx.ModelProto, onnx.ModelProto], feeds: list[Feeds]
) -> None:
    plain = copy.deepcopy(graphs[0])
    wide = [{name: 3 * value for name, value in feed.items()} for feed in feeds]
    rounded, expected = quantise(plain, wide, rounding=TUNED), run(plain, feeds[0])
    graph, losses = RoundedGraph(plain, rounded), list[float]()
    batch = (torch.zeros(1, 3, 64, 64), tensors(feeds[0]))
    tune(graph, [batch] * 150, 150, lambda done, total, loss: losses.append(loss))
    assert len(losses) == 150
    assert losses[-1] < 0.5 * losses[0]
    ranges = graph.write_to(plain)
    again = quantise(plain, feeds[:1], rounding=TUNED, ranges=ranges)
    with torch.no_grad():
        coarse = graph(tensors(feeds[0])).numpy()
    before, after = (rms(run(model, feeds[0]) - expected) for model in (rounded, again))
    assert after < 0.7 * before
    assert (np.abs(coarse - run(again, feeds[0])) < 1e-5).mean() > 0.999


def test_a_tuned_model_has_integer_sums_and_is_the_same_every_time(whole: Path, photographs: Path) -> None:
    first, again = (
        export_int8(whole, whole.with_name(f"{n}.onnx"), calibrate=photographs, images=2, tune=2) for n in "ab"
    )
    assert first.path.read_bytes() == again.path.read_bytes()
    graph = onnx.load(first.path).graph
    integers = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    inner = [node for node in convolutions if node.input[1] in integers]
    # As without tuning, and besides the last but one of each step, and the one that keeps the layout.
    assert len(inner) == 3 * 2 + 2 + 2 * 2 + 1
    sums = [node for node in graph.node if node.op_type == "Add" and set(node.input) <= integers]
    assert len(sums) >= 3 + 2 * 2
    image = np.random.default_rng(0).integers(0, 255, (96, 80, 3), dtype=np.uint8)
    assert Restorer(first.path, device="cpu")(image).shape == image.shape


def test_an_operator_that_tuning_does_not_know_is_one_line(graphs: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    plain = copy.deepcopy(graphs[0])
    plain.graph.node.append(helper.make_node("Erf", [plain.graph.node[0].output[0]], ["strange"]))
    with pytest.raises(ModelError, match="tuning does not know the operator Erf"):
        RoundedGraph(plain, graphs[1])


def test_the_command_tunes_integers_alone(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", "denoise", "-o", str(tmp_path / "x.onnx"), "--tune", "5"])
    assert result.exit_code == 1
    assert "--tune is of --precision int8 alone" in result.stderr
