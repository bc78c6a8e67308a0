"""The backbone as a network of RDDM: residual and noise in place of a clean image, at any time of a long schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from restonnx.diffusion.rddm import Reading
from restonnx.training.networks.backbone import Encoder, Guide, Head, _row
from restonnx.training.networks.values import Values, into, relit

LAYOUTS = ("single", "shared", "two")
LEAST_LEVEL = 0.05
"""Of the schedule's strongest noise."""
SMOOTHNESS = 8
"""Cosines of which everything that depends on the time is a sum."""


class ResidualBackbone(nn.Module):
    """The heads of `prediction` (see `diffusion.rddm`), each (N, C, H, W), of images in [-1, 1]:

    carry(time) (x_t - degraded) + (1 + gain(time)) head(x_t, encoder(degraded), time),

    for a head that gives the clean image the degraded one besides, and for one that gives the noise over its level in
    x_t: what the convolutions make is then in the image's own units, and the noise has unit variance. What depends on
    the time is smooth in it, so that steps which training has hardly seen work too, and folds to constants when a
    sampler is unrolled.

    layout: single, one encoder and one head for all; shared, one encoder and a head for each output; two, two networks
            (`encoder` and `head` for the residual, `encoder_noise` and `head_noise`).
    total:  T of the schedule.
    noise_levels: of the schedule, (total,), rising; None: none is known.
    conditioned: whether there is a degraded image; in generation the encoder sees x_t itself, in every step.
    guide: what the encoder sees besides.
    values: what the network's images are, see `seen`.
    relights: the degraded image is what `values.relit` makes of it, by statistics of the whole of it.
    wide_noise: the encoder is given the noise of x_t at each of its levels. The head has a reach of a few pixels; by
            this, draws can differ in what is uncertain about wide areas, such as how bright they were. The encoder
            then runs in every step.
    """

    noise_scale: Tensor

    def __init__(
        self,
        channels: int = 3,
        total: int = 1000,
        prediction: str = "pred_res_noise",
        layout: str = "single",
        widths: tuple[int, ...] = (32, 64, 128),
        down: tuple[int, ...] = (1, 1, 3),
        up: tuple[int, ...] = (1, 1),
        head_blocks: int = 1,
        conditioned: bool = True,
        noise_levels: NDArray[Any] | None = None,
        guide: Guide | None = None,
        values: Values = "display",
        relights: bool = False,
        wide_noise: bool = False,
    ) -> None:
        super().__init__()
        self.guide, self.values, self.relights, self.wide_noise = guide, values, relights, wide_noise
        self.outputs = Reading(prediction).heads
        if layout not in LAYOUTS:
            raise ValueError(f"layout is {layout!r}; it must be one of {', '.join(LAYOUTS)}")
        if layout != "single" and self.outputs == 1:
            raise ValueError(f'{prediction} has one output, which layout = "{layout}" would learn twice')
        self.layout, self.channels, self.total, self.conditioned = layout, channels, total, conditioned
        levels = torch.ones(total) if noise_levels is None else torch.from_numpy(noise_levels.astype("float32"))
        least = LEAST_LEVEL * levels.max() if levels.max() else torch.tensor(1.0)
        self.register_buffer("noise_scale", 1 / (levels + least), persistent=False)
        self._scales: list[float] = self.noise_scale.tolist()
        self.read_as(prediction)
        of_each = self.outputs if layout == "single" else 1
        self.encoder = Encoder(channels, tuple(widths), tuple(down), tuple(up), guide=guide, noisy=wide_noise)
        self.head = Head(channels, widths[0], head_blocks, SMOOTHNESS, of_each * channels)
        self.encoder_noise = (
            Encoder(channels, tuple(widths), tuple(down), tuple(up), guide=guide, noisy=wide_noise)
            if layout == "two"
            else None
        )
        self.head_noise = (
            None if layout == "single" else Head(channels, widths[0], head_blocks, SMOOTHNESS, of_each * channels)
        )
        self.carry = nn.Parameter(torch.zeros(SMOOTHNESS, self.outputs))
        self.gain = nn.Parameter(torch.zeros(SMOOTHNESS, self.outputs))
        if self.noise_head is not None:
            with torch.no_grad():  # at the schedule's end x_t differs from the degraded image by the noise alone
                self.carry[0, self.noise_head] = 1.0
        self.multiple = 2 ** len(widths)

    def read_as(self, prediction: str) -> None:
        """Give what this prediction reads, of as many outputs as the one that the network was made for."""
        if Reading(prediction).heads != self.outputs:
            raise ValueError(f"{prediction} does not read {self.outputs} outputs")
        self.gives_clean = prediction.startswith("pred_x0")
        self.noise_head = {"pred_res": None, "pred_noise": 0}.get(prediction, 1)

    def seen(self, degraded: Tensor, *guide: Tensor) -> Tensor:
        """The degraded image as the network sees it, of one of the display in [-1, 1]."""
        image = into(degraded, self.values)
        return relit(image, *guide) if self.relights else image

    def encode(
        self, degraded: Tensor, guide: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """For the residual and for the noise, everything that depends on the given images alone, once per chain; with
        `wide_noise` also on the noise."""
        features: Tensor = self.encoder(degraded, guide, noise)
        return features, features if self.encoder_noise is None else self.encoder_noise(degraded, guide, noise)

    def step(
        self, x_t: Tensor, degraded: Tensor, features: tuple[Tensor, Tensor], times: tuple[Any, Any]
    ) -> tuple[Tensor, ...]:
        """times: of the residual and of the noise, numbers or (N,), from 0 to T. One head for all hears the first."""
        told = times if self.head_noise is not None else (times[0],) * self.outputs
        bases = [self._basis(time, x_t) for time in told]
        if self.head_noise is None:
            both = self.head(x_t, features[0], bases[0])
            corrections = both.chunk(self.outputs, dim=1) if self.outputs > 1 else (both,)
        else:
            corrections = (self.head(x_t, features[0], bases[0]), self.head_noise(x_t, features[1], bases[1]))
        found = []
        for n, (correction, basis) in enumerate(zip(corrections, bases, strict=True)):
            carry, gain = (_row(table[:, n : n + 1], basis) for table in (self.carry, self.gain))
            found.append(carry * (x_t - degraded) + (1 + gain) * correction)
        if self.gives_clean:
            found[0] = degraded + found[0]
        if self.noise_head is not None:
            found[self.noise_head] = self._over_level(found[self.noise_head], told[self.noise_head])
        return tuple(found)

    def predictor(self, degraded: Tensor | None, guide: Tensor | None = None) -> Callable[..., tuple[Tensor, ...]]:
        """What the samplers of `diffusion.rddm` call, for one degraded image; None in generation."""
        if self.conditioned == (degraded is None):
            raise ValueError("a conditioned network takes a degraded image, and only such a network")
        if degraded is None:
            return lambda x_t, times: self.step(x_t, torch.zeros_like(x_t), self.encode(x_t), times)
        if self.wide_noise:
            return lambda x_t, times: self.step(x_t, degraded, self._drawn(x_t, degraded, guide, times), times)
        features = self.encode(degraded, guide)
        return lambda x_t, times: self.step(x_t, degraded, features, times)

    def forward(self, x_t: Tensor, degraded: Tensor, time: Any) -> tuple[Tensor, ...]:
        return self.predictor(degraded)(x_t, (time, time))

    def _drawn(
        self, x_t: Tensor, degraded: Tensor, guide: Tensor | None, times: tuple[Any, Any]
    ) -> tuple[Tensor, Tensor]:
        """The features with the noise of x_t in them."""
        return self.encode(degraded, guide, self._over_level(x_t - degraded, times[1]))

    def _over_level(self, noise: Tensor, time: Any) -> Tensor:
        """In units of the noise in x_t; where there is hardly any, not much is made of what cannot be seen."""
        if not isinstance(time, Tensor):  # a constant of the graph
            return noise * self._scales[min(int(time), self.total - 1)]
        return noise * self.noise_scale[time.long().clamp(max=self.total - 1)].reshape(-1, 1, 1, 1)

    def _basis(self, time: Any, like: Tensor) -> Tensor:
        """(N, SMOOTHNESS) or (1, SMOOTHNESS): cos(pi k time / T)."""
        scale = math.pi / self.total
        if not isinstance(time, Tensor):  # a constant of the graph
            row = [math.cos(scale * float(time) * k) for k in range(SMOOTHNESS)]
            return torch.tensor([row], device=like.device)
        return torch.cos(scale * time[:, None].float() * torch.arange(SMOOTHNESS, device=like.device))
