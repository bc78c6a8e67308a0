from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason='exporting needs torch: pip install "restonnx[train]"')

import onnx
import torch
from safetensors.torch import load_file

from restonnx.diffusion.resshift import Reading
from restonnx.diffusion.schedules import exponential
from restonnx.errors import InputError, ModelError
from restonnx.model import read
from restonnx.onnx_export import freeze
from restonnx.onnx_export.export import export_checkpoint
from restonnx.onnx_export.halo import receptive_radius
from restonnx.onnx_export.unroll import Unrolled
from restonnx.restore import Restorer
from restonnx.training import checkpoint as checkpoints
from restonnx.training.checkpoint import Checkpoint
from restonnx.training.networks.backbone import Backbone
from restonnx.training.recipe import parse

CONTENT: dict[str, Any] = {
    "name": "small",
    "about": {"title": "Small", "description": "For tests.", "task": "denoise", "domain": "display_rgb"},
    "network": {"widths": [8, 16], "down": [1, 1], "up": [1]},
    "sampler": {"steps": 3, "kappa": 0.5},
    "degradation": {"kind": "denoise"},
    "objective": {"kind": "data_consistent"},
    "training": {"iterations": 1},
}


def untrained(path: Path, scale: int = 1, **network: Any) -> Path:
    """A checkpoint with random weights in every place, so that nothing can hide behind a zero."""
    larger = {"kind": "super_resolution", "scale": scale}
    content = CONTENT if scale == 1 else CONTENT | {"degradation": larger}
    recipe = parse(content | {"network": CONTENT["network"] | {"scale": scale} | network})
    built = recipe.network.build(3)
    generator = torch.Generator().manual_seed(0)
    for parameter in built.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    checkpoints.save(path, Checkpoint(recipe, built.state_dict(), {}, {}, 1, 1.0))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("checkpoint") / "small.safetensors")


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> Path:
    return export_checkpoint(checkpoint, checkpoint.with_name("small.onnx")).path


def test_the_graph_equals_torch_at_every_size(checkpoint: Path, tmp_path: Path) -> None:
    written = export_checkpoint(checkpoint, tmp_path / "model.onnx", precision="float32")
    assert len(written.errors) == 3
    assert max(written.errors) < 1e-4


