"""Data consistency: bring an image closer to what was measured of it.

Every function takes an operator (see `operators`), the measurement y = A x + noise and where to start, and returns an
image. Images are (N, C, H, W), numpy or torch; each sample of a batch is fitted for itself, so neither the batch nor
the number of pixels changes its result. The objective of the gradient methods is
    ||A x - y||^2 / 2 + pull / 2 ||x - start||^2        (sums over a sample's elements)
whereas published codes minimise MSE(A x, y) + weight MSE(x, start) with a learning rate: see `step_from` and
`pull_from`. How far one goes is part of the method: few steps from a purified image leave the modes that the
measurement hardly shows as the prior made them.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from restonnx.diffusion.borders import inner, is_traced, same_kind, zero_pad
from restonnx.diffusion.operators import CustomOperator, Mask, linearize

Array = Any
Conjugate = tuple[Array, Array, Array, Array]
"""Image, residual, direction, and the residual's energy (N, 1, 1, 1)."""
OnIterate = Callable[[int, Array], None]
FILLING = ((1, 60), (2, 30))
"""How `filled` goes: with first differences and so many iterations, then from there with second ones."""


def step_from(learning_rate: float, measurement: Array) -> float:
    """The step of `descend` for a learning rate on the mean squared error of one sample's measurement."""
    return float(2 * learning_rate / prod(measurement.shape[1:]))


def pull_from(weight: float, measurement: Array, image: Array) -> float:
    """The pull for a weight on the mean squared distance from the start."""
    return float(weight * prod(measurement.shape[1:]) / prod(image.shape[1:]))


def descend(
    operator: Any,
    measurement: Array,
    start: Array,
    *,
    steps: int,
    step: float,
    momentum: float = 0.9,
    pull: float = 0.0,
    noise_level: float | None = None,
    on_step: OnIterate | None = None,
) -> Array:
    """Gradient descent with momentum:  b = momentum b + gradient,  x = x - step b.

    step: on the objective above; stable below 2 (1 + momentum) / (||A||^2 + pull).
    noise_level: standard deviation of the measurement's noise; a sample whose residual is no greater is left alone
                 (the discrepancy principle of Morozov), and the descent ends when that is true of all.
    on_step: called with (number of steps done, x).
    """
    x, velocity = start, 0.0
    for done in range(steps):
        residual, gradient = _gradient(operator, measurement, x, start, pull)
        velocity = momentum * velocity + gradient
        change = step * velocity
        if noise_level is not None:
            far = _is_far(residual, noise_level, like=x)
            if not is_traced(x) and not far.any():
                break
            change = change * far
        x = x - change
        if on_step:
            on_step(done + 1, x)
    return x


