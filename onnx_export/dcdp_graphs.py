"""DCDP with its operator inside: a measurement, and what is known of it, in; the image out.

As a module it is `restonnx.diffusion` itself. In the graph each of its parts, the fit, the conjugate gradients' step
and the prior's, was traced from there once and runs in a loop.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from restonnx.diffusion import purify, traceable
from restonnx.diffusion.data_consistency import conjugate_gradient, first_conjugate, next_conjugate, proximal, rho_from
from restonnx.diffusion.dcdp import dcdp, time_schedule
from restonnx.diffusion.operators import Identity, Mask
from restonnx.onnx_export.freeze import Port, to_onnx
from restonnx.onnx_export.official_graphs import AdmDenoiser, ConsistencyDenoiser
from restonnx.onnx_export.pieces import Builder
from restonnx.onnx_export.unroll import DenoisingPrior

if TYPE_CHECKING:
    import onnx

Prior = DenoisingPrior | AdmDenoiser | ConsistencyDenoiser
OPERATORS = ("blur", "inpaint", "superresolve", "denoise")
FIRST_LEVEL = 400
"""Of 1000 diffusion steps, as published: the first round's noise is as strong as the range is wide."""
LEAST_NOISE = 2e-3
"""In [-1, 1]. No measurement is trusted more than that: it is the rounding error of 8 bits."""
LAST_SIGMA = 0.01
"""The last of several passes in one round."""
PREFIX = "owner.prior.network."
"""Of the weights' names in a traced part."""


