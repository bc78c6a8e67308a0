from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch", reason='official networks need torch: pip install "restonnx[train]"')

import torch
from official_nets import SMALL_VQ, built, drawn

from restonnx.training.networks.official import vq
from restonnx.training.networks.official.vq import VQConfig


@pytest.mark.parametrize("config", [SMALL_VQ, replace(SMALL_VQ, resamp_with_conv=False, attn_resolutions=(128,))])
def test_the_autoencoder_goes_there_and_back(config: VQConfig) -> None:
    network = built(vq, config)
    image = drawn(2, 3, 16, 24)
    latent = network.encode(image)
    assert latent.shape == (2, 3, 8, 12)
    assert network.decode(latent).shape == image.shape
    torch.testing.assert_close(network(image), network.decode(network.quantize(latent).values))
    assert not torch.allclose(network(image), network(image, force_not_quantize=True))


def test_a_latent_moves_to_the_nearest_code_and_the_gradient_passes_through() -> None:
    quantizer = built(vq, SMALL_VQ).quantize
    latent = drawn(2, 3, 4, 5).requires_grad_()
    values, indices = quantizer(latent)
    codes = quantizer.embedding.weight
    nearest = torch.cdist(latent.permute(0, 2, 3, 1).reshape(-1, 3), codes).argmin(dim=1)
    assert torch.equal(indices, nearest)
    torch.testing.assert_close(values, codes[nearest].reshape(2, 4, 5, 3).permute(0, 3, 1, 2))
    (gradient,) = torch.autograd.grad((3 * values).sum(), latent)
    assert torch.equal(gradient, torch.full_like(latent, 3.0))


def test_the_quantization_loss_moves_latents_more_than_codes() -> None:
    latent, codes = (drawn(1, 3, 2, 2, seed=seed).requires_grad_() for seed in (0, 1))
    loss = vq.quantization_loss(latent, codes)
    by_latent, by_codes = torch.autograd.grad(loss, (latent, codes))
    torch.testing.assert_close(by_codes, -0.25 * by_latent)
    assert loss.item() == pytest.approx(1.25 * ((latent - codes) ** 2).mean().item())
