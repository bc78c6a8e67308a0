"""DCDP: data consistency alternating with diffusion purification (Li et al. 2024, arXiv 2403.06054).

An image is fitted to what was measured of it (`data_consistency`), then noised and denoised by a prior (`purify`),
over and over with less and less noise. The prior is never differentiated. Images are (N, C, H, W), numpy or torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any
Fit = Callable[[Array, int], Array]
"""(purified image, round) -> image that agrees with the measurement."""
Purify = Callable[[Array, Array, Any], Array]
"""(image, noise, level) -> purified image."""
Map = Callable[[Array], Array]
STYLES = ("linear", "cosine", "bias_t1", "bias_t0", "reverse_cosine", "constant")


@dataclass(frozen=True)
class Result:
    """Both ends of the last round. Without noise in the measurement the first is the better one, else the second."""

    consistent: Array
    """As the last data consistency left it."""
    purified: Array
    """As the last purification left it."""


def dcdp(
    start: Array,
    fit: Fit,
    purify: Purify,
    levels: Sequence[Any] | NDArray[Any],
    noise: Iterable[Array],
    *,
    on_step: Callable[[int, Array, Array], object] | None = None,
) -> Result:
    """Solve an inverse problem by alternating between the measurement and the prior.

    start:   where the first fit begins; the published code has zeros, the middle of the range.
    fit:     (v, k) -> x near v that agrees with the measurement, such as `data_consistency.descend`, k the round.
    purify:  (x, noise, level) -> v near x that agrees with the prior: a purifier of `purify`.
    levels:  of the noise in each round, falling, as `purify` takes them: steps T (`time_schedule`) or sigmas.
    noise:   one standard normal array of x's shape per round.
    on_step: called with (k, x, v).
    """
    v = start
    for k, (level, drawn) in enumerate(zip(levels, noise, strict=True)):
        x = fit(v, k)
        v = purify(x, drawn, level)
        if on_step:
            on_step(k, x, v)
    return Result(x, v)


def purify_reencoded(purify: Purify, encode: Map, decode: Map) -> Purify:
    """For data consistency in latent space: after it the latent is replaced by that of its own image.

    `dcdp` then runs on latents, with a fit to `operators.Decoded`, and decode(result) are the images.
    """
    return lambda latent, noise, level: purify(encode(decode(latent)), noise, level)


def purify_latent(purify: Purify, encode: Map, decode: Map) -> Purify:
    """For data consistency in pixel space: only the purification happens in latent space.

    `dcdp` then runs on images, with noise of the latents' shape. No result is better than the autoencoder allows.
    """
    return lambda image, noise, level: decode(purify(encode(image), noise, level))


def falling_levels(rounds: int, first: float, least: float, noise: Array) -> list[Array]:
    """The noise level of each round, falling by the same factor from round to round: from `first` down to `noise`.

    noise: a number of numpy or an array such as (N, 1, 1, 1); it counts as no less than `least` and no more than
    `first`.
    """
    last = noise.clip(min(least, first), first)
    return [first * (last / first) ** (k / max(rounds - 1, 1)) for k in range(rounds)]


def time_schedule(rounds: int, first: int, last: int, style: str = "linear") -> NDArray[np.int64]:
    """(rounds,): how many base steps T to go back in each round, from `first` to `last`; never less than one.

    style: linear, cosine, bias_t1 (long at much noise), bias_t0 (long at little), reverse_cosine, constant. All but
    constant and cosine give one round the level `last`.
    """
    if not 1 <= rounds <= first:
        raise ValueError(f"rounds must be from 1 to the first level {first}, not {rounds}")
    if not 0 <= last <= first:
        raise ValueError(f"the last level must be from 0 to the first, {first}, not {last}")
    rising = np.linspace(0, 1, rounds)
    span = first - last
    linear = np.round(rising * span + 1e-6)[::-1] + last
    cosine = np.round(np.cos(np.pi / 2 * rising) ** 2 * span) + last
    if style == "linear":
        levels = linear
    elif style == "cosine":
        levels = cosine
    elif style == "bias_t1":
        levels = np.round(np.sin(np.pi / 2 * rising) * span)[::-1] + last
    elif style == "bias_t0":
        levels = np.round((np.sin(np.pi / 2 * (rising - 1)) + 1) * span)[::-1] + last
    elif style == "reverse_cosine":
        levels = 2 * linear - cosine
    elif style == "constant":
        levels = np.full(rounds, first)
    else:
        raise ValueError(f"unknown style {style!r}; it must be one of {', '.join(STYLES)}")
    return np.maximum(levels, 1).astype(np.int64)
