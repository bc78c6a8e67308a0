"""What lies beyond the border of an image: extending it, the adjoint of that, and the few array functions for both.

Everything works on numpy arrays and torch tensors alike; torch is taken from where the tensor's own import left it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

Array = Any
BORDERS = ("reflect", "symmetric", "circular")


def extend(x: Array, before: int, after: int, border: str) -> Array:
    """Lengthen the last axis of x by `before` and `after` values.

    border: reflect, mirrored without repeating the edge (d c b | a b c d | c b a); symmetric, mirrored with it
            (c b a | a b c d | d c b); circular (b c d | a b c d | a b c).
    """
    for left, right in _passes(x.shape[-1], before, after, border):
        x = _concatenate([_first_part(x, left, border), x, _last_part(x, right, border)])
    return x


def fold(y: Array, before: int, after: int, border: str) -> Array:
    """The adjoint of `extend`: what lies beyond the border is added to the values that it was copied from."""
    passes = _passes(y.shape[-1] - before - after, before, after, border)
    for left, right in reversed(passes):
        n = y.shape[-1] - left - right
        x = y[..., left : left + n]
        if left:
            x = x + _unfirst(y[..., :left], n, border)
        if right:
            x = x + _unlast(y[..., left + n :], n, border)
        y = x
    return y


def zero_pad(x: Array, before: int, after: int) -> Array:
    """Lengthen the last axis of x with zeros."""
    if not before and not after:
        return x
    library = library_of(x)
    if library is np:
        return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(before, after)])
    return library.nn.functional.pad(x, (before, after))


def is_torch(x: Array) -> bool:
    return hasattr(x, "new_tensor")


def library_of(x: Array) -> Any:
    """The module torch or numpy, whichever x belongs to; of an array that only notes what is done to it, its own."""
    if is_noted(x):
        return x.__array_namespace__()
    return sys.modules["torch"] if is_torch(x) else np


def is_traced(x: Array) -> bool:
    """Whether x has no values yet, as inside torch.export or torch.compile: no decision may then depend on them."""
    return is_noted(x) or (is_torch(x) and bool(library_of(x).compiler.is_compiling()))


def is_noted(x: Array) -> bool:
    """Whether x stands for an array of a graph that is being written, and is neither numpy's nor torch's."""
    return getattr(x, "is_traced", False) is True


def same_kind(values: Any, like: Array) -> Array:
    """`values`, an array of either library, with the library, dtype and device of `like`."""
    if is_noted(values):
        return values
    if not is_torch(like):
        return np.asarray(values, like.dtype)
    if is_torch(values):
        return values.to(like)
    return like.new_tensor(np.asarray(values))


def inner(a: Array, b: Array) -> Array:
    """The inner product of each sample, shaped (N, 1, ..., 1) to multiply such a sample.

    Axis by axis: ONNX Runtime's sum over a whole image as one row is off by 1e-5 (512 x 512, three channels).
    """
    total = a * b
    for _ in range(a.ndim - 1):
        total = total.sum(-1)
    return total.reshape(-1, *[1] * (a.ndim - 1))


def _passes(length: int, before: int, after: int, border: str) -> list[tuple[int, int]]:
    """How far each pass extends an axis: a mirror shows what there is, and the next one stands where it ends."""
    if border not in BORDERS:
        raise ValueError(f"border is {border!r}; it must be one of {', '.join(BORDERS)}")
    if border == "circular":
        if before > length or after > length:
            raise ValueError(f"a circular border of {max(before, after)} pixels needs as many, not {length}")
        return [(before, after)]
    room = length - 1 if border == "reflect" else length
    if room < 1 and (before or after):
        raise ValueError(f"an axis of {length} pixel has nothing to reflect")
    passes = []
    while before or after:
        passes.append((min(before, room), min(after, room)))
        before, after = before - passes[-1][0], after - passes[-1][1]
    return passes


def _first_part(x: Array, count: int, border: str) -> Array:
    if border == "circular":
        return x[..., x.shape[-1] - count :]
    skip = int(border == "reflect")
    return _flip(x[..., skip : skip + count])


def _last_part(x: Array, count: int, border: str) -> Array:
    if border == "circular":
        return x[..., :count]
    stop = x.shape[-1] - int(border == "reflect")
    return _flip(x[..., stop - count : stop])


def _unfirst(part: Array, length: int, border: str) -> Array:
    count = part.shape[-1]
    if border == "circular":
        return zero_pad(part, length - count, 0)
    skip = int(border == "reflect")
    return zero_pad(_flip(part), skip, length - skip - count)


def _unlast(part: Array, length: int, border: str) -> Array:
    count = part.shape[-1]
    if border == "circular":
        return zero_pad(part, 0, length - count)
    skip = int(border == "reflect")
    return zero_pad(_flip(part), length - skip - count, skip)


def _flip(x: Array) -> Array:
    return x.flip(-1) if is_torch(x) else x[..., ::-1]


def _concatenate(parts: list[Array]) -> Array:
    return library_of(parts[1]).concatenate(parts, -1)
