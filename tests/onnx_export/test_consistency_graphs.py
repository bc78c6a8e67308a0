"""Several steps of a consistency model: in torch as the sampler of `diffusion`, and in the graph as in torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason='exporting needs torch: pip install "restonnx[train]"')

import torch
from tiny_published import CONSISTENCY, built, drawn, traced_once

from restonnx import noise as noises
from restonnx.diffusion import consistency
from restonnx.diffusion.consistency import Preconditioning, multistep_sigmas
from restonnx.errors import InputError
from restonnx.onnx_export import consistency_graphs
from restonnx.onnx_export.consistency_graphs import ConsistencyChain
from restonnx.onnx_export.export import export_checkpoint, unrolled
from restonnx.onnx_export.official_graphs import ConsistencyDenoiser
from restonnx.onnx_export.options import ConsistencyOptions, parse
from restonnx.onnx_export.published import export_published
from restonnx.restore import Restorer
from restonnx.training import checkpoint as checkpoints
from restonnx.training.checkpoint import Checkpoint
from restonnx.training.recipe import parse as parse_recipe

OURS: dict[str, Any] = {
    "name": "small",
    "about": {"title": "Small", "description": "For tests.", "task": "prior", "domain": "display_rgb"},
    "network": {"kind": "denoiser", "widths": [8, 8], "down": [1, 1], "up": [1]},
    "sampler": {"family": "consistency"},
    "degradation": {"kind": "none"},
    "objective": {"kind": "consistency_training"},
    "training": {"iterations": 1},
}


def level(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(-1, 1, 1, 1)


@pytest.fixture(scope="module")
def one_pass() -> ConsistencyDenoiser:
    return ConsistencyDenoiser(built(CONSISTENCY)).eval()


def test_from_pure_noise_it_is_the_published_sampler(one_pass: ConsistencyDenoiser) -> None:
    options, _ = parse("consistency", {"indices": "0,22,39"})
    assert isinstance(options, ConsistencyOptions)
    chain = ConsistencyChain(one_pass, options.shares())
    noise = drawn(2, 1, 3, 8, 8)
    x = 80 * drawn(2, 3, 8, 8, seed=1)
    expected = consistency.sample(
        lambda x, sigma: one_pass(x, level(*[sigma] * len(x))), x, multistep_sigmas((0, 22, 39), 40), noise.unbind(1)
    )
    torch.testing.assert_close(chain(x, noise, level(80.0, 80.0)), expected, rtol=1e-4, atol=1e-4)


def test_every_image_starts_from_its_own_noise_level(one_pass: ConsistencyDenoiser) -> None:
    chain = ConsistencyChain(one_pass, consistency.even_shares(3))
    image, noise, levels = drawn(2, 3, 8, 8), drawn(2, 2, 3, 8, 8, seed=1), level(0.1, 5.0)
    apart = [chain(image[n : n + 1], noise[n : n + 1], levels[n : n + 1]) for n in range(2)]
    torch.testing.assert_close(chain(image, noise, levels), torch.cat(apart))
    quiet = chain(image, noise, level(0.0, 0.0))  # nothing is added to what has no noise
    torch.testing.assert_close(quiet, image, rtol=0, atol=1e-5)


def test_an_edm_teacher_and_a_single_step_are_no_chain(one_pass: ConsistencyDenoiser) -> None:
    teacher = ConsistencyDenoiser(one_pass.network, Preconditioning(time_scale=250.0))
    with pytest.raises(ValueError, match="consistency models alone"):
        ConsistencyChain(teacher, consistency.even_shares(2))
    with pytest.raises(ValueError, match="two steps or more"):
        ConsistencyChain(one_pass, consistency.even_shares(1))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"indices": "3,22,39"}, "rise from 0"),
        ({"indices": "0,22,22"}, "rise from 0"),
        ({"indices": "0"}, "two or more"),
        ({"indices": "0,22,39", "steps": "3"}, "3 indices are of 2 steps, not 3"),
        ({"steps": "0"}, "option steps"),
    ],
)
def test_steps_that_make_no_chain_are_refused(settings: dict[str, str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        parse("consistency", settings)


@pytest.mark.slow
def test_a_published_model_in_three_steps_is_in_the_graph_what_it_is_in_torch(tmp_path: Path) -> None:
    network = built(CONSISTENCY)
    torch.save(network.state_dict(), tmp_path / "a.pt")
    settings = ["network.num_head_channels=16", "steps=3"]
    written = export_published(tmp_path / "a.pt", "consistency", tmp_path / "x.onnx", settings=settings)
    assert max(written.errors) < 1e-4
    meta = written.metadata
    assert (meta.sampler.steps, meta.sampler.draws, meta.task) == (3, 2, "denoise")
    assert [spec.role for spec in meta.inputs] == ["image", "noise", "noise_level"]


@pytest.fixture
def network_once() -> Iterator[None]:
    with traced_once(consistency_graphs):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("network_once")
def test_ours_in_two_steps_restores_an_image_as_torch_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from restonnx.onnx_export import export

    monkeypatch.setattr(export, "sufficient_halo", lambda *_: 8)  # measured elsewhere
    monkeypatch.setattr(export, "receptive_radius", lambda *_: 32)
    recipe = parse_recipe(OURS)
    network = recipe.build()
    for i, parameter in enumerate(network.parameters()):
        parameter.data = 0.1 * drawn(*parameter.shape, seed=i)
    path = tmp_path / "small.safetensors"
    checkpoints.save(path, Checkpoint(recipe, network.state_dict(), {}, {}, 1, 1.0))
    written = export_checkpoint(path, tmp_path / "x.onnx", steps=2, precision="float32")
    assert max(written.errors) < 1e-4

    image = np.random.default_rng(0).random((32, 48, 3), dtype=np.float32)
    found = Restorer(written.path, device="cpu", threads=1)(image, noise_level=0.2, seed=3)
    module = unrolled(checkpoints.load(path), 2)
    drawn_there = torch.from_numpy(noises.normal(3, 1, 3, slice(0, 32), slice(0, 48)))[None]
    with torch.no_grad():
        noisy = torch.from_numpy(2 * image - 1).permute(2, 0, 1)[None]
        expected = module(noisy, drawn_there, level(0.4))
    np.testing.assert_allclose(found, expected[0].permute(1, 2, 0) / 2 + 0.5, atol=1e-4)
    assert np.abs(found - Restorer(written.path, device="cpu", threads=1)(image, noise_level=0.2, seed=4)).max() > 1e-4

    back = checkpoints.load(written.path)
    assert all(torch.equal(back.ema[name], value) for name, value in network.state_dict().items())
    again = export_checkpoint(written.path, tmp_path / "y.onnx", precision="float32")
    assert again.metadata.sampler.steps == 2
