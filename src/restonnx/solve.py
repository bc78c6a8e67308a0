"""solve(): an image from a measurement of it, by the user's own physics and a denoiser as the prior.

This is DCDP (`diffusion.dcdp`) on the host, without torch: what was measured and what images look like are made to
agree in turns. Inside, images are (1, C, H, W) float32 in the prior's range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from restonnx import arrays, noise, user_physics
from restonnx.diffusion import purify
from restonnx.diffusion.data_consistency import proximal, rho_from, smooth_fit
from restonnx.diffusion.dcdp import dcdp, falling_levels, purify_latent
from restonnx.errors import InputError, ModelError
from restonnx.restore import Progress, Restorer
from restonnx.session import Cancel, check_cancelled
from restonnx.user_physics import Array, Floats, Shape

if TYPE_CHECKING:
    from restonnx.model import ModelFile

# What follows was chosen on images that no benchmark reports; docs/notes/inverse-problems.md has the trials.
FIRST_LEVEL = 200
"""Of 1000 diffusion steps: the first round's noise level is a third of the prior's range. The published 400 lets the
prior invent more, which serves where much is missing and costs fidelity elsewhere."""
LAST_LEVEL = 0.015
"""Of the prior's range: the last round's, unless the measurement's noise is more than that."""
LAST_LEVEL_OF_NOISE = 0.7
"""Of the measurement's noise: below that the prior has nothing left to remove."""
WEIGHT = 0.5
"""Of the purified image in the fit: it is better than the noise level that was taken from it says."""
NOISE = 0.3
"""Of a round's level: how much noise is added where one pass removes it. All of it, as published, is right where the
prior is to draw a sample; a pass that gives the conditional mean is better asked with less."""
LAST_SIGMA = 0.005
"""Of the prior's range: the last of several passes in one round."""
LEAST_NOISE = 1e-3
"""Of the prior's range. No measurement is trusted more than that: it is the rounding error of 8 bits."""


