"""DCDP with its operator inside: a measurement, and what is known of it, in; the image out.

As a module it is `restonnx.diffusion` itself, and in the graph too: those functions are noted there (`recorder`), in
loops, around the prior, which is traced once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from restonnx.diffusion import purify, traceable
from restonnx.diffusion.data_consistency import (
    FILLING,
    Conjugate,
    conjugate_gradient,
    first_conjugate,
    first_filling,
    first_smooth,
    next_conjugate,
    proximal,
    rho_from,
    smooth_fit,
)
from restonnx.diffusion.dcdp import dcdp, falling_levels, time_schedule
from restonnx.diffusion.operators import Identity, Mask
from restonnx.onnx_export.freeze import Port, to_onnx
from restonnx.onnx_export.official_graphs import AdmDenoiser, ConsistencyDenoiser
from restonnx.onnx_export.pieces import Builder
from restonnx.onnx_export.recorder import Noted, Recorder
from restonnx.onnx_export.unroll import DenoisingPrior
from restonnx.solve import FIRST_LEVEL, LAST_LEVEL, LAST_LEVEL_OF_NOISE, NOISE, WEIGHT
from restonnx.solve import LAST_SIGMA as LAST_SHARE
from restonnx.solve import LEAST_NOISE as LEAST_SHARE

if TYPE_CHECKING:
    import onnx

Prior = DenoisingPrior | AdmDenoiser | ConsistencyDenoiser
Array = Any
"""A tensor, or an array of the graph."""
OPERATORS = ("blur", "inpaint", "superresolve", "denoise")
UNTOLD: dict[str, str | int] = {"blur": "estimate", "inpaint": 0, "superresolve": 0, "denoise": "estimate"}
"""The noise level of who gives none. A blurred image shows its noise well; in a small sharp one detail passes for it,
and around a hole what is known is best kept as it is."""
SPREAD = 2.0
"""From black to white, as [-1, 1] is the range of images here."""
LEAST_NOISE = LEAST_SHARE * SPREAD
LAST_SIGMA = LAST_SHARE * SPREAD
TOLERANCE = 1e-4
"""Of the conjugate gradients' residual, relative to the first one: when to end them early."""


@dataclass(frozen=True)
class Setting:
    """How the rounds go. The defaults are those of `restonnx.solve`."""

    first_level: int = FIRST_LEVEL
    """Of 1000 diffusion steps: the noise of the first round."""
    style: str = "geometric"
    """How it falls: geometric, by the same factor from round to round, down to the measurement's noise; or as one of
    `diffusion.dcdp.STYLES`."""
    last_level: int | None = None
    """Of 1000 diffusion steps, the noise of the last round; None for geometric."""
    weight: float = WEIGHT
    """Of the purified image in the fit."""
    noise: float | None = None
    """How much of a round's noise is added. None: as `solve` has it, a third where one pass removes it, else all."""
    start: Literal["smooth", "zero"] = "smooth"
    """A fit without any prior, or the middle of the range."""
    smooth: float = 0.0
    """Of inpainting: the share of the start in what fills the holes. It and the prior err differently."""

    def sigma(self) -> float:
        """Of the first round."""
        return float(purify.sigmas_of(purify.linear_abar())[self.first_level - 1])

    def levels(self, rounds: int) -> list[float] | None:
        """Of each round; None where they depend on the measurement's noise."""
        if self.style == "geometric":
            return None
        sigmas = purify.sigmas_of(purify.linear_abar())
        return [float(sigmas[t - 1]) for t in time_schedule(rounds, self.first_level, self.last_level or 0, self.style)]


DEFAULT = Setting()
PUBLISHED = Setting(400, "linear", 0, 1.0, 1.0, "zero")
"""Of Li et al. 2024 (arXiv 2403.06054), but for the fit, which is proximal."""


