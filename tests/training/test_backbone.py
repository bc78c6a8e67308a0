from __future__ import annotations

import pytest
import torch

from restonnx.diffusion.resshift import Reading
from restonnx.diffusion.schedules import exponential
from restonnx.training.networks.backbone import Backbone
from restonnx.training.objectives.config import DataConsistent
from restonnx.training.objectives.resshift import ResShiftObjective


def small(**options: object) -> Backbone:
    torch.manual_seed(0)
    return Backbone(3, 3, (8, 16), (1, 1), (1,), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(8, 8), (8, 24), (32, 16)])
def test_the_estimate_has_the_images_shape(size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size)
    assert small()(image, image, 1).shape == image.shape


def test_a_step_per_sample_equals_the_steps_one_by_one() -> None:
    network, image, x_t = small(), torch.rand(3, 3, 16, 16), torch.rand(3, 3, 16, 16)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    together = network(x_t, image, torch.tensor([2, 0, 1]))
    for sample, t in enumerate((2, 0, 1)):
        alone = network(x_t[sample : sample + 1], image[sample : sample + 1], t)
        torch.testing.assert_close(together[sample : sample + 1], alone)


def test_pixels_beyond_the_reach_change_nothing() -> None:
    network, image = small(), torch.rand(1, 3, 128, 16)
    changed = image.clone()
    changed[..., 96:, :] += 1
    torch.testing.assert_close(network(image, image, 0)[..., :32, :], network(changed, changed, 0)[..., :32, :])


@pytest.mark.parametrize("gradient", ["full", "detached"])
def test_the_encoder_runs_once_however_long_the_chain(gradient: str) -> None:
    network, calls = small(), []
    network.encoder.register_forward_hook(lambda *_: calls.append(1))
    schedule = exponential(3, kappa=0.1, min_noise_level=0.01)
    objective = ResShiftObjective(network, schedule, DataConsistent(gradient=gradient, loss_on="end"), Reading())
    image = torch.rand(2, 3, 16, 16)
    objective(image, image, torch.randn(3, *image.shape), torch.rand(4), 1.0).backward()
    assert len(calls) == 1


def test_a_detached_chain_does_not_teach_its_earlier_steps() -> None:
    gradients = {}
    for gradient in ("full", "detached"):
        network = small()
        schedule = exponential(3, kappa=0.1, min_noise_level=0.01)
        objective = ResShiftObjective(network, schedule, DataConsistent(gradient=gradient, loss_on="end"), Reading())
        clean = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        noise = torch.randn(3, *clean.shape, generator=torch.Generator().manual_seed(2))
        objective(clean, clean + 0.1 * noise[0], noise, torch.zeros(4), 1.0).backward()
        gradients[gradient] = network.head.step_bias.grad
    assert gradients["detached"][0].abs().sum() > 0
    assert gradients["detached"][1:].abs().sum() == 0
    assert gradients["full"][1:].abs().sum() > 0


@pytest.mark.parametrize(("slope", "learns"), [(0.1, True), (0.0, False)])
def test_a_unit_that_is_below_0_everywhere_still_learns(slope: float, learns: bool) -> None:
    network, image = small(slope=slope), torch.rand(1, 3, 16, 16)
    block = network.encoder.down_blocks[1][0]
    torch.nn.init.constant_(block.conv1.bias, -100.0)
    network(image, image, 0).square().mean().backward()
    assert bool(block.conv1.weight.grad.abs().max() > 0) == learns