def test_a_graph_that_differs_from_torch_is_not_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freeze, "LIMIT", -1.0)
    with pytest.raises(ModelError, match="differs from torch"):
        export_checkpoint(checkpoint, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_the_file_describes_itself(exported: Path) -> None:
    file = read(exported)
    assert file.metadata.name == "small"
    assert file.metadata.sampler.draws == 3
    assert file.metadata.tile.multiple == 4
    assert file.metadata.tile.halo_exact > 0


def test_every_weight_and_the_encoder_are_there_once(exported: Path, checkpoint: Path) -> None:
    graph = onnx.load(exported).graph
    stored = Counter(tensor.name for tensor in graph.initializer)
    names = {name.removeprefix("ema.") for name in load_file(checkpoint)}
    assert all(stored[name] == 1 for name in names)
    # conv_in reaches its convolution through the rearrangement of its weights.
    takers = [node for node in graph.node if node.op_type in ("Conv", "DepthToSpace")]
    uses = Counter(name.removesuffix(".float32") for node in takers for name in node.input)
    encoder = [name for name in names if name.startswith("encoder.") and name.endswith("weight")]
    assert encoder
    assert all(uses[name] == 1 for name in encoder)
    assert uses["head.conv_in.weight"] == 3


def test_the_file_says_nothing_of_the_machine_it_was_made_on(exported: Path) -> None:
    content = exported.read_bytes()
    assert b".py" not in content
    assert str(Path.home()).encode() not in content


def test_half_precision_weights_make_the_file_half_as_large(checkpoint: Path, exported: Path, tmp_path: Path) -> None:
    full = export_checkpoint(checkpoint, tmp_path / "full.onnx", precision="float32").path
    weights = sum(4 * tensor.numel() for tensor in load_file(checkpoint).values())
    assert full.stat().st_size - exported.stat().st_size == pytest.approx(weights / 2, rel=0.15)


@pytest.mark.parametrize(
    ("scale", "precision", "least"),
    [(1, "int8-weights", 64 * 64 * 9), (2, "int8-weights", 0), (1, "all-int8-weights", 0)],
)
def test_convolutions_can_be_stored_in_eight_bits_and_exported_again(
    tmp_path: Path, scale: int, precision: str, least: int
) -> None:
    given = untrained(tmp_path / "wide.safetensors", scale, widths=[8, 64])
    small = export_checkpoint(given, tmp_path / "small.onnx", precision=precision)
    assert max(small.errors) < 1e-4
    stored = {t.name: t.data_type for t in onnx.load(small.path).graph.initializer}
    kernels = {name.removeprefix("ema."): t.numel() for name, t in load_file(given).items() if t.ndim == 4}
    large = {name for name, count in kernels.items() if count >= least}
    assert large
    assert {name for name in kernels if stored[name] == onnx.TensorProto.INT8} == large
    assert all(stored[name] == onnx.TensorProto.FLOAT16 for name in kernels.keys() - large)
    again = export_checkpoint(small.path, tmp_path / "again.onnx", precision=precision)
    assert again.path.read_bytes() == small.path.read_bytes()
    back, original = checkpoints.load(small.path), checkpoints.load(given)
    for name, value in original.ema.items():
        most = value.abs().amax(dim=(1, 2, 3), keepdim=True) / 127 if name in large else value.abs() / 1024 + 1e-7
        assert ((back.ema[name] - value).abs() <= most).all(), name


def test_an_exported_model_is_a_checkpoint_again(exported: Path, checkpoint: Path) -> None:
    back = checkpoints.load(exported)
    original = checkpoints.load(checkpoint)
    assert back.recipe == original.recipe
    assert back.parent is None
    for name, value in original.ema.items():
        torch.testing.assert_close(back.ema[name], value, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_chain_cut_short_returns_the_estimate_of_its_last_step(checkpoint: Path, tmp_path: Path, steps: int) -> None:
    written = export_checkpoint(checkpoint, tmp_path / "cut.onnx", steps=steps, name="small-fast", precision="float32")
    assert written.metadata.sampler.steps == steps
    saved = checkpoints.load(checkpoint)
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(1, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    estimates: list[torch.Tensor] = []
    network, schedule = saved.build(), saved.recipe.sampler.schedule()
    from restonnx.diffusion import resshift

    with torch.no_grad():
        features = network.encode(image)
        resshift.sample(
            lambda x_t, t: network.step(x_t, image, features, t),
            image,
            noise.transpose(0, 1),
            schedule,
            on_step=lambda t, x_t, clean: estimates.append(clean),
        )
    module = Unrolled(network, schedule, Reading(), last=3 - steps)
    with torch.no_grad():
        torch.testing.assert_close(module(image, noise[:, :steps]), estimates[steps - 1])


@pytest.mark.parametrize("steps", [0, 4])
def test_a_chain_cannot_be_cut_to_more_or_fewer_steps_than_it_has(checkpoint: Path, tmp_path: Path, steps: int) -> None:
    with pytest.raises(InputError, match=r"1\.\.3"):
        export_checkpoint(checkpoint, tmp_path / "x.onnx", steps=steps)


@pytest.mark.parametrize("steps", [2, 8, 15])
def test_the_reach_grows_by_the_heads_own_with_every_step(steps: int) -> None:
    network = Backbone(3, steps, (8, 16), (1, 1), (1,), head_blocks=3)
    schedule = exponential(steps, kappa=1.0, min_noise_level=0.02)
    # conv_in, two convolutions a block and conv_out, each reaching 2 pixels; the encoder's own reach is the rest.
    encoder = receptive_radius(Unrolled(network, schedule, Reading(), last=steps - 1), 3, 4) - 4
    found = receptive_radius(Unrolled(network, schedule, Reading()), 3, 4)
    assert found >= 16 * (steps - 1)
    assert found <= encoder + 16 * steps + 8


def test_the_measured_reach_is_the_true_one(checkpoint: Path) -> None:
    saved = checkpoints.load(checkpoint)
    module = Unrolled(saved.build().double(), saved.recipe.sampler.schedule(), Reading())
    radius = receptive_radius(module, 3, 4)
    for parameter in module.parameters():
        parameter.data = parameter.data.abs()  # so that nothing cancels and no ReLU closes
    image = torch.rand(1, 3, 256, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = torch.zeros(1, 3, 3, 256, 16, dtype=torch.float64)
    changed = image.clone()
    changed[..., 128:, :] += 1
    with torch.no_grad():
        difference = (module(image, noise) - module(changed, noise)).abs().amax(dim=(0, 1, 3))
    assert difference[: 128 - radius].max() == 0
    assert difference[128 - radius : 128 - radius + 8].max() > 0  # the radius is rounded up to whole strides


def test_tiles_equal_the_whole_image_with_the_exact_halo(exported: Path) -> None:
    file = read(exported)
    image = np.random.default_rng(0).random((150, 170, 3), dtype=np.float32)
    whole = Restorer(file, device="cpu")(image)
    exact = file.metadata.tile.model_copy(update={"halo": file.metadata.tile.halo_exact})
    tiled = replace(file, metadata=file.metadata.model_copy(update={"tile": exact}))
    restorer = Restorer(tiled, device="cpu", tile=2 * exact.halo + 32)
    np.testing.assert_allclose(restorer(image), whole, rtol=0, atol=2e-6)
