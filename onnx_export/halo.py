"""How far a result depends on the image: the exact receptive radius, and the halo that is enough in practice."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from restonnx.onnx_export.unroll import Unrolled

TOLERANCE = 0.25 / 255
"""Largest difference that a tiled result may have from the whole one."""
LENGTH = 1024
"""Side of the strips and images on which both are measured."""


def receptive_radius(module: Unrolled, channels: int, multiple: int) -> int:
    """Distance in pixels, rounded up to the multiple, beyond which no input pixel can change an output pixel.

    Found by sending a single lit pixel, once for each phase of the multiple, through a copy of the module whose weights
    are all positive: whatever stays 0 is out of reach.
    """
    probe = copy.deepcopy(module).double()
    for parameter in probe.parameters():
        nn.init.constant_(parameter, 0.0 if parameter.ndim == 1 else 1e-2)
    strip = torch.zeros(multiple, channels, LENGTH, 2 * multiple, dtype=torch.float64)
    lit = LENGTH // 2 + torch.arange(multiple)
    strip[torch.arange(multiple), :, lit] = 1.0
    noise = torch.zeros(multiple, probe.draws, *strip.shape[1:], dtype=torch.float64)
    with torch.no_grad():
        dark = probe(torch.zeros_like(strip), noise)
        reached = (probe(strip, noise) != dark).any(dim=3).any(dim=1)
    rows = torch.arange(LENGTH)
    radius = max(int((rows[hit] - position).abs().max()) for hit, position in zip(reached, lit, strict=True))
    if radius >= LENGTH // 2 - multiple:
        raise ValueError("the network's reach is not bounded by a halo")
    return -(-radius // multiple) * multiple


def sufficient_halo(module: Unrolled, image: NDArray[np.float32], multiple: int, exact: int) -> int:
    """The smallest multiple such that cutting the image off at that distance changes nothing by `TOLERANCE` / 2.

    image: (N, C, H, W) damaged images like those the model is for, larger than twice the exact radius.
    """
    whole_input = torch.from_numpy(image)
    noise = torch.randn(len(image), module.draws, *image.shape[1:], generator=torch.Generator().manual_seed(0))
    middle = image.shape[-2] // 2 // multiple * multiple
    with torch.no_grad():
        whole = module(whole_input, noise)
        for halo in range(0, exact, multiple):
            start = middle - halo
            cut = module(whole_input[..., start:, :], noise[..., start:, :])[..., halo:, :]
            if float((cut - whole[..., middle:, :]).abs().max()) < TOLERANCE / 2:
                return halo
    return exact
