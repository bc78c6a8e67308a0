"""What was measured, and the user's own physics: read, checked, and brought to the shapes of `diffusion`.

There an image is (1, C, H, W) float32, C being 1 or 3, and a measurement has a first axis of length 1 too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from restonnx import arrays, noise, noise_level
from restonnx.errors import InputError
from restonnx.session import Cancel, check_cancelled

Array = np.ndarray[Any, np.dtype[Any]]
Floats = np.ndarray[Any, np.dtype[np.float32]]
Shape = tuple[int, ...]
Forward = Callable[[Floats], Any]
Adjoint = Callable[[Array], Any]

ADJOINT_TOLERANCE = 0.01
"""Of <A x, A x> against <x, A' A x>. Interpolating projectors are off by a part of that; mistakes by much more."""
LEAST_SIDE = 8
"""Of an image whose noise level can be estimated, in pixels."""


@dataclass(frozen=True)
class UserPhysics:
    """The user's two functions as an operator."""

    user_forward: Forward
    """An image (H, W) or (H, W, 3) float32 -> an array of `measured_shape`."""
    user_adjoint: Adjoint
    measured_shape: Shape
    image_shape: Shape
    cancel: Cancel | None = None

    def forward(self, x: Floats) -> Array:
        check_cancelled(self.cancel)
        out = numbers(self.user_forward(to_image(x)), "what forward returns")
        return self._of_shape(out, self.measured_shape, "forward", "the measurement")[None]

    def adjoint(self, u: Array) -> Floats:
        check_cancelled(self.cancel)
        out = numbers(self.user_adjoint(u[0]), "what adjoint returns").real
        return from_image(self._of_shape(out, self.image_shape, "adjoint", "the image"))

    @staticmethod
    def _of_shape(values: Array, shape: Shape, name: str, whose: str) -> Array:
        if values.shape != shape:
            raise InputError(f"{name} returns an array of shape {values.shape}, but {whose} has {shape}")
        return values


def physics(
    operator: Any,
    forward: Forward | None,
    adjoint: Adjoint | None,
    measured: Shape,
    image: Shape,
    cancel: Cancel | None,
) -> Any:
    """The operator, or the user's pair as one. Raises InputError unless exactly one of the two is there."""
    if operator is None and forward is not None and adjoint is not None:
        return UserPhysics(forward, adjoint, measured, image, cancel)
    if operator is None or forward is not None or adjoint is not None:
        raise InputError("pass either forward and adjoint, or operator")
    if not (hasattr(operator, "forward") and hasattr(operator, "adjoint")):
        kind = type(operator).__name__
        raise InputError(f"a {kind} has no forward and adjoint, as a linear operator must have")
    return operator


def check_physics(operator: Any, measured: Shape, image: Shape) -> None:
    """A few calls: whether the shapes fit, the operator is linear, and its adjoint is its transpose.

    measured, image: with the axes that `diffusion` has.
    """
    probe = noise.normal(0, 1, image[1], slice(0, image[2]), slice(0, image[3]))
    try:
        once, twice = operator.forward(probe), operator.forward(2 * probe)
        back = operator.adjoint(once)
    except ValueError as error:
        if isinstance(error, InputError) or isinstance(operator, UserPhysics):
            raise
        raise InputError(f"the operator does not fit an image of {image[2]} x {image[3]} pixels: {error}") from None
    if once.shape != measured or back.shape != image:
        raise InputError(
            f"an image of {image[1:]} (channels, rows, columns) is measured as {once.shape[1:]}, but the measurement "
            f"has {measured[1:]}: pass the image_shape that belongs to it"
        )
    if not np.abs(twice - 2 * once).max() <= 1e-3 * np.abs(once).max():
        raise InputError("forward must be linear, but forward(2 x) is not 2 forward(x)")
    energy, other = float(np.vdot(once, once).real), float(np.vdot(probe, back).real)
    if abs(energy - other) > ADJOINT_TOLERANCE * energy:
        raise InputError(
            f"adjoint is not the transpose of forward: <A x, A x> is {energy:.4g}, but <x, A' A x> is {other:.4g}"
        )


def numbers(values: Any, what: str) -> Array:
    """As float32 or complex64. Raises InputError for what are no finite numbers."""
    found = np.asarray(arrays.as_array(values))
    if found.dtype.kind not in "iufc" or found.size == 0:
        raise InputError(f"{what} has dtype {found.dtype} and shape {found.shape}, but it must be an array of numbers")
    found = found.astype(np.complex64 if found.dtype.kind == "c" else np.float32)
    if not np.isfinite(found).all():
        raise InputError(f"{what} holds values that are not finite; mask them out instead")
    return found


def image_shape(measured: Shape, given: Shape | None, like: Any, operator: Any) -> Shape:
    """(H, W) or (H, W, 3) of the result. Raises InputError where it is no image."""
    if operator is not None and not is_image(measured):
        raise InputError(
            f"with an operator the measurement must be an image, (rows, columns) or (rows, columns, 3), not of shape "
            f"{measured}: pass forward and adjoint instead"
        )
    if given is not None:
        name, shape = "image_shape", tuple(given)
    elif like is not None:
        name, shape = "the shape of like", tuple(like.shape)
    else:
        factor = getattr(operator, "factor", 1)
        sides = getattr(operator, "shape", None) or [side * factor for side in measured[:2]]
        name, shape = "without image_shape the measurement's shape", (*sides, *measured[2:])
    if not is_image(shape) or min(shape) < 1:
        raise InputError(f"{name} must be (rows, columns) or (rows, columns, 3), not {shape}")
    return shape


def estimated_noise(measured: Array) -> float:
    """The standard deviation of the noise in a measurement that is an image, in its units; else InputError."""
    if measured.dtype.kind == "c" or not is_image(measured.shape) or min(measured.shape[:2]) < LEAST_SIDE:
        raise InputError(
            f'noise_level="estimate" needs a measurement that is an image of at least {LEAST_SIDE} x {LEAST_SIDE} '
            f"pixels, not one of {measured.dtype} and shape {measured.shape}: pass a number"
        )
    return noise_level.estimate(from_image(measured)[0])


def is_image(shape: Shape) -> bool:
    return len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)


def from_image(image: Array) -> Floats:
    """(H, W) or (H, W, 3) -> (1, C, H, W)."""
    return np.ascontiguousarray(image.transpose(2, 0, 1) if image.ndim == 3 else image[None])[None]


def to_image(x: Floats) -> Floats:
    """(1, C, H, W) -> (H, W) or (H, W, 3)."""
    return np.ascontiguousarray(x[0].transpose(1, 2, 0) if x.shape[1] == 3 else x[0, 0])