def solve(
    measurement: Any,
    *,
    forward: user_physics.Forward | None = None,
    adjoint: user_physics.Adjoint | None = None,
    operator: Any = None,
    prior: str | Path | ModelFile | Restorer = "prior",
    image_shape: Shape | None = None,
    like: Any = None,
    value_range: tuple[float, float] | None = None,
    noise_level: float | Literal["estimate"] | None = None,
    steps: int = 10,
    iterations: int = 30,
    passes: int = 1,
    first_level: int = FIRST_LEVEL,
    result: Literal["auto", "consistent", "purified"] = "auto",
    seed: int = 0,
    device: str = "auto",
    tile: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    on_step: Callable[[int, Floats, Floats], object] | None = None,
) -> Array:
    """The image behind  measurement = A image + noise,  A being linear.

        solve(sinogram, forward=project, adjoint=back_project, image_shape=(256, 256), noise_level=0.1)
        solve(blurred, operator=Blur(psf[::-1, ::-1]), noise_level="estimate")

    Returns (H, W) or (H, W, 3) in the image's units: of the measurement's dtype where that is an integer one, or of
    that of `like`; else float32.

    measurement: any array of real or complex numbers; with `operator` an image.
    forward, adjoint: A, and its transpose (its conjugate transpose where the measurement is complex; the real part is
        taken). They take and return numpy arrays: the image as (H, W) or (H, W, 3) float32, and what has the
        measurement's shape. A few calls find out whether they are what they should be.
    operator: in their place, one of `restonnx.diffusion.operators` or `restonnx.diffusion.blurs`, or one like them. The
        blurs correlate: of a point spread function, the image of a point, they take what is turned by 180 degrees.
    prior: a denoiser that takes a noise level: a name from `restonnx.models()`, a path, what `load_model` gave, or a
        Restorer of it (which has its own `device` and `tile`).
    image_shape: of the result, (H, W) or (H, W, 3). By default that of `like`, else the measurement's, times the
        factor of an operator that shrinks.
    like: an image with the shape, the dtype and the range of values that the result shall have.
    value_range: the values of black and white. By default those of `like`, or of the measurement where it is an image
        of the result's shape or was made by `operator`, or else of a first rough reconstruction.
    noise_level: standard deviation of the measurement's noise in its units. "estimate" finds it where the measurement
        is an image; None and 0 mean that there is none.
    steps: rounds of data consistency and purification.
    iterations: at most, of conjugate gradients in each round, for operators without a closed form.
    passes: of the prior in each round. More than one give a sharper and less faithful image.
    first_level: how many of 1000 diffusion steps the first round goes back; the others go back less and less, down to
        the measurement's noise. More let the prior invent more, which large holes need.
    result: the image as the last data consistency left it, or as the last purification did. "auto" takes the first
        where there is no noise, else the second.
    seed: of the noise that is added in each round, which alone decides the result: not the tile or the threads.
    device, tile: as in `restore`.
    progress: called as progress(done, total), from (0, total) to (total, total), in passes over a tile.
    cancel: anything with is_set(), such as a threading.Event. It interrupts the prior, but no call of A.
    on_step: called with (round, consistent, purified), both images float32 in the result's units.
    Raises InputError, ModelError, DeviceError, Cancelled.
    """
    noise.check_seed(seed)
    _check_arguments(
        {"steps": steps, "iterations": iterations, "passes": passes, "first_level": first_level},
        result,
        noise_level,
        value_range,
    )
    numbers = user_physics.numbers(measurement, "the measurement")
    like = None if like is None else arrays.as_array(like)
    shape = user_physics.image_shape(numbers.shape, image_shape, like, operator)
    physics = user_physics.physics(operator, forward, adjoint, numbers.shape, shape, cancel)
    restorer = prior if isinstance(prior, Restorer) else Restorer(prior, device=device, tile=tile)
    _check_prior(restorer)

    y = numbers[None] if operator is None else user_physics.from_image(numbers)
    size = (1, 3 if len(shape) == 3 else 1, *shape[:2])
    user_physics.check_physics(physics, y.shape, size)
    dtype = _result_dtype(arrays.as_array(measurement if like is None else like))
    if value_range is not None:
        unit = arrays.Scaling(float(value_range[0]), float(value_range[1]) - float(value_range[0]))
    else:
        unit = _value_range(_typical(measurement, like, operator, shape, dtype, physics, y), restorer)

    # A x + noise = y in the image's units becomes the same in the prior's, where 0 may not stand for 0.
    low, high = restorer.metadata.range
    scaling, spread = unit.onto(low, high), high - low
    y = (y - physics.forward(np.full(size, scaling.offset, np.float32))) * np.float32(1 / scaling.gain)
    noise_in_image = user_physics.estimated_noise(numbers) if noise_level == "estimate" else float(noise_level or 0)
    sigma_y = max(noise_in_image / scaling.gain, LEAST_NOISE * spread)
    levels = _levels(steps, first_level, spread, sigma_y)

    def fit(v: Floats, k: int) -> Floats:
        check_cancelled(cancel)
        rho = rho_from(sigma_y, levels[max(k - 1, 0)], WEIGHT)  # v is that of the round before
        fitted: Floats = proximal(physics, y, v, rho, iterations=iterations)
        return fitted

    def image_of(x: Floats) -> Floats:
        return user_physics.to_image(scaling.from_unit(x))

    denoise = Denoiser(restorer, (shape[0], shape[1]), progress, cancel)
    purifier = purify.Denoised(denoise, None, passes, LAST_SIGMA * spread)
    denoise.expect(sum(len(purifier.sigmas(level)) for level in levels))
    channels = restorer.metadata.channels
    ends = dcdp(
        smooth_fit(physics, y, iterations=iterations).astype(np.float32),
        fit,
        purify_latent(
            purifier,
            encode=lambda x: arrays.to_channels(x[0], channels),
            decode=lambda batch: arrays.from_channels(batch, size[1])[None],
        ),
        levels,
        (drawn * np.float32(NOISE if passes == 1 else 1) for drawn in _draws(seed, steps, size, channels)),
        on_step=None if on_step is None else lambda k, x, v: on_step(k, image_of(x), image_of(v)),
    )
    check_cancelled(cancel)
    consistent = result == "consistent" or (result == "auto" and not noise_in_image)
    image = image_of(ends.consistent if consistent else ends.purified)
    if not np.isfinite(image).all():
        raise InputError("the image came out with values that are not finite: forward and adjoint grow without bounds")
    return arrays.to_dtype(image, dtype)


