"""From a recipe to a file that restores images: a few iterations on a tiny network, frozen, run, as torch has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason='exporting needs torch: pip install "restonnx[train]"')

import torch

from restonnx import noise as noises
from restonnx.diffusion import rddm, rddm_paths
from restonnx.errors import InputError
from restonnx.model import read
from restonnx.onnx_export import export
from restonnx.onnx_export.export import export_checkpoint, unrolled
from restonnx.onnx_export.halo import receptive_radius
from restonnx.onnx_export.unroll import ResidualChain
from restonnx.restore import Restorer
from restonnx.training import checkpoint as checkpoints
from restonnx.training.checkpoint import Checkpoint
from restonnx.training.evaluate import evaluate
from restonnx.training.loop import train
from restonnx.training.recipe import parse

ABOUT = {"title": "Small", "description": "For tests.", "task": "denoise", "domain": "display_rgb"}
SIZES = {"widths": [8, 8], "down": [1, 1], "up": [1]}
RDDM: dict[str, Any] = {
    "name": "small",
    "about": ABOUT,
    "network": {"kind": "residual_backbone", **SIZES},
    "sampler": {"family": "rddm", "steps": 3, "total": 100, "sum_scale": 0.04},
    "degradation": {"kind": "denoise", "sigma": [20, 30]},
    "objective": {"kind": "rddm"},
    "training": {"iterations": 3, "batch": 2, "patch": 16},
}
TRAINED: dict[str, Any] = {
    "name": "small",
    "about": ABOUT,
    "network": {"kind": "denoiser", **SIZES},
    "sampler": {"family": "consistency"},
    "degradation": {"kind": "none"},
    "objective": {"kind": "consistency_training"},
    "training": {"iterations": 3, "batch": 2, "patch": 16},
}


def toml(content: dict[str, Any]) -> str:
    """Two levels of it."""

    def text(value: Any) -> str:
        return f'"{value}"' if isinstance(value, str) else str(value)

    sections = {key: value for key, value in content.items() if isinstance(value, dict)}
    lines = [f"{key} = {text(value)}" for key, value in content.items() if key not in sections]
    for name, section in sections.items():
        lines += [f"[{name}]", *(f"{key} = {text(value)}" for key, value in section.items())]
    return "\n".join(lines)


def trained(content: dict[str, Any], folder: Path) -> Path:
    from PIL import Image

    images = folder / "images"
    images.mkdir()
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{seed}.png")
    (folder / "small.toml").write_text(toml(content))
    return train(folder / "small.toml", data=images, out=folder / "run", quiet=True)


def random(content: dict[str, Any], path: Path) -> Path:
    """A checkpoint with random weights in every place."""
    recipe = parse(content)
    network, generator = recipe.build(), torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    checkpoints.save(path, Checkpoint(recipe, network.state_dict(), {}, {}, 1, 1.0))
    return path


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The halo that is measured takes long; the exact one is enough."""
    monkeypatch.setattr(export, "sufficient_halo", lambda module, image, multiple, exact, *_: exact)


def stub(monkeypatch: pytest.MonkeyPatch) -> list[ResidualChain]:
    """Describe, but do not trace; what would be traced."""
    quick(monkeypatch)
    modules: list[ResidualChain] = []
    monkeypatch.setattr(export, "freeze", lambda module, *_, **__: modules.append(module) or (0.0,))
    return modules


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "order"), [(None, None), (2, "residual_first")])
def test_rddm_from_a_recipe_restores_as_in_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int | None, order: str | None
) -> None:
    quick(monkeypatch)
    checkpoint = trained(RDDM, tmp_path)
    written = export_checkpoint(checkpoint, tmp_path / "x.onnx", steps=steps, order=order, precision="float32")
    assert max(written.errors) < 1e-4
    meta = read(written.path).metadata
    assert (meta.sampler.family, meta.sampler.steps, meta.sampler.draws) == ("rddm", steps or 3, 1)
    assert meta.sampler.options["order"] == (order or "together")
    assert meta.sampler.options["prediction"] == "pred_res_noise"

    image = np.random.default_rng(0).random((32, 48, 3), dtype=np.float32)
    found = Restorer(written.path, device="cpu", threads=1)(image, seed=4)
    saved = checkpoints.load(checkpoint)
    sampler = saved.recipe.sampler
    degraded = torch.from_numpy(2 * image - 1).permute(2, 0, 1)[None]
    noise = torch.from_numpy(noises.normal(4, 1, 3, slice(0, 32), slice(0, 48)))[None]
    sample: Any = rddm.sample if order is None else rddm_paths.sample_decoupled
    network = saved.build()
    with torch.no_grad():
        expected = sample(
            lambda x, times: network.step(x, degraded, network.encode(degraded), times),
            degraded,
            noise,
            sampler.residual_schedule(),
            sampler.reading("pred_res_noise"),
            times=steps or 3,
        )
    np.testing.assert_allclose(found, expected[0].permute(1, 2, 0) / 2 + 0.5, atol=1e-4)

    back = checkpoints.load(written.path)  # the file is a checkpoint again, and stays as it was cut
    assert (back.recipe.sampler.steps, back.recipe.sampler.order) == (steps or 3, order or "together")
    assert all(torch.equal(back.ema[name], value) for name, value in saved.ema.items())
    (score,) = evaluate([written.path], data=tmp_path / "images", sigma=[25.0])
    assert 0 < score.psnr < 60


