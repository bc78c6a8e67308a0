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
    are all positive and whose biases are 0: whatever stays exactly 0 is out of reach.
    """
    probe = copy.deepcopy(module).double()
    for name, parameter in probe.named_parameters():
        nn.init.constant_(parameter, 0.0 if parameter.ndim == 1 or "bias" in name else 1e-2)
    strip = torch.zeros(multiple, channels, LENGTH, 2 * multiple, dtype=torch.float64)
    lit = LENGTH // 2 + torch.arange(multiple)
    strip[torch.arange(multiple), :, lit] = 1.0
    noise = torch.zeros(multiple, probe.draws, *strip.shape[1:], dtype=torch.float64)
    with torch.no_grad():
        reached = (probe(strip, noise) != 0).any(dim=3).any(dim=1)
    rows = torch.arange(LENGTH)
    radius = max(int((rows[hit] - position).abs().max()) for hit, position in zip(reached, lit, strict=True))
    if radius >= LENGTH // 2 - multiple:
        raise ValueError("the network's reach is not bounded by a halo")
    return -(-radius // multiple) * multiple


def sufficient_halo(module: Unrolled, image: NDArray[np.float32], multiple: int, exact: int) -> int:
    """The smallest multiple such that cutting the image off at that distance changes nothing by `TOLERANCE` / 2.

    image: (N, C, H, W) damaged images like those the model is for; cut at the top and, turned, at the left.
    """
    grown = max(0, 2 * exact + 2 * multiple - min(image.shape[-2:]))
    image = np.pad(image, ((0, 0), (0, 0), (0, grown), (0, grown)), mode="reflect")
    both = torch.from_numpy(np.concatenate([image, image.swapaxes(-1, -2)]))
    noise = torch.randn(len(both), module.draws, *both.shape[1:], generator=torch.Generator().manual_seed(0))
    middle = both.shape[-2] // 2 // multiple * multiple
    with torch.no_grad():
        whole = module(both, noise)[..., middle:, :]
        for halo in range(0, exact, multiple):
            start = middle - halo
            cut = module(both[..., start:, :], noise[..., start:, :])[..., halo:, :]
            if float((cut - whole).abs().max()) < TOLERANCE / 2:
                return halo
    return exact
