"""Published networks with their samplers as modules that can be frozen: tensors in, the restored image out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restonnx.diffusion import consistency, resshift
from restonnx.diffusion.consistency import Preconditioning
from restonnx.diffusion.resshift import Reading
from restonnx.diffusion.schedules import ShiftSchedule, Vector
from restonnx.onnx_export.freeze import Port
from restonnx.onnx_export.parts import part
from restonnx.onnx_export.pieces import Builder
from restonnx.onnx_export.recorder import Recorder
from restonnx.training.networks.official.adm_unet import AdmUNet
from restonnx.training.networks.official.resshift_unet import ResShiftUNet
from restonnx.training.networks.official.vq import VQAutoencoder

if TYPE_CHECKING:
    import onnx

Array = Any
"""A tensor, or an array of the graph."""
PUBLISHED = Preconditioning(boundary=True, time_scale=consistency.PUBLISHED_TIME_SCALE)
"""How the published consistency models are read; their EDM teachers are read without the boundary."""


class LatentResShift(nn.Module):
    """ResShift as published: image (N, 3, h, w), noise (N, K, C, h', w')[, mask (N, 1, h, w)] -> (N, 3, H, W).

    H = h scale.  The chain lives in the autoencoder's latent space, h' = H / factor, or without one in pixels, h' = H.
    The mask is 1 where a pixel is known; known pixels are returned as they are where scale is 1.

    network:      told the degraded image at its own size, in [-1, 1].
    latent_scale: what latents are multiplied by in the chain.
    last:         the step whose estimate is the result; greater than 0 for a chain cut short.
    """

    range = (0.0, 1.0)

    def __init__(
        self,
        network: ResShiftUNet,
        autoencoder: VQAutoencoder | None,
        schedule: ShiftSchedule,
        scale: int = 1,
        *,
        reading: Reading | None = None,
        latent_scale: float = 1.0,
        last: int = 0,
    ) -> None:
        super().__init__()
        self.network, self.autoencoder = network, autoencoder
        self.schedule, self.scale, self.latent_scale, self.last = schedule, scale, latent_scale, last
        self.reading = reading or Reading("xstart", "latent" if autoencoder is not None else "pixel")
        self.stride = 1 if autoencoder is None else autoencoder.factor
        """Pixels of the restored image per pixel of the chain, along a side."""
        # Without an autoencoder the network's condition has the size of the result.
        self.lq_scale = scale if autoencoder is None else 1
        if network.config.cond_lq and network.lq_factor * scale != self.stride * self.lq_scale:
            raise ValueError(
                f"the network wants a condition {network.lq_factor} times as large as x_t along a side, but with scale "
                f"{scale} and an autoencoder of factor {self.stride} it is {self.stride * self.lq_scale / scale:g}"
            )
        if max(scale, self.stride) % min(scale, self.stride) or (network.config.cond_mask and self.lq_scale != 1):
            raise ValueError(
                f"scale {scale} does not go with an autoencoder of factor {self.stride} and this condition"
            )
        self.steps = self.draws = schedule.steps - last
        channels = network.config.in_channels
        size = f"*{scale // self.stride}" if scale >= self.stride else f"/{self.stride // scale}"
        self.ports: tuple[Port, ...] = (
            Port("image", "image", ("N", 3, "H", "W")),
            Port("noise", "noise", ("N", self.draws, channels, "H" + size, "W" + size)),
        )
        if network.config.cond_mask:
            self.ports += (Port("mask", "mask", ("N", 1, "H", "W")),)
        sides = network.multiple * self.stride
        self.multiple = sides // math.gcd(sides, scale)
        """Height and width of the degraded image are multiples of this."""

    def forward(self, image: Tensor, noise: Tensor, mask: Tensor | None = None) -> Tensor:
        restored: Tensor = self.restored(image, noise.unbind(1), mask)
        return restored

    def restored(self, image: Array, noise: Sequence[Array], mask: Array | None = None, *, by: Any = None) -> Array:
        """by: what computes `begin`, `condition`, `step` and `decode`, where that is not this module."""
        degraded = 2 * image - 1
        missing = None if mask is None else 2 * (1 - mask) - 1
        if mask is not None:  # missing pixels are black, and told apart by the mask
            degraded = degraded * mask - (1 - mask)
        chain = self.chain(degraded, noise, missing, by=by)
        restored = ((by or self).decode(chain).clip(-1, 1) + 1) / 2
        if mask is not None and self.scale == 1:
            restored = restored * (1 - mask) + image * mask
        return restored

    def chain(self, degraded: Array, noise: Sequence[Array], missing: Array | None = None, *, by: Any = None) -> Array:
        """The restored latent (or image) of a degraded image in [-1, 1]; noise (K, N, C, h', w'), missing 1 or -1."""
        by = by or self
        start, condition = by.begin(degraded), None
        if self.network.config.cond_lq:
            condition = by.condition(start if self.autoencoder is None else degraded, missing)
        return resshift.sample(
            lambda x_t, step: by.step(x_t, float(step), condition),
            start,
            noise,
            self.schedule,
            self.reading,
            clip=(-1.0, 1.0) if self.autoencoder is None else None,
            last=self.last,
        )

    def begin(self, degraded: Tensor) -> Tensor:
        """Where the chain begins, but for the noise."""
        large = degraded
        if self.scale != 1:
            large = F.interpolate(degraded, scale_factor=float(self.scale), mode="bicubic")
        return large if self.autoencoder is None else self.latent_scale * self.autoencoder.encode(large)

    def condition(self, lq: Tensor, missing: Tensor | None) -> Tensor | None:
        return self.network.condition(lq, missing)

    def step(self, x_t: Tensor, time: float | Tensor, condition: Tensor | None) -> Tensor:
        """The network's output; time (1,), or a number."""
        return self.network.step(x_t, time if isinstance(time, Tensor) else x_t.new_full((1,), time), condition)

    def decode(self, latent: Tensor) -> Tensor:
        """The image of the chain's result, in [-1, 1] or near it."""
        return latent if self.autoencoder is None else self.autoencoder.decode(latent / self.latent_scale)

    def to_onnx(self, unit: int) -> onnx.ModelProto:
        """The graph, whose parts are each traced once."""
        recorder = Recorder(Builder())
        image, noise, *mask = (recorder.value(port.name, len(port.shape)) for port in self.ports)
        draws = [noise[:, k] for k in range(self.draws)]
        restored = self.restored(image, draws, *mask, by=self._parts(recorder, unit))
        return recorder.at.model(self.ports, restored.name, 3)

    def _parts(self, recorder: Recorder, unit: int) -> SimpleNamespace:
        """`begin`, `condition`, `step` and `decode`, for noted arrays."""
        network, config = self.network, self.network.config
        image, latent = ("N", 3, "H", "W"), ("N", config.in_channels, "H", "W")
        told, mask = [("N", config.features, "H", "W")], [("N", 1, "H", "W")] * config.cond_mask
        inner = {"unit": network.multiple, "multiple": network.multiple}
        outer = {"unit": unit, "multiple": self.multiple}
        side = network.multiple * network.lq_factor

        def stepped(x_t: Tensor, time: Tensor, condition: Tensor | None = None) -> Tensor:
            return self.step(x_t, time, condition)

        def encoded(lq: Tensor, missing: Tensor | None = None) -> Tensor | None:
            return self.condition(lq, missing)

        step = part(recorder, stepped, latent, (1,), *told[: config.cond_lq], **inner, network=network)
        begin = decode = encode = _unchanged
        if config.cond_lq and (config.stages or config.cond_mask):
            extractor = network.feature_extractor
            encode = part(recorder, encoded, image, *mask, unit=side, multiple=side, feature_extractor=extractor)
        if self.autoencoder is not None or self.scale != 1:
            begin = part(recorder, self.begin, image, **outer, autoencoder=self.autoencoder)
        if self.autoencoder is not None:
            decode = part(recorder, self.decode, latent, **inner, autoencoder=self.autoencoder)
        return SimpleNamespace(
            begin=begin,
            condition=lambda lq, missing: encode(*_given(lq, missing)),
            step=lambda x_t, time, condition: step(*_given(x_t, time, condition)),
            decode=decode,
        )


