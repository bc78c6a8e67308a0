"""What the prior's network corrects."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restonnx.diffusion.consistency import Preconditioning
from restonnx.training.checkpoint import grown
from restonnx.training.networks.backbone import Backbone
from restonnx.training.networks.denoiser import FAINT, SIGMA_DATA, Corrected, Denoiser

SIGMAS = torch.logspace(-2.6, 1.9, 7)
READ = Preconditioning(sigma_data=SIGMA_DATA)


def images(seed: int = 0) -> Tensor:
    return torch.rand(len(SIGMAS), 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(
    ("corrected", "kept"),
    [
        ("noisy", (1 + SIGMAS**2).rsqrt()),
        ("shrunk", SIGMA_DATA**2 / (SIGMAS**2 + SIGMA_DATA**2)),
    ],
)
def test_a_correction_of_zero_leaves_what_is_corrected(corrected: Corrected, kept: Tensor) -> None:
    network = Denoiser(widths=(8, 8), down=(1, 1), up=(1,), corrected=corrected)
    torch.nn.init.zeros_(network.head.conv_out.weight)
    noisy = images() * (1 + SIGMAS.view(-1, 1, 1, 1))
    torch.testing.assert_close(
        READ.denoiser(network)(noisy, SIGMAS), kept.view(-1, 1, 1, 1) * noisy, rtol=2e-5, atol=2e-6
    )


def test_with_the_weights_of_a_blind_denoiser_it_corrects_as_that_does() -> None:
    """The shrunken image, at every level, but less where there is hardly any noise: the new inputs' weights are 0."""
    torch.manual_seed(2)
    blind = Backbone(steps=1, widths=(8, 8), down=(1, 1), up=(1,))
    told = Denoiser(widths=(8, 8), down=(1, 1), up=(1,), corrected="noisy")
    own, given = told.state_dict(), blind.state_dict()
    told.load_state_dict({name: grown(given[name], own[name]) for name in own})
    seen, levels = images(3), SIGMAS.view(-1, 1, 1, 1)
    with torch.no_grad():
        correction = 2 * (blind(seen / 2 + 0.5, seen / 2 + 0.5, 0) - (seen / 2 + 0.5))
        estimate = READ.denoiser(told)(seen * (1 + levels**2).sqrt(), SIGMAS)
    expected = seen + levels * (levels**2 + FAINT**2).rsqrt() * correction
    torch.testing.assert_close(estimate, expected, rtol=0, atol=2e-5)
