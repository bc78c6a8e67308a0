"""Functions of `restonnx.diffusion` as ONNX nodes: an array that notes what is done to it.

torch's tracer reasons about every open length again and again, which takes minutes for a blur; noting the same
operations as they happen takes milliseconds. A `Noted` array stands for one that the graph will compute; it has the
few methods of arrays that those functions use, and lengths that are known only when the graph runs are such arrays too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from restonnx.onnx_export.pieces import Builder

KINDS = {"float": np.float32, "int": np.int64, "bool": np.bool_}
LARGEST = 2**62
"""As the end of a slice: the last element."""


class Recorder:
    """Where nodes are noted: in the graph, or in the body of the loop that is being noted."""

    def __init__(self, builder: Builder) -> None:
        self.at = builder

    def value(self, name: str, ndim: int, kind: str = "float") -> Noted:
        """A value of the graph by its name."""
        return Noted(self, name, ndim, kind)

    def constant(self, values: Any, kind: str) -> Noted:
        array: NDArray[Any] = np.asarray(values, KINDS[kind])
        return Noted(self, self.at.constant(array), array.ndim, kind)

    def node(self, operation: str, *inputs: Any, ndim: int, kind: str = "float", **attributes: Any) -> Noted:
        names = [value.name if isinstance(value, Noted) else value for value in inputs]
        return Noted(self, self.at.node(operation, *names, **attributes), ndim, kind)

    def lengths(self, values: Sequence[Any]) -> Noted:
        """Numbers and noted numbers as one vector."""
        if not any(isinstance(value, Noted) for value in values):
            return self.constant(values, "int")
        parts = [value.unsqueeze(0) if isinstance(value, Noted) else self.constant([value], "int") for value in values]
        return self.node("Concat", *parts, ndim=1, kind="int", axis=0)

    def loop(
        self,
        count: Any,
        carried: Sequence[Noted],
        body: Callable[..., Sequence[Noted]],
        *,
        going: Noted | None = None,
    ) -> tuple[Noted, ...]:
        """What the float arrays `carried` have become after at most `count` rounds.

        body: (number of the round, *carried) -> what they are after it, where `going` (whether to begin at all) is
        given followed by whether to go on.
        """
        rounds = count if isinstance(count, Noted) else self.constant(count, "int")
        ranks = [array.ndim for array in carried]

        def noted(inside: Builder, number: str, names: tuple[str, ...]) -> tuple[str, ...]:
            outside, self.at = self.at, inside
            try:
                arrays = [self.value(name, rank) for name, rank in zip(names, ranks, strict=True)]
                return tuple(array.name for array in body(self.value(number, 0, "int"), *arrays))
            finally:
                self.at = outside

        begins = None if going is None else going.name
        names = self.at.loop(rounds.name, [array.name for array in carried], noted, going=begins)
        return tuple(self.value(name, rank) for name, rank in zip(names, ranks, strict=True))


class Noted:
    """An array of the graph, float32, int64 or bool, of a known number of axes."""

    __array_ufunc__ = None
    """So that numpy's numbers leave arithmetic to this class."""
    is_traced = True
    __hash__ = object.__hash__

    def __init__(self, recorder: Recorder, name: str, ndim: int, kind: str) -> None:
        self.recorder, self.name, self.ndim, self.kind = recorder, name, ndim, kind
        self.dtype, self.device = kind, None

    def __array_namespace__(self) -> Any:
        """What `library_of` finds in place of torch."""
        return _library(self.recorder)

    # Arithmetic

    def _binary(self, operation: str, other: Any, *, turned: bool = False, kind: str | None = None) -> Noted:
        own = self if self.kind != "bool" else self.to(other.kind if isinstance(other, Noted) else "float")
        if isinstance(other, Noted):
            other = other if other.kind == own.kind else other.to(own.kind)
        else:
            other = self.recorder.constant(other, own.kind)
        pair = (other, own) if turned else (own, other)
        return self.recorder.node(operation, *pair, ndim=max(own.ndim, other.ndim), kind=kind or own.kind)

    def __add__(self, other: Any) -> Noted:
        return self._binary("Add", other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Noted:
        return self._binary("Sub", other)

    def __rsub__(self, other: Any) -> Noted:
        return self._binary("Sub", other, turned=True)

    def __mul__(self, other: Any) -> Noted:
        return self._binary("Mul", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Noted:
        return self._binary("Div", other)

    def __rtruediv__(self, other: Any) -> Noted:
        return self._binary("Div", other, turned=True)

    def __floordiv__(self, other: Any) -> Noted:
        return self._binary("Div", other)  # of lengths, which are never negative

    def __mod__(self, other: Any) -> Noted:
        return self._binary("Mod", other)

    def __pow__(self, other: Any) -> Noted:
        if not isinstance(other, Noted) and other == 2:
            return self * self
        return self._binary("Pow", other)

    def __neg__(self) -> Noted:
        return self.recorder.node("Neg", self, ndim=self.ndim, kind=self.kind)

    def __matmul__(self, other: Noted) -> Noted:
        return self.recorder.node("MatMul", self, other, ndim=max(self.ndim, other.ndim))

    def __eq__(self, other: Any) -> Any:
        return self._binary("Equal", other, kind="bool")

    def __gt__(self, other: Any) -> Noted:
        return self._binary("Greater", other, kind="bool")

    def __lt__(self, other: Any) -> Noted:
        return self._binary("Less", other, kind="bool")

    def minimum(self, other: Any) -> Noted:
        return self._binary("Min", other)

    def maximum(self, other: Any) -> Noted:
        return self._binary("Max", other)

    def clip(self, least: float, most: float) -> Noted:
        return self.maximum(least).minimum(most)

    def where(self, yes: Noted, no: Noted) -> Noted:
        """Of two arrays, chosen by this one of bool."""
        rank = max(self.ndim, yes.ndim, no.ndim)
        return self.recorder.node("Where", self, yes, no, ndim=rank, kind=yes.kind)

    def sum(self, axis: int) -> Noted:
        axes = self.recorder.constant([axis % self.ndim], "int")
        return self.recorder.node("ReduceSum", self, axes, ndim=self.ndim - 1, keepdims=0)

    def any(self) -> Noted:
        """Over everything."""
        found = self.recorder.node("ReduceMax", self.to("float"), ndim=0, keepdims=0)
        return found > 0.5

    def to(self, kind: str) -> Noted:
        from onnx import helper

        if kind == self.kind:
            return self
        wanted = helper.np_dtype_to_tensor_dtype(np.dtype(KINDS[kind]))
        return self.recorder.node("Cast", self, ndim=self.ndim, kind=kind, to=wanted)

    # Shape

    @property
    def shape(self) -> tuple[Noted, ...]:
        return tuple(self._length(axis) for axis in range(self.ndim))

    def _length(self, axis: int) -> Noted:
        vector = self.recorder.node("Shape", self, ndim=1, kind="int", start=axis, end=axis + 1)
        return vector._squeezed(0)

    def _squeezed(self, axis: int) -> Noted:
        axes = self.recorder.constant([axis], "int")
        return self.recorder.node("Squeeze", self, axes, ndim=self.ndim - 1, kind=self.kind)

    def unsqueeze(self, axis: int) -> Noted:
        axes = self.recorder.constant([axis], "int")
        return self.recorder.node("Unsqueeze", self, axes, ndim=self.ndim + 1, kind=self.kind)

    def reshape(self, *shape: Any) -> Noted:
        lengths = self.recorder.lengths(shape)
        return self.recorder.node("Reshape", self, lengths, ndim=len(shape), kind=self.kind)

    def permute(self, *axes: int) -> Noted:
        return self.recorder.node("Transpose", self, ndim=self.ndim, kind=self.kind, perm=list(axes))

    def swapaxes(self, one: int, other: int) -> Noted:
        axes = list(range(self.ndim))
        axes[one], axes[other] = axes[other], axes[one]
        return self.permute(*axes)

    def movedim(self, source: int, target: int) -> Noted:
        axes = list(range(self.ndim))
        axes.insert(target, axes.pop(source))
        return self.permute(*axes)

    def index_select(self, axis: int, places: Noted) -> Noted:
        rank = self.ndim + places.ndim - 1
        return self.recorder.node("Gather", self, places, ndim=rank, kind=self.kind, axis=axis % self.ndim)

    def narrow(self, axis: int, start: Any, length: Any) -> Noted:
        return self._sliced(axis % self.ndim, start, start + length)

    def flip(self, *axes: int) -> Noted:
        flipped = self
        for axis in axes:
            flipped = flipped._sliced(axis % self.ndim, -1, -LARGEST, -1)
        return flipped

    def _sliced(self, axis: int, start: Any, end: Any, step: int = 1) -> Noted:
        bounds = (self.recorder.lengths([value]) for value in (start, end, axis, step))
        return self.recorder.node("Slice", self, *bounds, ndim=self.ndim, kind=self.kind)

    def __getitem__(self, key: Any) -> Noted:
        """By numbers, slices, None and ..., as far as they are needed."""
        keys = list(key) if isinstance(key, tuple) else [key]
        taken = sum(part is not None and part is not ... for part in keys)
        if (dots := next((n for n, part in enumerate(keys) if part is ...), None)) is not None:
            keys[dots : dots + 1] = [slice(None)] * (self.ndim - taken)
        array, axis = self, 0
        for part in keys:
            if part is None:
                array = array.unsqueeze(axis)
            elif isinstance(part, slice):
                if part != slice(None):
                    start, end = part.start or 0, LARGEST if part.stop is None else part.stop
                    array = array._sliced(axis, start, end)
            else:
                place = part if isinstance(part, Noted) else self.recorder.constant(part, "int")
                array = array.index_select(axis, place)
                continue
            axis += 1
        return array

    def __iter__(self) -> Self:
        raise TypeError("a noted array has no elements yet")


def _library(recorder: Recorder) -> Any:
    """Of torch, the functions that are needed."""

    def arange(length: Any, *, device: Any = None) -> Noted:
        end = length if isinstance(length, Noted) else recorder.constant(length, "int")
        first, step = recorder.constant(0, "int"), recorder.constant(1, "int")
        return recorder.node("Range", first, end, step, ndim=1, kind="int")

    def stack(arrays: Sequence[Noted], axis: int = 0) -> Noted:
        parts = [array.unsqueeze(axis) for array in arrays]
        return recorder.node("Concat", *parts, ndim=parts[0].ndim, kind=arrays[0].kind, axis=axis)

    def pad(array: Noted, amounts: Sequence[Any]) -> Noted:
        """By zeros; before and after the last axis, then the one before it, as torch has it."""
        axes = len(amounts) // 2
        starts, ends = amounts[::2][::-1], amounts[1::2][::-1]
        counts = recorder.lengths([*([0] * (array.ndim - axes)), *starts, *([0] * (array.ndim - axes)), *ends])
        return recorder.node("Pad", array, counts, ndim=array.ndim)

    def conv2d(array: Noted, weight: Noted) -> Noted:
        return recorder.node("Conv", array, weight, ndim=4)

    def pixel_unshuffle(array: Noted, factor: int) -> Noted:
        n, c, height, width = array.shape
        parts = array.reshape(n, c, height // factor, factor, width // factor, factor)
        return parts.permute(0, 1, 3, 5, 2, 4).reshape(n, c * factor**2, height // factor, width // factor)

    def pixel_shuffle(array: Noted, factor: int) -> Noted:
        return recorder.node("DepthToSpace", array, ndim=4, blocksize=factor, mode="CRD")

    functional = SimpleNamespace(pad=pad, conv2d=conv2d)
    return SimpleNamespace(
        arange=arange,
        stack=stack,
        pixel_unshuffle=pixel_unshuffle,
        pixel_shuffle=pixel_shuffle,
        nn=SimpleNamespace(functional=functional),
    )
