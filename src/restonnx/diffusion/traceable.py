"""Operators as products of matrices: for graphs whose sizes are open, and runtimes without fast Fourier transforms.

They measure what `Blur` and `Downsample` measure, with few operations and no case distinctions by size. torch alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from restonnx.diffusion.borders import library_of
from restonnx.diffusion.resizing import bicubic_taps

Array = Any
PHASES = 4
"""Along a side."""


@dataclass(frozen=True, eq=False)
class Separable:
    """What a matrix does to the columns of an image and another one to its rows."""

    rows: Array
    """(h, H)"""
    cols: Array
    """(w, W)"""

    def forward(self, x: Array) -> Array:
        return self.rows @ x @ self.cols.swapaxes(-1, -2)

    def adjoint(self, u: Array) -> Array:
        return self.rows.swapaxes(-1, -2) @ u @ self.cols


def downsample(factor: int, height: int, width: int, like: Array) -> Separable:
    """`Downsample(factor)` to measurements of that height and width."""
    return Separable(_shrinking(factor, height, like), _shrinking(factor, width, like))


@dataclass(frozen=True, eq=False)
class PhasedBlur:
    """`Blur` of images whose sides are multiples of `PHASES`.

    The image's 4 x 4 phases become channels and the large kernel a small one between them, so that nearly all is one
    product of matrices: on ONNX Runtime's CPU a quarter of the time of the convolution as it stands (256 x 256 pixels
    in three colours, one thread: 28 ms in place of 121 for 25 x 25, 140 in place of 594 for 61 x 61).
    """

    size: tuple[int, int]
    """Of the kernel."""
    weight: Array
    """(16 N, 16 N, qh, qw): a kernel for each sample, what belongs to two samples being 0; so the number of samples
    may be open, which the number of a convolution's groups may not."""
    turned: Array
    """The same of the kernel turned by half a turn."""

    def forward(self, x: Array) -> Array:
        rows, cols = self._places(x)
        return _convolved(x.index_select(-2, rows).index_select(-1, cols), self.weight)

    def adjoint(self, u: Array) -> Array:
        torch = library_of(u)
        high, wide = self._reach()
        spread = _convolved(torch.nn.functional.pad(u, (wide, wide, high, high)), self.turned)
        rows, cols = (
            (places[:, None] == torch.arange(length, device=u.device)).to(u.dtype)
            for places, length in zip(self._places(u), u.shape[-2:], strict=True)
        )
        return rows.swapaxes(0, 1) @ spread @ cols

    def _reach(self) -> tuple[int, int]:
        """By how much an image is extended."""
        high, wide = (PHASES * (side - 1) for side in self.weight.shape[-2:])
        return high, wide

    def _places(self, x: Array) -> tuple[Array, Array]:
        """Which row and column of the image each of the extended one is."""
        torch = library_of(x)
        rows, cols = (
            _mirrored(torch.arange(length + more, device=x.device) - size // 2, 2 * (length - 1))
            for length, more, size in zip(x.shape[-2:], self._reach(), self.size, strict=True)
        )
        return rows, cols


@dataclass(frozen=True, eq=False)
class Framed:
    """What an operator measures of an image that is larger than the measurement, by a frame that was not measured.

    What lies beyond the border of a photograph has blurred into it all the same, and is nothing like its mirror image.
    """

    operator: Any
    high: Any
    wide: Any
    """The frame, in pixels on each side."""

    def forward(self, x: Array) -> Array:
        return without_frame(self.operator.forward(x), self.high, self.wide)

    def adjoint(self, u: Array) -> Array:
        frame = (self.wide, self.wide, self.high, self.high)
        return self.operator.adjoint(library_of(u).nn.functional.pad(u, frame))


def without_frame(x: Array, high: Any, wide: Any) -> Array:
    height, width = x.shape[-2:]
    return x.narrow(-2, high, height - 2 * high).narrow(-1, wide, width - 2 * wide)


def with_frame(x: Array, high: Any, wide: Any) -> Array:
    """Its mirror image all round, the edge not repeated."""
    torch = library_of(x)
    for axis, frame in ((-2, high), (-1, wide)):
        length = x.shape[axis]
        places = torch.arange(length + 2 * frame, device=x.device) - frame
        x = x.index_select(axis, _mirrored(places, 2 * (length - 1)))
    return x


def blur(kernel: Array) -> PhasedBlur:
    """`Blur(kernel)`; kernel (N, 1, kh, kw)."""
    torch = library_of(kernel)
    high, wide = kernel.shape[-2:]
    whole = torch.nn.functional.pad(kernel, (0, _whole(wide) - wide, 0, _whole(high) - high))
    return PhasedBlur((high, wide), _between_phases(whole), _between_phases(whole.flip(-1, -2)))


def _shrinking(factor: int, length: int, like: Array) -> Array:
    """(length, factor length): the weights of `Downsample` along a side."""
    torch, (first, weights) = library_of(like), bicubic_taps(factor)
    output = torch.arange(length, device=like.device)
    image = torch.arange(factor * length, device=like.device)
    matrix = 0.0
    for tap, weight in enumerate(weights):
        places = _mirrored(factor * output + (first + tap), 2 * factor * length, edge=1)
        matrix = matrix + float(weight) * (places[:, None] == image).to(like.dtype)
    return matrix


def _whole(length: int) -> int:
    """The next of 1, 5, 9, ..: what is added to a kernel is 0."""
    return (length + PHASES - 2) // PHASES * PHASES + 1


def _mirrored(places: Array, period: int, edge: int = 0) -> Array:
    """Indices beyond the border as those that they mirror; edge: 1 where the edge is repeated."""
    inside = places % period
    return inside.minimum(period - edge - inside)


def _convolved(x: Array, weight: Array) -> Array:
    torch = library_of(x)
    phases = torch.pixel_unshuffle(x.swapaxes(0, 1), PHASES)  # (C, 16 N, ..)
    return torch.pixel_shuffle(torch.nn.functional.conv2d(phases, weight), PHASES).swapaxes(0, 1)


def _between_phases(kernel: Array) -> Array:
    """(N, 1, 4 qh - 3, 4 qw - 3) -> (16 N, 16 N, qh, qw)."""
    torch, samples, square = library_of(kernel), kernel.shape[0], PHASES**2
    along = _phases(_phases(kernel[:, 0]).swapaxes(-1, -2))  # (out, in, out, in, N, qw, qh)
    own = along.permute(4, 0, 2, 1, 3, 6, 5).reshape(samples, square, 1, square, *along.shape[-2:][::-1])
    numbers = torch.arange(samples, device=kernel.device)
    same = (numbers[:, None] == numbers).to(kernel.dtype).reshape(samples, 1, samples, 1, 1, 1)
    return (own * same).reshape(samples * square, samples * square, *own.shape[-2:])


def _phases(kernel: Array) -> Array:
    """(..., 4 q - 3) -> (phase of the output, phase of the input, ..., q)."""
    torch, count = library_of(kernel), (kernel.shape[-1] + 3) // PHASES
    kernel = torch.nn.functional.pad(kernel, (PHASES - 1, PHASES - 1))
    shifted = torch.stack([kernel.narrow(-1, PHASES - 1 - p, PHASES * count) for p in range(PHASES)])
    return shifted.reshape(*shifted.shape[:-1], count, PHASES).movedim(-1, 1)
