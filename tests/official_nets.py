"""Official networks small enough for a test, and inputs for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from restonnx.training.networks.official.vq import VQConfig

SMALL_VQ = VQConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1, n_embed=16)


def built(module: Any, config: Any) -> nn.Module:
    """The network with random weights in every place, zero-initialised ones too."""
    network: nn.Module = module.build(config).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
