"""Networks as parts of a graph: each is traced once, at sizes of its own, and stands wherever its sampler calls it.

A chain that is traced as a whole costs as many traces as it has steps, and torch's tracer takes longer for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from restonnx.onnx_export.freeze import Port, to_onnx
from restonnx.onnx_export.recorder import Noted, Recorder

Part = Callable[..., Any]
"""Noted arrays in; a noted array out, or a tuple of them."""


class Called(nn.Module):
    """What a part computes, beside the networks whose weights it needs, which keep their names."""

    def __init__(self, compute: Callable[..., Any], **networks: nn.Module | None) -> None:
        super().__init__()
        self.compute = compute
        for name, network in networks.items():
            self.add_module(name, network)

    def forward(self, *arrays: Tensor) -> Any:
        return self.compute(*arrays)


def part(
    recorder: Recorder,
    compute: Callable[..., Any],
    *shapes: tuple[int | str, ...],
    unit: int,
    multiple: int,
    outputs: int = 1,
    **networks: nn.Module | None,
) -> Part:
    """A function of tensors, traced, as one of noted arrays.

    shapes:   of the arrays, as in `freeze.Port`; (1,) is a number.  unit, multiple: as in `freeze.to_onnx`.
    networks: those of which `compute` makes use.
    """
    ports = tuple(Port(f"input_{n}", "image", shape) for n, shape in enumerate(shapes))
    names = tuple(f"output_{n}" for n in range(outputs))
    model = to_onnx(Called(compute, **networks).eval(), ports, unit=unit, multiple=multiple, outputs=names)

    def call(*arrays: Noted | float) -> Any:
        known = [a if isinstance(a, Noted) else recorder.constant([a], "float") for a in arrays]
        results = recorder.at.call(model, {port.name: a.name for port, a in zip(ports, known, strict=True)})
        found = tuple(recorder.value(name, 4) for name in results)
        return found if outputs > 1 else found[0]

    return call