def _given(*arrays: Array | None) -> list[Array]:
    return [array for array in arrays if array is not None]


def _unchanged(array: Array) -> Array:
    return array


class AdmDenoiser(nn.Module):
    """A network that predicts the noise, as a prior.  image (N, C, H, W), noise_level (N, 1, 1, 1) -> (N, C, H, W).

    image = clean + noise_level * noise, in [-1, 1] where it is clean.  The network was trained on images shrunk to
    unit variance; it is told the step, whole or between two, whose noise level this is.

    alphas_cumprod: (T,), falling: the training's schedule, as `diffusion.purify.linear_abar` gives it.
    steps:          of the deterministic sampler (DDIM, arXiv 2010.02502), evenly spaced in time; 1 is Tweedie's
                    formula.
    label:          the class that a class-conditional network is asked for.
    """

    range = (-1.0, 1.0)
    draws, last = 0, 0
    log_sigmas: Tensor

    def __init__(
        self, network: AdmUNet, alphas_cumprod: Vector | Tensor, *, steps: int = 1, label: int | None = None
    ) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"a sampler needs at least one step, got {steps}")
        self.network, self.steps, self.label = network, steps, label
        self.multiple = network.multiple
        variance = 1 / torch.as_tensor(alphas_cumprod, dtype=torch.float64) - 1
        self.register_buffer("log_sigmas", (variance.log() / 2).float(), persistent=False)
        self.bounds = float(self.log_sigmas[0].exp()), float(self.log_sigmas[-1].exp())
        self.ports = _denoiser_ports(network)

    def forward(self, image: Tensor, noise_level: Tensor) -> Tensor:
        sigma = noise_level.clamp(*self.bounds)
        time = self.timestep(sigma)
        x = image
        for k in range(1, self.steps):
            lower = self.sigma(time * (1 - k / self.steps))
            x = consistency.euler_step(self.denoise, x, sigma, lower)
            sigma = lower
        return self.denoise(x, sigma)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """One pass: the estimate of the clean image in x = clean + sigma * noise; sigma (N, 1, 1, 1) or (N,)."""
        sigma = sigma.reshape(-1, 1, 1, 1)
        label = None if self.label is None else torch.full_like(sigma.reshape(-1), self.label, dtype=torch.int64)
        output = self.network(x * (1 + sigma**2) ** -0.5, self.timestep(sigma).reshape(-1), label)
        return x - sigma * output[:, : x.shape[1]]  # beyond it lies the learned variance

    def timestep(self, sigma: Tensor) -> Tensor:
        """The step of that noise level, linear in its logarithm between two steps; of sigma's shape."""
        low, high = self.log_sigmas[:-1], self.log_sigmas[1:]
        passed = (sigma.log()[..., None] - low) / (high - low)
        return passed.clamp(0, 1).sum(dim=-1)  # without a search, which a graph does not have

    def sigma(self, timestep: Tensor) -> Tensor:
        """The noise level of a step, whole or not: the inverse of `timestep`."""
        rises = self.log_sigmas.diff()
        passed = (timestep[..., None] - torch.arange(len(rises), device=timestep.device)).clamp(0, 1)
        return (self.log_sigmas[0] + (passed * rises).sum(dim=-1)).exp()