class Dcdp(nn.Module):
    """image (N, C, h, w) as it was measured, noise (N, K, C, H, W), K = `rounds`, what the operator takes, noise_level
    (N, 1, 1, 1), the standard deviation of the measurement's noise -> (N, C, H, W), all in [-1, 1].

    operator:   blur, by kernel (N, 1, kh, kw) of odd sides, which is what a point becomes; inpaint, mask (N, 1, H, W)
                being 1 where the image is known; superresolve, H = `scale` h, the image being shrunk as MATLAB's
                imresize does it; denoise.
    border:     of a blur: what lies beyond the image. unknown: it is restored too, and cut off; or mirrored.
    passes:     of the prior in each round: 1 is Tweedie's formula, or what a consistency model is for; more are DDIM.
    iterations: at most, of conjugate gradients in each round, where the operator has no closed form.
    clip:       bound the prior's estimates to [-1, 1].

    With a noise level of 0 the result agrees with the measurement; else it is the prior's last word.
    """

    range = (-1.0, 1.0)
    last = 0

    def __init__(
        self,
        prior: Prior,
        operator: str,
        *,
        scale: int = 4,
        border: Literal["unknown", "mirrored"] = "unknown",
        rounds: int = 10,
        passes: int = 1,
        iterations: int = 30,
        setting: Setting = DEFAULT,
        clip: bool = False,
    ) -> None:
        super().__init__()
        if operator not in OPERATORS:
            raise ValueError(f"operator is {operator!r}; it must be one of {', '.join(OPERATORS)}")
        self.prior, self.operator, self.iterations = prior, operator, iterations
        self.scale = scale if operator == "superresolve" else 1
        self.is_framed = operator == "blur" and border == "unknown"
        self.steps = self.draws = rounds
        self.setting, self.fixed_levels = setting, setting.levels(rounds)
        self.noise_share = setting.noise if setting.noise is not None else NOISE if passes == 1 else 1.0
        self.passes, self.clip = passes, (-1.0, 1.0) if clip else None
        sides = math.lcm(prior.network.multiple, traceable.PHASES if operator == "blur" else 1)
        self.multiple = sides // math.gcd(sides, self.scale)
        image, *_ = prior.ports
        self.channels, size = int(image.shape[1]), f"*{self.scale}" if self.scale > 1 else ""
        extra = {
            "blur": (Port("kernel", "kernel", ("N", 1, "P", "Q")),),
            "inpaint": (Port("mask", "mask", ("N", 1, "H", "W")),),
        }
        self.given: tuple[Port, ...] = extra.get(operator, ())
        """What the operator takes."""
        self.ports: tuple[Port, ...] = (
            image,
            Port("noise", "noise", ("N", rounds, self.channels, "H" + size, "W" + size)),
            *self.given,
            Port("noise_level", "noise_level", ("N", 1, 1, 1), UNTOLD[operator]),
        )

    def forward(self, image: Tensor, noise: Tensor, *others: Tensor) -> Tensor:
        *given, noise_level = others
        image, physics = self.known(image, *given), self.physics(image, *given)
        noise = self.framed(noise, *given)
        levels = self.levels(noise_level)

        def purified(x: Tensor, drawn: Tensor, level: Tensor) -> Tensor:
            x = x + self.noise_share * level * drawn
            for row in self.table().tolist():
                x = self.purified(self.prior, x, level, row)
            return x

        if self.setting.start == "smooth":
            start = smooth_fit(physics, image, iterations=self.iterations)
        else:
            start = torch.zeros_like(noise[:, 0])
        ends = dcdp(
            start,
            lambda v, k: self.fit(physics, v, image, self.rho(noise_level, levels[max(k - 1, 0)])),
            purified,
            levels,
            noise.unbind(1),
        )
        restored = torch.where(noise_level > 0, ends.purified, ends.consistent)
        return self.unframed(self.smoothed(restored, start, physics), *given)

    @property
    def looped(self) -> bool:
        """Whether the fit is a loop of conjugate gradients."""
        return self.operator in ("blur", "superresolve")

    def known(self, image: Array, *given: Array) -> Array:
        """0 where a pixel is missing, whatever stands there, even what is not a number."""
        if self.operator != "inpaint":
            return image
        known = given[0] > 0
        return known.where(image, 0 * given[0]) if isinstance(known, Noted) else torch.where(known, image, 0.0)

    def physics(self, image: Array, *given: Array) -> Any:
        if self.operator == "blur":
            # A point becomes the kernel where that is turned by half a turn before each pixel is a sum over it.
            blur = traceable.blur(given[0].flip(-2, -1))
            return traceable.Framed(blur, *self.frame(given[0])) if self.is_framed else blur
        if self.operator == "superresolve":
            return traceable.downsample(self.scale, image.shape[-2], image.shape[-1], image)
        return Mask(given[0]) if given else Identity()

    def frame(self, kernel: Array) -> tuple[Any, Any]:
        """How far the restored image goes beyond the measured one on each side, down and across: at least as far as
        what lies there has blurred into it."""
        high, wide = ((side // 2 + self.multiple - 1) // self.multiple * self.multiple for side in kernel.shape[-2:])
        return high, wide

    def framed(self, noise: Array, *given: Array) -> Array:
        return traceable.with_frame(noise, *self.frame(given[0])) if self.is_framed else noise

    def unframed(self, restored: Array, *given: Array) -> Array:
        return traceable.without_frame(restored, *self.frame(given[0])) if self.is_framed else restored

    def smoothed(self, restored: Array, start: Array, physics: Any) -> Array:
        """With the start's share in the holes."""
        if not (self.setting.smooth and isinstance(physics, Mask)):
            return restored
        return restored + self.setting.smooth * (1 - physics.mask) * (start - restored)

    def levels(self, noise_level: Array) -> list[Array]:
        """Of the noise in each round, (N, 1, 1, 1) each."""
        if self.fixed_levels is not None:
            return [0 * noise_level + level for level in self.fixed_levels]
        noise = LAST_LEVEL_OF_NOISE * _trusted(noise_level)
        return falling_levels(self.steps, self.setting.sigma(), LAST_LEVEL * SPREAD, noise)

    def rho(self, noise_level: Array, sigma: Array) -> Array:
        """sigma: how uncertain the purified image is, as the noise that was taken from it."""
        return rho_from(_trusted(noise_level), sigma, self.setting.weight)

    def fit(self, physics: Any, v: Array, image: Array, rho: Array) -> Array:
        """The image near v that agrees with the measurement."""
        if self.looped:
            return conjugate_gradient(physics, image, v, rho, iterations=self.iterations, tolerance=TOLERANCE)
        return proximal(physics, image, v, rho)

    def table(self) -> Any:
        """(passes, 4): for each pass in a round how far it is, how far the next one is, 1 if there is a next one, 1 if
        it is not the first."""
        last, numbers = self.passes - 1, np.arange(self.passes)
        columns = (numbers / max(last, 1), (numbers + 1) / max(last, 1), numbers < last, numbers > 0)
        return np.stack([np.asarray(column, np.float32) for column in columns], axis=1)

    def purified(self, denoise: Any, x: Array, level: Array, row: Any) -> Array:
        """After one pass of the prior, as in `purify.Denoised`, but for levels that differ from sample to sample."""
        share, next_share, more, later = row
        single = (level < 2 * LAST_SIGMA) * 1.0 if self.passes > 1 else 1.0
        fall = LAST_SIGMA / level
        sigma = level * (single + (1 - single) * fall**share)
        following = (1 - single) * more * level * fall**next_share
        after = purify.Denoised(denoise, self.clip).step(x, sigma, following)
        done = single * later
        return done * x + (1 - done) * after

    def to_onnx(self, unit: int) -> onnx.ModelProto:
        """The graph, its prior traced with sides that are multiples of `unit`."""
        return _graph(self, unit)


def _trusted(noise_level: Array) -> Array:
    """No measurement is trusted more than to LEAST_NOISE, the rounding error of 8 bits."""
    return noise_level.clip(LEAST_NOISE, math.inf)


def _graph(owner: Dcdp, unit: int) -> onnx.ModelProto:
    traced = to_onnx(owner.prior, owner.prior.ports, unit=unit, multiple=owner.prior.network.multiple)
    recorder = Recorder(Builder())
    image, noise, *given, noise_level = (recorder.value(port.name, len(port.shape)) for port in owner.ports)
    image, physics = owner.known(image, *given), owner.physics(image, *given)
    noise = owner.framed(noise, *given)
    levels = image.__array_namespace__().stack(owner.levels(noise_level), 0)
    table = recorder.constant(owner.table(), "float")

    def denoise(x: Noted, sigma: Noted) -> Noted:
        values = dict(zip((port.name for port in owner.prior.ports), (x.name, sigma.name), strict=True))
        return recorder.value(recorder.at.call(traced, values)[0], 4)

    def iterated(operator: Any, rho: Any, state: Conjugate, iterations: int = owner.iterations) -> Noted:
        """Conjugate gradients to their end."""
        enough = TOLERANCE**2 * state[-1]

        def iterate(number: Noted, *state: Noted) -> tuple[Noted, ...]:
            following = next_conjugate(operator, rho, (state[0], state[1], state[2], state[3]), enough)
            return *following, (following[-1] > enough).any()

        # Whether there is anything to do is not asked: a sample without any residual is left alone by the iteration.
        return recorder.loop(iterations, state, iterate, going=recorder.constant(True, "bool"))[0]

    def one_round(number: Noted, v: Noted, _: Noted) -> tuple[Noted, Noted]:
        before = levels.index_select(0, (number - 1).maximum(0))
        rho = owner.rho(noise_level, before)
        consistent: Noted
        if owner.looped:
            consistent = iterated(physics, rho, first_conjugate(physics, image, v))
        else:
            consistent = owner.fit(physics, v, image, rho)
        level = levels.index_select(0, number)
        noisy = consistent + owner.noise_share * level * noise.index_select(1, number)

        def one_pass(number: Noted, x: Noted) -> tuple[Noted]:
            row = table.index_select(0, number)
            return (owner.purified(denoise, x, level, [row[n] for n in range(4)]),)

        if owner.passes == 1:
            return owner.purified(denoise, noisy, level, owner.table()[0].tolist()), consistent
        several = (level > 2 * LAST_SIGMA).any().to("int")
        (purified,) = recorder.loop(1 + (owner.passes - 1) * several, (noisy,), one_pass)
        return purified, consistent

    if owner.setting.start == "smooth" and isinstance(physics, Mask):
        start = physics.mask * image
        for order, iterations in FILLING:
            normal, state = first_filling(start, physics.mask, order)
            start = start + (1 - physics.mask) * iterated(normal, 0.0, state, iterations)
    elif owner.setting.start == "smooth":
        normal, state = first_smooth(physics, image)
        start = iterated(normal, 0.0, state)
    else:
        start = 0 * noise.index_select(1, recorder.constant(0, "int"))
    purified, consistent = recorder.loop(owner.draws, (start, start), one_round)
    restored = owner.smoothed((noise_level > 0).where(purified, consistent), start, physics)
    restored = owner.unframed(restored, *given)
    return recorder.at.model(owner.ports, restored.name, owner.channels)