@pytest.mark.slow
def test_a_consistency_model_trained_without_a_teacher_denoises_as_in_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    checkpoint = trained(TRAINED, tmp_path)
    written = export_checkpoint(checkpoint, tmp_path / "x.onnx", precision="float32")
    assert max(written.errors) < 1e-4
    assert written.metadata.sampler.family == "consistency"
    image = np.random.default_rng(0).random((32, 48, 3), dtype=np.float32)
    found = Restorer(written.path, device="cpu", threads=1)(image, noise_level=0.2)
    module = unrolled(checkpoints.load(checkpoint))
    with torch.no_grad():
        noisy = torch.from_numpy(2 * image - 1).permute(2, 0, 1)[None]
        expected = module(noisy, torch.full((1, 1, 1, 1), 0.4))
    np.testing.assert_allclose(found, expected[0].permute(1, 2, 0) / 2 + 0.5, atol=1e-4)


GENERATING: dict[str, Any] = RDDM | {
    "sampler": RDDM["sampler"] | {"generate": True, "steps": 2, "sum_scale": 1.0},
    "degradation": {"kind": "none"},
}


@pytest.mark.slow
def test_new_images_come_from_noise_alone(tmp_path: Path) -> None:
    checkpoint = trained({**GENERATING, "sampler": {**GENERATING["sampler"], "generate": "true"}}, tmp_path)
    written = export_checkpoint(checkpoint, tmp_path / "x.onnx")
    assert max(written.errors) < 1e-4
    restorer = Restorer(written.path, device="cpu", threads=1)
    image = np.random.default_rng(0).random((32, 48, 3), dtype=np.float32)
    one, other = (restorer(given, seed=1) for given in (image, 1 - image))
    np.testing.assert_array_equal(one, other)
    assert np.abs(restorer(image, seed=2) - one).max() > 0.01


def test_of_the_image_only_the_size_counts_where_new_ones_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = stub(monkeypatch)
    path = random(GENERATING, tmp_path / "small.safetensors")
    assert export_checkpoint(path, tmp_path / "x.onnx").metadata.tile.mode == "overlap"
    image, noise = torch.rand(1, 3, 8, 8), torch.randn(1, 1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(modules[0](image, noise), modules[0](-image, noise))
        assert (modules[0](image, -noise) - modules[0](image, noise)).abs().max() > 0.01


def test_the_number_of_steps_and_the_order_are_chosen_when_exporting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = stub(monkeypatch)
    checkpoint = random(RDDM, tmp_path / "small.safetensors")
    for steps, order in ((None, None), (10, "noise_first")):
        export_checkpoint(checkpoint, tmp_path / "x.onnx", steps=steps, order=order)
    assert [(m.steps, m.order, m.calls, m.draws) for m in modules] == [
        (3, "together", 3, 1),
        (10, "noise_first", 20, 1),
    ]
    for wrong in ({"steps": 101}, {"steps": 0}, {"order": "backwards"}):
        with pytest.raises(InputError, match="must"):
            export_checkpoint(checkpoint, tmp_path / "x.onnx", **wrong)


def test_noise_is_asked_for_only_where_the_chain_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = stub(monkeypatch)
    for sampler, draws in (({"eta": 1.0}, 3), ({"sum_scale": 0.0}, 0)):
        content = RDDM | {"sampler": RDDM["sampler"] | sampler, "objective": {"kind": "rddm", "prediction": "pred_res"}}
        export_checkpoint(random(content, tmp_path / "small.safetensors"), tmp_path / "x.onnx")
        module = modules[-1]
        image = torch.rand(1, 3, 8, 8)
        noise = [torch.randn(1, draws, 3, 8, 8)] if draws else []
        assert (module.draws, len(module.ports)) == (draws, 1 + len(noise))
        with torch.no_grad():
            assert torch.isfinite(module(image, *noise)).all()


@pytest.mark.parametrize("wide_noise", [False, True])
@pytest.mark.parametrize("order", ["together", "residual_first"])
def test_no_pixel_beyond_the_reach_changes_the_result(tmp_path: Path, order: str, wide_noise: bool) -> None:
    content = RDDM | {"sampler": RDDM["sampler"] | {"steps": 2, "order": order}}
    content |= {"network": RDDM["network"] | {"wide_noise": wide_noise}}
    module = unrolled(checkpoints.load(random(content, tmp_path / "small.safetensors"))).double()
    radius = receptive_radius(module, 3, 4)
    image = torch.rand(1, 3, 512, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = torch.zeros(1, 1, 3, 512, 8, dtype=torch.float64)
    changed = image.clone()
    changed[..., 256:, :] += 1
    with torch.no_grad():
        difference = (module(image, noise) - module(changed, noise)).abs().amax(dim=(0, 1, 3))
    assert difference[: 256 - radius].max() == 0
    assert difference[256 - radius : 256 - radius + 32].max() > 0  # and it is not much too large