class Dcdp(nn.Module):
    """image (N, C, h, w) as it was measured, noise (N, K, C, H, W), K = `rounds`, what the operator takes, noise_level
    (N, 1, 1, 1), the standard deviation of the measurement's noise -> (N, C, H, W), all in [-1, 1].

    operator:   blur, by kernel (N, 1, kh, kw) of odd sides; inpaint, mask (N, 1, H, W) being 1 where the image is
                known; superresolve, H = `scale` h, the image being shrunk as MATLAB's imresize does it; denoise.
    passes:     of the prior in each round: 1 is Tweedie's formula, or what a consistency model is for; more are DDIM.
    iterations: at most, of conjugate gradients in each round, where the operator has no closed form.
    clip:       bound the prior's estimates to [-1, 1].

    Without noise the result agrees with the measurement; with noise it is the prior's last word.
    """

    range = (-1.0, 1.0)
    last = 0

    def __init__(
        self,
        prior: Prior,
        operator: str,
        *,
        scale: int = 4,
        rounds: int = 10,
        passes: int = 1,
        iterations: int = 10,
        first_level: int = FIRST_LEVEL,
        last_level: int = 0,
        style: str = "linear",
        clip: bool = False,
    ) -> None:
        super().__init__()
        if operator not in OPERATORS:
            raise ValueError(f"operator is {operator!r}; it must be one of {', '.join(OPERATORS)}")
        self.prior, self.operator, self.iterations = prior, operator, iterations
        self.scale = scale if operator == "superresolve" else 1
        self.steps = self.draws = rounds
        sigmas = purify.sigmas_of(purify.linear_abar())
        self.levels = [float(sigmas[t - 1]) for t in time_schedule(rounds, first_level, last_level, style)]
        """Of the noise in each round."""
        self.befores = [self.levels[0], *self.levels[:-1]]
        """How uncertain each round's start is: as the noise that was taken from it."""
        self.purifier = purify.Denoised(self.denoise, (-1.0, 1.0) if clip else None, passes, LAST_SIGMA)
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
            Port("noise_level", "noise_level", ("N", 1, 1, 1)),
        )

    def forward(self, image: Tensor, noise: Tensor, *others: Tensor) -> Tensor:
        *given, noise_level = others
        prepared = self.prepare(image, *given)
        ends = dcdp(
            torch.zeros_like(noise[:, 0]),
            lambda v, k: self.fit(v, image, noise_level, self.befores[k], prepared, *given),
            self.purifier,
            self.levels,
            noise.unbind(1),
        )
        return torch.where(noise_level > LEAST_NOISE, ends.purified, ends.consistent)

    def fit(
        self, v: Tensor, image: Tensor, noise_level: Tensor, sigma: Any, prepared: tuple[Tensor, ...], *given: Tensor
    ) -> Tensor:
        """The image near v, whose error is sigma, that agrees with the measurement."""
        operator, rho = self.physics(prepared, *given), self.rho(noise_level, sigma)
        if self.looped:
            return conjugate_gradient(operator, image, v, rho, iterations=self.iterations, tolerance=TOLERANCE)
        if given:  # whatever stands where pixels are missing, even what is not a number
            image = torch.where(given[0] > 0, image, torch.zeros_like(image))
        return proximal(operator, image, v, rho)

    @property
    def looped(self) -> bool:
        """Whether the fit is a loop of conjugate gradients."""
        return self.operator in ("blur", "superresolve")

    def prepare(self, image: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        """What the operator is made of, computed once."""
        if self.operator == "blur":
            blur = traceable.blur(given[0])
            return blur.weight, blur.turned
        if self.operator == "superresolve":
            down = traceable.downsample(self.scale, image.shape[-2], image.shape[-1], image)
            return down.rows, down.cols
        return ()

    def physics(self, prepared: tuple[Tensor, ...], *given: Tensor) -> Any:
        if self.operator == "blur":
            return traceable.PhasedBlur((given[0].shape[-2], given[0].shape[-1]), *prepared)
        if self.operator == "superresolve":
            return traceable.Separable(*prepared)
        return Mask(given[0]) if given else Identity()

    def rho(self, noise_level: Tensor, sigma: Any) -> Any:
        return rho_from(noise_level.clamp(min=LEAST_NOISE), sigma)

    def denoise(self, x: Tensor, sigma: Any) -> Tensor:
        """One pass; sigma a number or (1, 1, 1, 1)."""
        return self.prior(x, x.new_zeros((x.shape[0], 1, 1, 1)) + sigma)

    def to_onnx(self, unit: int) -> onnx.ModelProto:
        """The graph, traced with sides that are multiples of `unit`."""
        return _graph(self, unit)


TOLERANCE = 1e-4
"""Of the conjugate gradients' residual, relative to the first one: when to end them early."""


class _Part(nn.Module):
    """A function that is traced with the weights of its owner."""

    def __init__(self, owner: Dcdp) -> None:
        super().__init__()
        self.owner = owner


class _Prepare(_Part):
    def forward(self, image: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        return self.owner.prepare(image, *given)


class _Fit(_Part):
    def forward(self, v: Tensor, image: Tensor, noise_level: Tensor, sigma: Tensor, *given: Tensor) -> Tensor:
        return self.owner.fit(v, image, noise_level, sigma, (), *given)


class _First(_Part):
    def forward(self, v: Tensor, image: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        _, residual, _, energy = first_conjugate(self.owner.physics(others[:2], *others[2:]), image, v)
        return residual, energy


class _Next(_Part):
    def forward(
        self,
        x: Tensor,
        residual: Tensor,
        direction: Tensor,
        energy: Tensor,
        enough: Tensor,
        noise_level: Tensor,
        sigma: Tensor,
        *others: Tensor,
    ) -> tuple[Tensor, ...]:
        operator, rho = self.owner.physics(others[:2], *others[2:]), self.owner.rho(noise_level, sigma)
        state = next_conjugate(operator, rho, (x, residual, direction, energy), enough)
        return *state, (state[-1] > enough).any()


class _Purify(_Part):
    def forward(self, x: Tensor, sigma: Tensor, following: Tensor) -> Tensor:
        return self.owner.purifier.step(x, sigma, following)


def _graph(owner: Dcdp, unit: int) -> onnx.ModelProto:
    image, noise, *given, noise_level = owner.ports
    size = (image.shape[0], image.shape[1], *noise.shape[-2:])
    whole, one = Port("x", "image", size), Port("sigma", "noise_level", (1, 1, 1, 1))
    graph, names = Builder(), [port.name for port in given]

    def traced(part: _Part, ports: list[Port], *outputs: str) -> onnx.ModelProto:
        return to_onnx(part, tuple(ports), unit=unit, multiple=owner.multiple, prefix=PREFIX, outputs=outputs)

    purify_step = traced(_Purify(owner), [whole, one, Port("following", "noise_level", (1, 1, 1, 1))], "y")
    if owner.looped:
        kept = {
            "blur": [Port(name, "kernel", ("N*16", "N*16", letter, other)) for name, letter, other in _WEIGHTS],
            "superresolve": [
                Port("rows", "image", ("H", f"H*{owner.scale}")),
                Port("cols", "image", ("W", f"W*{owner.scale}")),
            ],
        }[owner.operator]
        others = [*kept, *given]
        prepare = traced(_Prepare(owner), [image, *given], *(port.name for port in kept))
        first = traced(_First(owner), [whole, image, *others], "residual", "energy")
        state = [
            whole,
            *(Port(name, "image", size) for name in ("residual", "direction")),
            *(Port(name, "noise_level", ("N", 1, 1, 1)) for name in ("energy", "enough")),
        ]
        following = traced(
            _Next(owner), [*state, noise_level, one, *others], "y", "residual_", "direction_", "energy_", "going"
        )
        prepared = graph.call(prepare, {name: name for name in ["image", *names]})
        known = dict(zip([port.name for port in kept], prepared, strict=True)) | {name: name for name in names}
    else:
        fit = traced(_Fit(owner), [whole, image, noise_level, one, *given], "y")

    def fitted(at: Builder, v: str, sigma: str) -> str:
        measured = {"image": "image", "noise_level": "noise_level", "sigma": sigma}
        if not owner.looped:
            return at.call(fit, {"x": v, **measured, **{name: name for name in names}})[0]
        residual, energy = at.call(first, {"x": v, "image": "image", **known})
        enough = at.node("Mul", energy, at.constant(np.array(TOLERANCE**2, np.float32)))

        def iterate(inside: Builder, number: str, carried: tuple[str, ...]) -> tuple[str, ...]:
            values = dict(zip(("x", "residual", "direction", "energy"), carried, strict=True))
            fixed = {"enough": enough, "noise_level": "noise_level", "sigma": sigma}
            return inside.call(following, values | fixed | known)

        count = at.constant(np.array(owner.iterations))
        # A sample without any residual is left alone by the iteration itself.
        return at.loop(count, (v, residual, residual, energy), iterate, going=at.constant(np.array(True)))[0]

    return _rounds(graph, owner, fitted, purify_step)


_WEIGHTS = (("weight", "S", "T"), ("turned", "S", "T"))


def _rounds(graph: Builder, owner: Dcdp, fitted: Any, purify_step: onnx.ModelProto) -> onnx.ModelProto:
    """The alternation of `diffusion.dcdp`, and in each round the passes of `purify.Denoised`."""
    sigmas = [owner.purifier.sigmas(level) for level in owner.levels]
    most = max(map(len, sigmas))

    def table(rows: list[list[float]]) -> str:
        padded = np.array([row + [1.0] * (most - len(row)) for row in rows], np.float32)
        return graph.constant(padded.reshape(len(rows), -1, 1, 1, 1, 1))

    levels, followings = table(sigmas), table([[*row[1:], 0.0] for row in sigmas])
    befores = graph.constant(np.array(owner.befores, np.float32).reshape(-1, 1, 1, 1, 1))
    passes, nothing = graph.constant(np.array([len(row) for row in sigmas])), graph.constant(np.array(0))

    def one_round(inside: Builder, number: str, carried: tuple[str, ...]) -> tuple[str, ...]:
        consistent = fitted(inside, carried[0], inside.node("Gather", befores, number))
        drawn = inside.node("Gather", "noise", number, axis=1)
        own, then = (inside.node("Gather", values, number) for values in (levels, followings))
        strongest = inside.node("Gather", own, nothing)
        noisy = inside.node("Add", consistent, inside.node("Mul", strongest, drawn))

        def one_pass(within: Builder, number: str, carried: tuple[str, ...]) -> tuple[str, ...]:
            sigma, following = (within.node("Gather", values, number) for values in (own, then))
            return within.call(purify_step, {"x": carried[0], "sigma": sigma, "following": following})

        if most == 1:
            return one_pass(inside, nothing, (noisy,))[0], consistent
        return inside.loop(inside.node("Gather", passes, number), (noisy,), one_pass)[0], consistent

    start = graph.node("Mul", graph.node("Gather", "noise", nothing, axis=1), graph.constant(np.array(0, np.float32)))
    purified, consistent = graph.loop(graph.constant(np.array(owner.draws)), (start, start), one_round)
    noisy = graph.node("Greater", "noise_level", graph.constant(np.array(LEAST_NOISE, np.float32)))
    return graph.model(owner.ports, graph.node("Where", noisy, purified, consistent), owner.channels)