class ConsistencyDenoiser(nn.Module):
    """A consistency model, or its EDM teacher, as a prior: image (N, C, H, W), noise_level (N, 1, 1, 1) -> the same.

    image = clean + noise_level * noise, in [-1, 1] where it is clean.  label: as in `AdmDenoiser`.
    """

    range = (-1.0, 1.0)
    draws, last, steps = 0, 0, 1

    def __init__(
        self, network: AdmUNet, preconditioning: Preconditioning = PUBLISHED, *, label: int | None = None
    ) -> None:
        super().__init__()
        self.network, self.preconditioning, self.label = network, preconditioning, label
        self.multiple = network.multiple
        self.ports = _denoiser_ports(network)

    def forward(self, image: Tensor, noise_level: Tensor) -> Tensor:
        sigma = noise_level.clamp(self.preconditioning.sigma_min, self.preconditioning.sigma_max)
        return self.preconditioning.denoise(self.raw, image, sigma)

    def raw(self, scaled: Tensor, level: Tensor) -> Tensor:
        time = level.reshape(-1)
        label = None if self.label is None else torch.full_like(time, self.label, dtype=torch.int64)
        return self.network(scaled, time, label)


def _denoiser_ports(network: AdmUNet) -> tuple[Port, ...]:
    image = Port("image", "image", ("N", network.config.in_channels, "H", "W"))
    return (image, Port("noise_level", "noise_level", ("N", 1, 1, 1)))
