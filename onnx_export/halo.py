"""How far a result depends on the image: the exact receptive radius, and the halo that is enough in practice."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from restonnx.onnx_export.unroll import Graph, other_feeds

TOLERANCE = 0.25 / 255
"""Largest difference that a tiled result may have from the whole one."""
LENGTH = 1024
"""Side of the strips and images on which both are measured."""


def receptive_radius(module: Graph, channels: int, multiple: int) -> int:
    """Distance in pixels, rounded up to the multiple, beyond which no input pixel can change an output pixel.

    Found by the gradient of a single output pixel, one for each phase of the multiple, of a copy of the module whose
    weights are all positive, so that nothing cancels and every ReLU is open: what stays exactly 0 is out of reach.
    """
    probe = copy.deepcopy(module).double()
    for name, parameter in probe.named_parameters():
        nn.init.constant_(parameter, 0.0 if parameter.ndim == 1 or "bias" in name else 1e-2)
        parameter.requires_grad_(False)
    gray = torch.ones(multiple, channels, LENGTH, 2 * multiple, dtype=torch.float64, requires_grad=True)
    lit = LENGTH // 2 + torch.arange(multiple)
    with torch.enable_grad():
        probe(gray, *other_feeds(probe, gray))[torch.arange(multiple), :, lit].sum().backward()
    assert gray.grad is not None
    reached = (gray.grad != 0).any(dim=3).any(dim=1)
    rows = torch.arange(LENGTH)
    radius = max(int((rows[hit] - position).abs().max()) for hit, position in zip(reached, lit, strict=True))
    if radius >= LENGTH // 2 - multiple:
        raise ValueError("the network's reach is not bounded by a halo")
    return -(-radius // multiple) * multiple


def sufficient_halo(module: Graph, image: NDArray[np.float32], multiple: int, exact: int) -> int:
    """The smallest multiple such that cutting the image off at that distance changes nothing by `TOLERANCE` / 2.

    image: (N, C, H, W) damaged images in [0, 1] like those the model is for; cut at the top and, turned, at the left.
    """
    grown = max(0, 2 * exact + 2 * multiple - min(image.shape[-2:]))
    image = np.pad(image, ((0, 0), (0, 0), (0, grown), (0, grown)), mode="reflect")
    low, high = module.range
    both = low + (high - low) * torch.from_numpy(np.concatenate([image, image.swapaxes(-1, -2)]))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(both), module.draws, *both.shape[1:], generator=generator)
    middle = both.shape[-2] // 2 // multiple * multiple

    def run(start: int) -> torch.Tensor:
        """The rows below the middle, when the network sees nothing above `start`."""
        cut = both[..., start:, :]
        result: torch.Tensor = module(cut, *other_feeds(module, cut, noise[..., start:, :]))
        return result[..., middle - start :, :]

    with torch.no_grad():
        whole = run(0)
        for halo in range(0, exact, multiple):
            if float((run(middle - halo) - whole).abs().max()) < (high - low) * TOLERANCE / 2:
                return halo
    return exact