class Denoiser:
    """A prior that is loaded, on whole images (N, C, H, W) of one size, in its range, tile by tile."""

    def __init__(
        self,
        restorer: Restorer,
        size: tuple[int, int],
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        self._restorer, self._tiles = restorer, len(restorer.plan(*size)[0])
        self._level = next(spec.name for spec in restorer.metadata.inputs if spec.role == "noise_level")
        self._done, self._total = 0, 0
        self._progress, self._cancel = progress, cancel

    def expect(self, passes: int) -> None:
        """Begin to report progress: so many calls will follow."""
        self._total = passes * self._tiles
        self._report()

    def __call__(self, x: Floats, sigma: float) -> Floats:
        """The clean image in  x = clean + sigma noise."""
        level = np.full((len(x), 1, 1, 1), sigma, np.float32)
        return self._restorer.run(x, {self._level: level}, progress=self._advance, cancel=self._cancel)

    def _advance(self, tiles: int, _: int) -> None:
        """After so many tiles of a pass; nothing is new before the first."""
        if tiles:
            self._done += 1
            self._report()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self._done, self._total)


def _levels(steps: int, first_level: int, spread: float, sigma_y: float) -> list[float]:
    """The noise level of each round in the prior's units, falling by the same factor from round to round."""
    first = float(purify.sigmas_of(purify.linear_abar())[first_level - 1]) * spread / 2
    levels = falling_levels(steps, first, LAST_LEVEL * spread, np.float64(LAST_LEVEL_OF_NOISE * sigma_y))
    return [float(level) for level in levels]


def _draws(seed: int, steps: int, size: tuple[int, ...], channels: int) -> Iterator[Floats]:
    """The noise of each round, (N, channels, H, W) as `arrays.to_channels` gives images."""
    images = arrays.batch_size(size[1], channels)
    for k in range(steps):
        drawn = noise.normal(seed, range(k, k + 1), images * channels, slice(0, size[2]), slice(0, size[3]))
        yield drawn.reshape(images, channels, *size[2:])


def _typical(
    measurement: Any, like: Any, operator: Any, shape: Shape, dtype: np.dtype[Any], physics: Any, y: Array
) -> Array:
    """An image that has the result's range of values."""
    if like is not None:
        return np.asarray(like)
    array = np.asarray(arrays.as_array(measurement))
    if array.dtype.kind != "c" and (operator is not None or array.shape == shape):
        return array
    return arrays.to_dtype(user_physics.to_image(smooth_fit(physics, y)), dtype)


def _value_range(image: Array, restorer: Restorer) -> arrays.Scaling:
    return arrays.value_range(image, arrays.layout(image), restorer.metadata.domain)


def _result_dtype(array: Any) -> np.dtype[Any]:
    dtype = np.dtype(array.dtype)
    return dtype if dtype.kind in "iu" else np.dtype(np.float32)


def _check_prior(restorer: Restorer) -> None:
    meta = restorer.metadata
    roles = [spec.role for spec in meta.inputs]
    if sorted(roles) != ["image", "noise_level"] or meta.scale != 1:
        raise ModelError(
            f"{meta.name} is no prior: it takes {' and '.join(roles)} and enlarges {meta.scale} times, but a prior "
            "takes image and noise_level and keeps the size"
        )


def _check_arguments(counts: dict[str, Any], result: str, noise_level: Any, value_range: Any) -> None:
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
            raise InputError(f"{name} must be an integer of at least 1, not {count!r}")
    if counts["first_level"] > 1000:
        raise InputError(f"first_level must be from 1 to 1000, not {counts['first_level']}")
    if result not in ("auto", "consistent", "purified"):
        raise InputError(f'result must be "auto", "consistent" or "purified", not {result!r}')
    is_number = isinstance(noise_level, (int, float, np.number)) and not isinstance(noise_level, bool)
    if not (noise_level is None or noise_level == "estimate" or (is_number and 0 <= noise_level < np.inf)):
        raise InputError(f'noise_level must be a number of at least 0, "estimate" or None, not {noise_level!r}')
    if value_range is not None and not (len(value_range) == 2 and -np.inf < value_range[0] < value_range[1] < np.inf):
        raise InputError(f"value_range must be two rising numbers, for black and for white, not {value_range!r}")
