"""How far a result depends on the image: the exact receptive radius, and the halo that is enough in practice."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from restonnx.onnx_export.unroll import Graph, ResidualChain, other_feeds
from restonnx.training.networks.residual_backbone import ResidualBackbone

TOLERANCE = 0.25 / 255
"""Largest difference that a tiled result may have from the whole one."""
LENGTH = 1024
"""Side of the strips and images on which both are measured."""


def receptive_radius(module: Graph, channels: int, multiple: int) -> int:
    """Distance in pixels of the input, rounded up to the multiple, beyond which none can change an output pixel.

    Found by the gradient of a single output pixel, one for each phase of the multiple, of a copy of the module whose
    weights are all positive, so that nothing cancels and every ReLU is open: what stays exactly 0 is out of reach.
    RDDM subtracts what its network gives, so there it is the first call's reach, and the head's own for each other one.
    """
    if isinstance(module, ResidualChain):
        first, other = (_reach(_OneCall(module.network, again), channels, multiple) for again in (False, True))
        return first + (module.calls - 1) * other
    return _reach(module, channels, multiple)


class _OneCall(nn.Module):
    """All outputs of one call together; again: of a later one, that sees only what the step before has changed."""

    scale = 1

    def __init__(self, network: ResidualBackbone, again: bool) -> None:
        super().__init__()
        self.network, self.again = network, again

    def forward(self, image: Tensor) -> Tensor:
        guide = torch.zeros_like(image[:, :1]) if self.network.guide == "mask" else None
        drawn = self.again and self.network.wide_noise  # the encoder then sees in every call what has changed
        features = self.network.encode(image, guide, image if drawn else None)
        if self.again and not drawn:
            features = (torch.zeros_like(features[0]), torch.zeros_like(features[1]))
        degraded = torch.zeros_like(image) if self.again else image
        return torch.stack(self.network.step(image, degraded, features, (0, 0))).sum(dim=0)


def _reach(module: Graph | _OneCall, channels: int, multiple: int) -> int:
    probe = copy.deepcopy(module).double()
    for name, parameter in probe.named_parameters():
        nn.init.constant_(parameter, 0.0 if parameter.ndim == 1 or "bias" in name else 1e-2)
        parameter.requires_grad_(False)
    gray = torch.ones(multiple, channels, LENGTH, 2 * multiple, dtype=torch.float64, requires_grad=True)
    lit = LENGTH // 2 + torch.arange(multiple)
    with torch.enable_grad():
        result = probe(gray, *(() if isinstance(probe, _OneCall) else other_feeds(probe, gray)))
        rows_of_each = result.unflatten(2, (LENGTH, module.scale))
        rows_of_each[torch.arange(multiple), :, lit].sum().backward()
    assert gray.grad is not None
    reached = (gray.grad != 0).any(dim=3).any(dim=1)
    rows = torch.arange(LENGTH)
    radius = max(int((rows[hit] - position).abs().max()) for hit, position in zip(reached, lit, strict=True))
    if radius >= LENGTH // 2 - multiple:
        raise ValueError("the network's reach is not bounded by a halo")
    return -(-radius // multiple) * multiple


def sufficient_halo(
    module: Graph,
    image: NDArray[np.float32],
    multiple: int,
    exact: int,
    guide: NDArray[np.float32] | None = None,
) -> int:
    """The smallest multiple such that cutting the image off at that distance changes nothing by `TOLERANCE` / 2.

    image: (N, C, H, W) damaged images in [0, 1] like those the model is for; cut at the top and, turned, at the left.
    guide: a reference (N, C, H * scale, W * scale) or a mask (N, 1, ...), where the module takes one.
    """
    grown, scale = max(0, 2 * exact + 2 * multiple - min(image.shape[-2:])), module.scale
    low, high = module.range

    def both_ways(image: NDArray[np.float32], grown: int) -> torch.Tensor:
        image = np.pad(image, ((0, 0), (0, 0), (0, grown), (0, grown)), mode="reflect")
        return torch.from_numpy(np.concatenate([image, image.swapaxes(-1, -2)]))

    both = low + (high - low) * both_ways(image, grown)
    # A reference is in the range of chains that take one, [0, 1], and a mask stays in it.
    second = None if guide is None else both_ways(guide, grown * scale)
    generator = torch.Generator().manual_seed(0)
    size = [side * scale for side in both.shape[-2:]]
    noise = torch.randn(len(both), module.draws, both.shape[1], *size, generator=generator)
    middle = both.shape[-2] // 2 // multiple * multiple

    def run(start: int) -> torch.Tensor:
        """The rows below the middle, when the network sees nothing above `start`."""
        cut, above = both[..., start:, :], start * scale
        others = (noise[..., above:, :], None if second is None else second[..., above:, :])
        result: torch.Tensor = module(cut, *other_feeds(module, cut, *others))
        return result[..., (middle - start) * scale :, :]

    with torch.no_grad():
        whole = run(0)
        for halo in range(0, exact, multiple):
            if float((run(middle - halo) - whole).abs().max()) < (high - low) * TOLERANCE / 2:
                return halo
    return exact
