"""Measurements of an image with their adjoints: what data consistency needs to know about the physics.

Images are (N, C, H, W), numpy or torch, and so are measurements, whose size may be another one. An operator has
    forward(x)            the measurement A x
    adjoint(u)            A' u, with <A x, u> = <x, A' u>
and where it exists a closed form
    proximal(y, v, rho)   argmin over x of  ||A x - y||^2 / 2 + rho / 2 ||x - v||^2
Operators that are not linear have `linearize(x)` in place of the adjoint: A(x), and a function u -> J(x)' u.
Blurs are in `blurs`, the bicubic down-sampling is in `resizing`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restonnx.diffusion.borders import is_torch, library_of, same_kind, zero_pad

Array = Any
Map = Callable[[Array], Array]


def linearize(operator: Any, x: Array) -> tuple[Array, Map]:
    """A(x), and the function u -> J(x)' u, J being the derivative of A at x; for a linear A that is the adjoint."""
    if hasattr(operator, "linearize"):
        value, pull_back = operator.linearize(x)
        return value, pull_back
    return operator.forward(x), operator.adjoint


@dataclass(frozen=True)
class Identity:
    """The image itself: denoising."""

    def forward(self, x: Array) -> Array:
        return x

    def adjoint(self, u: Array) -> Array:
        return u

    def proximal(self, measurement: Array, v: Array, rho: Any) -> Array:
        return (measurement + rho * v) / (1 + rho)


@dataclass(frozen=True, eq=False)
class Mask:
    """Inpainting: the measurement has the image's size, and 0 where a pixel is missing."""

    mask: Array
    """(H, W), or what else multiplies an image: 1 where a pixel is known, 0 where it is missing."""

    def forward(self, x: Array) -> Array:
        return x * same_kind(self.mask, x)

    def adjoint(self, u: Array) -> Array:
        return u * same_kind(self.mask, u)

    def proximal(self, measurement: Array, v: Array, rho: Any) -> Array:
        mask = same_kind(self.mask, v)
        # Written as a step from v, so that a missing pixel keeps v's value even where rho is 0.
        weight = mask**2 + rho
        return v + mask * (measurement - mask * v) / (weight + (weight == 0))


def box_mask(height: int, width: int, top: int, bottom: int, left: int, right: int) -> NDArray[np.float32]:
    """(height, width): missing are the rows top..bottom - 1 and of them the columns left..right - 1."""
    mask = np.ones((height, width), np.float32)
    mask[top:bottom, left:right] = 0
    return mask


def random_mask(draws: Array, missing: float) -> NDArray[np.float32]:
    """(H, W): the floor(H W missing) pixels with the smallest of the random numbers `draws` (H, W) are missing."""
    if not 0 <= missing <= 1:
        raise ValueError(f"the share of missing pixels must be from 0 to 1, not {missing}")
    order = np.argsort(np.asarray(draws), axis=None, kind="stable")
    mask = np.ones(draws.shape, np.float32)
    mask.flat[order[: int(order.size * missing)]] = 0
    return mask


@dataclass(frozen=True)
class Crop:
    """The image without a border: of measurements that say nothing about it, such as a blurred photograph's."""

    top: int
    bottom: int
    left: int
    right: int

    def forward(self, x: Array) -> Array:
        return x[..., self.top : x.shape[-2] - self.bottom, self.left : x.shape[-1] - self.right]

    def adjoint(self, u: Array) -> Array:
        wide = zero_pad(u, self.left, self.right)
        return zero_pad(wide.swapaxes(-1, -2), self.top, self.bottom).swapaxes(-1, -2)


@dataclass(frozen=True)
class Chain:
    """One linear operator after the other, such as a blur and then a down-sampling."""

    operators: tuple[Any, ...]
    """In the order in which they are applied to an image."""

    def forward(self, x: Array) -> Array:
        for operator in self.operators:
            x = operator.forward(x)
        return x

    def adjoint(self, u: Array) -> Array:
        for operator in reversed(self.operators):
            u = operator.adjoint(u)
        return u


@dataclass(frozen=True)
class CustomOperator:
    """Any pair of functions."""

    forward: Map
    adjoint: Map


@dataclass(frozen=True)
class PhaseRetrieval:
    """The modulus of the centred orthonormal Fourier transform of the image in a frame of zeros; not linear."""

    pad: int
    """Pixels of zeros on each side: int(oversampling / 8 * side), so 64 for twofold and 256 x 256 pixels."""

    def forward(self, x: Array) -> Array:
        return abs(self._transform(x))

    def linearize(self, x: Array) -> tuple[Array, Map]:
        spectrum = self._transform(x)
        modulus = abs(spectrum)
        phase = spectrum / (modulus + (modulus == 0))  # at 0, where there is no derivative, 0 is taken

        def pull_back(u: Array) -> Array:
            fft = library_of(u).fft
            back = fft.ifft2(fft.ifftshift(u * phase, (-2, -1)), None, (-2, -1), "ortho")
            image = fft.fftshift(back, (-2, -1)).real
            high, wide = image.shape[-2:]
            cut = image[..., self.pad : high - self.pad, self.pad : wide - self.pad]
            return same_kind(cut, u)

        return modulus, pull_back

    def _transform(self, x: Array) -> Array:
        fft, wide = library_of(x).fft, zero_pad(x, self.pad, self.pad)
        framed = zero_pad(wide.swapaxes(-1, -2), self.pad, self.pad).swapaxes(-1, -2)
        spectrum = fft.fft2(fft.ifftshift(framed, (-2, -1)), None, (-2, -1), "ortho")
        return fft.fftshift(spectrum, (-2, -1))


@dataclass(frozen=True)
class Differentiable:
    """Any function of torch tensors as an operator, its derivative by autograd: measurements that are not linear."""

    forward: Map

    def linearize(self, x: Array) -> tuple[Array, Map]:
        if not is_torch(x):
            raise ValueError("an operator without an adjoint needs torch tensors, whose gradients torch computes")
        torch = library_of(x)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = self.forward(leaf)
        return value.detach(), lambda u: torch.autograd.grad(value, leaf, u)[0]


@dataclass(frozen=True)
class Decoded:
    """A measurement of the image that a decoder makes of a latent: data consistency in latent space."""

    operator: Any
    decode: Map
    linearized: Callable[[Array], tuple[Array, Map]] | None = None
    """latent -> its image, and the function u -> D' u, D being the decoder's derivative there. None: by autograd."""

    def forward(self, latent: Array) -> Array:
        return self.operator.forward(self.decode(latent))

    def linearize(self, latent: Array) -> tuple[Array, Map]:
        derive = self.linearized or Differentiable(self.decode).linearize
        image, to_latent = derive(latent)
        measured, to_image = linearize(self.operator, image)
        return measured, lambda u: to_latent(to_image(u))
