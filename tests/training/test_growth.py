"""A chain that begins as its one-step sibling."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from restonnx.onnx_export.unroll import Unrolled
from restonnx.training import checkpoint as checkpoints
from restonnx.training import loop
from restonnx.training.processes import Place
from restonnx.training.recipe import Recipe, load

ONE_STEP = ["sampler.steps=1", "sampler.kappa=0"]


@pytest.mark.parametrize("steps", [2, 4])
@pytest.mark.parametrize("gains", [True, False])
def test_a_chain_with_gains_begins_with_the_estimate_of_its_one_step_sibling(
    recipe: Path, tmp_path: Path, steps: int, gains: bool
) -> None:
    sibling = load(recipe, ONE_STEP)
    weights = {name: value + 0.05 * torch.randn_like(value) for name, value in sibling.build().state_dict().items()}
    path = tmp_path / "sibling.safetensors"
    checkpoints.save(path, checkpoints.Checkpoint(sibling, weights, {}, {}, 1, 1.0))
    one = sibling.build()
    one.load_state_dict(weights)

    grown = load(recipe, [f"sampler.steps={steps}", "sampler.kappa=0", f"network.gains={str(gains).lower()}"])
    run = loop._Run(grown, Place(torch.device("cpu")))
    run.start_from(path)
    image = torch.rand(2, grown.network.channels, 16, 16)
    with torch.no_grad():
        expected, result = restored(sibling, one, image), restored(grown, run.network, image)
    assert (expected - image).abs().max() > 1e-2
    assert torch.allclose(result, expected, atol=1e-5) == gains


def restored(recipe: Recipe, network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    return Unrolled(network, recipe.sampler.schedule(), recipe.sampler.reading())(image)


def test_a_chain_with_gains_may_begin_from_a_network_that_has_no_steps(recipe: Path, tmp_path: Path) -> None:
    prior = load("prior", ["network.widths=[16, 16]", "network.down=[1, 1]", "network.up=[1]"])
    path = tmp_path / "prior.safetensors"
    checkpoints.save(path, checkpoints.Checkpoint(prior, prior.build().state_dict(), {}, {}, 1, 1.0))
    run = loop._Run(load(recipe, ["sampler.kappa=0", "network.gains=true"]), Place(torch.device("cpu")))
    first = run.network.gain.clone()
    run.start_from(path)
    assert torch.equal(run.network.gain, first)
    saved = checkpoints.load(path).ema["head.conv_out.weight"]
    assert torch.equal(run.network.head.conv_out.weight, saved)