def adam(
    operator: Any,
    measurement: Array,
    start: Array,
    *,
    steps: int,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    pull: float = 0.0,
    noise_level: float | None = None,
    on_step: OnIterate | None = None,
) -> Array:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980); the learning rate is in the image's units, for any image size.

    eps: added to the root mean square of the objective's gradient; a published one, for the gradient of the mean
    squared error, becomes eps / step_from(1, measurement). The rest as in `descend`.
    """
    x, mean, square = start, 0.0, 0.0
    for done in range(steps):
        residual, gradient = _gradient(operator, measurement, x, start, pull)
        mean = betas[0] * mean + (1 - betas[0]) * gradient
        square = betas[1] * square + (1 - betas[1]) * gradient**2
        unbiased = mean / (1 - betas[0] ** (done + 1))
        deviation = (square / (1 - betas[1] ** (done + 1))) ** 0.5
        change = learning_rate * unbiased / (deviation + eps)
        if noise_level is not None:
            far = _is_far(residual, noise_level, like=x)
            if not is_traced(x) and not far.any():
                break
            change = change * far
        x = x - change
        if on_step:
            on_step(done + 1, x)
    return x


def proximal(
    operator: Any, measurement: Array, v: Array, rho: float, *, iterations: int = 20, tolerance: float = 1e-4
) -> Array:
    """argmin over x of  ||A x - y||^2 / 2 + rho / 2 ||x - v||^2, for linear operators.

    The operator's closed form where it has one, else `conjugate_gradient`. rho is the variance of the measurement's
    noise over that of v's error (`rho_from`).
    """
    if hasattr(operator, "proximal"):
        return operator.proximal(measurement, v, rho)
    return conjugate_gradient(operator, measurement, v, rho, iterations=iterations, tolerance=tolerance)


def rho_from(noise_level: Any, sigma: Any, weight: float = 1.0) -> Any:
    """weight noise_level^2 / sigma^2: how much v counts whose error has the standard deviation sigma."""
    return weight * (noise_level / sigma) ** 2


def conjugate_gradient(
    operator: Any, measurement: Array, v: Array, rho: float, *, iterations: int = 20, tolerance: float = 1e-4
) -> Array:
    """`proximal` by conjugate gradients on  (A' A + rho) x = A' y + rho v, from x = v (Hestenes and Stiefel 1952).

    tolerance: of the residual, relative to the first one; a sample that is there is left alone. Ended early, the
    modes that the measurement hardly shows stay near v.
    """
    state = first_conjugate(operator, measurement, v)
    enough = tolerance**2 * state[-1]
    for _ in range(iterations):
        if not is_traced(v) and not (state[-1] > enough).any():
            break
        state = next_conjugate(operator, rho, state, enough)
    return state[0]


def first_conjugate(operator: Any, measurement: Array, v: Array) -> Conjugate:
    """What `conjugate_gradient` begins with."""
    residual = operator.adjoint(measurement - operator.forward(v))
    return v, residual, residual, inner(residual, residual)


def next_conjugate(operator: Any, rho: Any, state: Conjugate, enough: Array) -> Conjugate:
    """One iteration; a sample whose energy is not above `enough`, (N, 1, 1, 1), is left alone."""
    x, residual, direction, energy = state
    image = operator.adjoint(operator.forward(direction)) + rho * direction
    curvature = inner(direction, image)
    # A sample that is finished would divide 0 by 0.
    length = energy * (energy > enough) / (curvature + (curvature == 0))
    x, residual = x + length * direction, residual - length * image
    following = inner(residual, residual)
    return x, residual, residual + following / (energy + (energy == 0)) * direction, following


def smooth_fit(
    operator: Any, measurement: Array, *, weight: float = 0.05, iterations: int = 30, tolerance: float = 1e-4
) -> Array:
    """A first image, without any prior:  argmin over x of  ||A x - y||^2 / 2 + weight gain / 2 ||gradient of x||^2.

    For linear operators, by conjugate gradients from 0. gain, which is that of A' A for A' y, makes the units of A not
    matter. Behind a mask it is `filled`.
    """
    if isinstance(operator, Mask):
        return filled(measurement, same_kind(operator.mask, measurement), tolerance=tolerance)
    normal, state = first_smooth(operator, measurement, weight=weight)
    enough = tolerance**2 * state[-1]
    for _ in range(iterations):
        if not is_traced(state[0]) and not (state[-1] > enough).any():
            break
        state = next_conjugate(normal, 0.0, state, enough)
    return state[0]


def first_smooth(operator: Any, measurement: Array, *, weight: float = 0.05) -> tuple[CustomOperator, Conjugate]:
    """What `smooth_fit` begins with: an operator whose A' A are its normal equations, and the state."""
    back = operator.adjoint(measurement)
    energy = inner(back, back)
    gain = inner(back, operator.adjoint(operator.forward(back))) / (energy + (energy == 0))

    def normal(x: Array) -> Array:
        return operator.adjoint(operator.forward(x)) + weight * gain * _roughness(x)

    return CustomOperator(lambda x: x, normal), (0 * back, back, back, energy)


def filled(measurement: Array, mask: Array, *, tolerance: float = 1e-4) -> Array:
    """The image that was multiplied by the mask, and where the mask is 0 what follows smoothly from around it.

    By conjugate gradients (`FILLING`): first as a membrane, then bent like a plate. The first goes far in few
    iterations, the second follows gradients.
    """
    square = mask * mask
    whole = square + (square == 0)
    image, mask = mask * measurement / whole, square / whole
    for order, iterations in FILLING:
        normal, state = first_filling(image, mask, order)
        enough = tolerance**2 * state[-1]
        for _ in range(iterations):
            if not is_traced(image) and not (state[-1] > enough).any():
                break
            state = next_conjugate(normal, 0.0, state, enough)
        image = image + (1 - mask) * state[0]
    return image


def first_filling(image: Array, mask: Array, order: int) -> tuple[CustomOperator, Conjugate]:
    """What `filled` begins with: the normal equations of the change where the mask, of 0 and 1, is 0; and the state."""
    hole = 1 - mask

    def bent(x: Array) -> Array:
        for _ in range(order):
            x = _roughness(x)
        return hole * x

    back = -bent(image)
    return CustomOperator(lambda x: x, lambda z: bent(hole * z)), (0 * back, back, back, inner(back, back))


def _roughness(x: Array) -> Array:
    """Half the derivative of the sum of the squared differences between neighbours."""
    across, down = x[..., 1:] - x[..., :-1], (x[..., 1:, :] - x[..., :-1, :]).swapaxes(-1, -2)
    along_rows = zero_pad(across, 1, 0) - zero_pad(across, 0, 1)
    return along_rows + (zero_pad(down, 1, 0) - zero_pad(down, 0, 1)).swapaxes(-1, -2)


def _gradient(operator: Any, measurement: Array, x: Array, start: Array, pull: float) -> tuple[Array, Array]:
    """A(x) - y, and the gradient of the objective."""
    value, pull_back = linearize(operator, x)
    residual = value - measurement
    gradient = pull_back(residual)
    return residual, gradient + pull * (x - start) if pull else gradient


def _is_far(residual: Array, noise_level: float, like: Array) -> Array:
    """(N, 1, 1, 1), 1 or 0: whether a sample's residual is greater than the noise explains."""
    squares = inner(residual, residual).reshape(-1, *[1] * (like.ndim - 1))
    far = squares > prod(residual.shape[1:]) * noise_level**2
    return far.to(like.dtype) if hasattr(far, "new_tensor") else far.astype(like.dtype)
