"""Blurs by any kernel, with their adjoints; Gaussian and motion kernels.

Images are (N, C, H, W), numpy or torch. As in the published codes a blur is a cross-correlation (the kernel is not
turned round), and the kernel's centre is the element (kh // 2, kw // 2):
    (A x)[i] = sum_j  kernel[j] x[i + j - centre]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restonnx.diffusion.borders import extend, fold, is_torch, is_traced, library_of, same_kind, zero_pad

Array = Any
Kernel = NDArray[np.float32]
LARGEST_DIRECT = 15 * 15
"""Elements of a kernel up to which torch convolves directly; beyond, Fourier transforms are faster."""


@dataclass(frozen=True, eq=False)
class Blur:
    """Blur where the border of the image is mirrored, without repeating the edge."""

    kernel: Array
    """(kh, kw), or (N, 1, kh, kw): one for each sample. numpy, or torch where the images are."""
    _spectra: dict[Any, Array] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        _check(self.kernel)

    def forward(self, x: Array) -> Array:
        return self._correlate(_each_axis(extend, x, self.kernel, "reflect"))

    def adjoint(self, u: Array) -> Array:
        return _each_axis(fold, self._spread(u), self.kernel, "reflect")

    def _correlate(self, x: Array) -> Array:
        """(H + kh - 1, W + kw - 1) -> (H, W): wherever the kernel fits."""
        height, width = (n - k + 1 for n, k in zip(x.shape[-2:], self.kernel.shape[-2:], strict=True))
        if _direct(self.kernel, x):
            stacked, weight = _stacked(x, same_kind(self.kernel, x))
            convolved = library_of(x).nn.functional.conv2d(stacked, weight, groups=weight.shape[0])
            return convolved.reshape(*x.shape[:-2], height, width)
        product = _rfft2(x, _fast(x.shape)) * self._spectrum(x).conj()
        return _irfft2(product, _fast(x.shape), x)[..., :height, :width]

    def _spread(self, u: Array) -> Array:
        """The adjoint of `_correlate`."""
        shape = tuple(n + k - 1 for n, k in zip(u.shape[-2:], self.kernel.shape[-2:], strict=True))
        if _direct(self.kernel, u):
            stacked, weight = _stacked(u, same_kind(self.kernel, u))
            spread = library_of(u).nn.functional.conv_transpose2d(stacked, weight, groups=weight.shape[0])
            return spread.reshape(*u.shape[:-2], *shape)
        product = _rfft2(u, _fast(shape)) * self._spectrum(u, shape)
        return _irfft2(product, _fast(shape), u)[..., : shape[0], : shape[1]]

    def _spectrum(self, x: Array, shape: tuple[int, ...] | None = None) -> Array:
        size = _fast(shape or x.shape)
        return _kept(self._spectra, self.kernel, x, size, lambda kernel: _spectrum(kernel, size))


@dataclass(frozen=True, eq=False)
class CircularBlur:
    """Blur where the image continues from its opposite side, which makes the closed form of `proximal` possible."""

    kernel: Array
    """As in `Blur`."""
    _spectra: dict[Any, Array] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        _check(self.kernel)

    def forward(self, x: Array) -> Array:
        return _irfft2(_rfft2(x, x.shape[-2:]) * self._spectrum(x).conj(), x.shape[-2:], x)

    def adjoint(self, u: Array) -> Array:
        return _irfft2(_rfft2(u, u.shape[-2:]) * self._spectrum(u), u.shape[-2:], u)

    def proximal(self, measurement: Array, v: Array, rho: Any) -> Array:
        """argmin over x of  ||A x - measurement||^2 / 2 + rho / 2 ||x - v||^2, exactly."""
        size, spectrum = v.shape[-2:], self._spectrum(v)
        right = _rfft2(measurement, size) * spectrum + rho * _rfft2(v, size)
        return _irfft2(right / (abs(spectrum) ** 2 + rho), size, v)

    def _spectrum(self, x: Array) -> Array:
        size = (x.shape[-2], x.shape[-1])
        return _kept(self._spectra, self.kernel, x, size, lambda kernel: _spectrum(_wrapped(kernel, size), size))


def gaussian_kernel(size: int, sigma: float) -> Kernel:
    """(size, size), sum 1: a Gaussian cut at four standard deviations, what lies beyond the kernel mirrored into it.

    As `scipy.ndimage.gaussian_filter` of a single bright pixel gives it.
    """
    reach = int(4 * sigma + 0.5)
    profile = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    point = np.zeros(size)
    point[size // 2] = 1
    line = np.convolve(extend(point, reach, reach, "symmetric"), profile / profile.sum(), "valid")
    return np.outer(line, line).astype(np.float32)


def motion_kernel(size: int, intensity: float, rng: np.random.Generator) -> Kernel:
    """(size, size), sum 1: the path of a shaking camera, a random walk whose direction drifts and now and then turns.

    intensity: 0, a straight and even line, to 1, a wild one. The distributions are those of the generator of
    L. Borodenko that published comparisons use; the path is drawn here with a pen of about a pixel, at any size.
    """
    if not 0 <= intensity <= 1:
        raise ValueError(f"intensity must be from 0 to 1, not {intensity}")
    diagonal = float(np.hypot(size, size))
    length = 0.75 * diagonal * (rng.random() + rng.random() * intensity**2) + 1.0
    steps: list[float] = []
    while sum(steps) < length:
        steps.append(max(float(rng.beta(1, 30)) * (1.1 - intensity) * diagonal, 0.01 * diagonal))
    widest = rng.uniform(0, max(intensity * np.pi, 1e-9))
    turning, turns = float(rng.beta(2, 20)), rng.triangular(0, intensity * widest + 1e-9, widest + 2e-9, len(steps))
    signs = np.cumprod(np.where(rng.random(len(steps)) < turning, -1.0, 1.0)) * rng.choice([-1.0, 1.0])
    angles = rng.uniform(0, 2 * np.pi) + np.cumsum(signs * turns)
    corners = np.cumsum(np.stack([np.sin(angles), np.cos(angles)]) * np.array(steps), axis=1)
    return _drawn(np.concatenate([np.zeros((2, 1)), corners], axis=1), size)


def _drawn(corners: NDArray[np.float64], size: int) -> Kernel:
    """The polyline through `corners` (2, P), centred and made to fit, with a Gaussian pen of half a pixel."""
    along = np.linspace(0, corners.shape[1] - 1, 8 * size)
    path = np.stack([np.interp(along, np.arange(corners.shape[1]), axis) for axis in corners])
    speed = np.hypot(*np.gradient(path, axis=1))
    path -= (path.max(1, keepdims=True) + path.min(1, keepdims=True)) / 2
    path *= min(1.0, 0.5 * (size - 3) / max(float(np.abs(path).max()), 1e-9)) if size > 3 else 0.0
    places = np.arange(size) - size // 2
    rows, cols = (np.exp(-0.5 * ((places[:, None] - axis) / 0.5) ** 2) for axis in path)
    kernel = (rows * speed) @ cols.T
    return np.asarray(kernel / kernel.sum(), np.float32)


def _check(kernel: Array) -> None:
    if kernel.ndim not in (2, 4) or 0 in kernel.shape or (kernel.ndim == 4 and kernel.shape[1] != 1):
        raise ValueError(f"a kernel has the shape (kh, kw) or (N, 1, kh, kw), not {tuple(kernel.shape)}")


def _each_axis(change: Any, x: Array, kernel: Array, border: str) -> Array:
    """`extend` or `fold` rows and columns by what the kernel overhangs."""
    high, wide = kernel.shape[-2:]
    x = change(x, wide // 2, wide - 1 - wide // 2, border)
    return change(x.swapaxes(-1, -2), high // 2, high - 1 - high // 2, border).swapaxes(-1, -2)


def _direct(kernel: Array, x: Array) -> bool:
    small = kernel.shape[-2] * kernel.shape[-1] <= LARGEST_DIRECT
    return is_torch(x) and (small or is_traced(x))  # a traced graph is for runtimes whose transforms are slow


def _stacked(x: Array, kernel: Array) -> tuple[Array, Array]:
    """The images, and a kernel for each channel, as one convolution with groups takes them."""
    high, wide = kernel.shape[-2:]
    if kernel.ndim == 2:
        return x, kernel.expand(x.shape[1], 1, high, wide)
    count = x.shape[0] * x.shape[1]
    weight = kernel.expand(x.shape[0], x.shape[1], high, wide).reshape(count, 1, high, wide)
    return x.reshape(1, count, *x.shape[-2:]), weight


def _kept(store: dict[Any, Array], kernel: Array, x: Array, size: tuple[Any, ...], make: Any) -> Array:
    """make(kernel), remembered for constant kernels."""
    if is_torch(kernel) or is_traced(x):
        return make(same_kind(kernel, x))
    key = (size, str(x.dtype), str(getattr(x, "device", "")), is_torch(x))
    if key not in store:
        store[key] = make(same_kind(kernel, x))
    return store[key]


def _wrapped(kernel: Array, size: tuple[int, int]) -> Array:
    """The kernel on a torus of that size, its centre at the origin; what is larger overlaps itself."""
    high, wide = kernel.shape[-2:]
    kernel = zero_pad(kernel, 0, -wide % size[1])
    kernel = zero_pad(kernel.swapaxes(-1, -2), 0, -high % size[0]).swapaxes(-1, -2)
    tiles = kernel.shape[-2] // size[0], kernel.shape[-1] // size[1]
    kernel = kernel.reshape(*kernel.shape[:-2], tiles[0], size[0], tiles[1], size[1]).sum((-4, -2))
    return library_of(kernel).roll(kernel, (-(high // 2), -(wide // 2)), (-2, -1))


def _rfft2(x: Array, size: tuple[int, ...]) -> Array:
    """Orthonormal, as is `_irfft2`: numpy computes transforms without a factor in float64, four times as slowly."""
    return library_of(x).fft.rfft2(x, size, norm="ortho")


def _spectrum(kernel: Array, size: tuple[int, int]) -> Array:
    """What multiplies the transform of an image."""
    return library_of(kernel).fft.rfft2(kernel, size)


def _irfft2(product: Array, size: tuple[int, ...], like: Array) -> Array:
    back = library_of(like).fft.irfft2(product, size, norm="ortho")
    return back if back.dtype == like.dtype else back.astype(like.dtype)  # numpy 1 computes in float64


def _fast(shape: tuple[int, ...]) -> tuple[int, int]:
    """The last two lengths, rounded up to products of 2, 3 and 5, whose Fourier transforms are fast."""
    return _smooth(shape[-2]), _smooth(shape[-1])


def _smooth(length: int) -> int:
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1
