"""Any module becomes one .onnx file: traced with open sizes, described, compared with torch before it is kept."""

from __future__ import annotations

import inspect
import itertools
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from restonnx.errors import ModelError
from restonnx.files import explained, replaced
from restonnx.model import METADATA_KEY, InputSpec, Metadata
from restonnx.onnx_export.splits import as_slices
from restonnx.onnx_export.stored import round_weights, store

if TYPE_CHECKING:
    import onnx

OPSET = 20
LIMIT = 1e-4
"""Largest difference from torch with which a graph is kept."""
Sizes = tuple[tuple[int, int, int], ...]
SIZES: Sizes = ((1, 1, 1), (2, 2, 3), (1, 4, 3))
"""N, and H and W in units, at which it is compared."""


@dataclass(frozen=True)
class Port:
    """One input of a graph.

    shape: a number where it is fixed, else a letter, also times or over a number ("H*4", "W/8"): "N", "H" and "W", or
    another one for an odd length of its own.
    default: of a noise level, as in the metadata.
    """

    name: str
    role: str
    shape: tuple[int | str, ...]
    default: str | int | None = None

    def spec(self) -> InputSpec:
        return InputSpec.model_validate({"name": self.name, "role": self.role, "default": self.default})

    def example(self, n: int, height: int, width: int, generator: torch.Generator, own: int = 5) -> Tensor:
        """A likely input at that size; lengths of its own are `own`."""
        known = {"N": n, "H": height, "W": width}
        shape = tuple(_length(axis, known, own) for axis in self.shape)
        if self.role == "noise":
            return torch.randn(shape, generator=generator)
        value = torch.rand(shape, generator=generator)
        if self.role == "mask":
            return (value > 0.3).float()
        if self.role == "kernel":
            return value / value.sum(dim=(-2, -1), keepdim=True)
        return 0.05 + 0.1 * value if self.role == "noise_level" else value


def freeze(
    module: nn.Module,
    ports: tuple[Port, ...],
    metadata: Metadata,
    out: str | Path,
    *,
    unit: int,
    precision: str = "float16",
    prefix: str = "network.",
    extra: Mapping[str, str] | None = None,
    sizes: Sizes = SIZES,
) -> tuple[float, ...]:
    """Write the module as the .onnx file `out`, and return its largest difference from torch at each of `sizes`.

    unit: sides are traced as whole multiples of it, and compared at a few; a multiple of `metadata.tile.multiple`.
    precision: how weights are stored, see `stored`.  extra: more metadata.
    prefix: taken off the initialisers' names, so that they are those of the network's state_dict.
    A module with a method `to_onnx(unit)` makes its graph itself.
    Raises ModelError, and writes nothing, where the graph and torch differ by more than `LIMIT`.
    """
    round_weights(module, precision)
    own = getattr(module, "to_onnx", None)
    model = own(unit) if own else to_onnx(module, ports, unit=unit, multiple=metadata.tile.multiple, prefix=prefix)
    store(model, precision)
    for key, text in {METADATA_KEY: metadata.to_json(), **(extra or {})}.items():
        model.metadata_props.add(key=key, value=text)
    content = model.SerializeToString()
    errors = compare(content, module, ports, unit, sizes)
    if not max(errors) <= LIMIT:
        raise ModelError(f"the graph differs from torch by {max(errors):.1e}, more than {LIMIT:.0e}: not written")
    write_whole(Path(out), content)
    return errors


def write_whole(path: Path, content: bytes) -> None:
    """The file is there with all of its content, or as it was."""
    with explained(path, "write"), replaced(path, overwrite=True) as temporary:
        temporary.write_bytes(content)


def to_onnx(
    module: nn.Module,
    ports: tuple[Port, ...],
    *,
    unit: int,
    multiple: int,
    prefix: str = "network.",
    outputs: tuple[str, ...] = ("restored",),
) -> onnx.ModelProto:
    """Trace the module with every length open that a port does not fix."""
    generator = torch.Generator().manual_seed(0)
    examples = {port.name: port.example(2, 4 * unit, 6 * unit, generator) for port in ports}
    letters = {_parsed(axis)[0] for port in ports for axis in port.shape if isinstance(axis, str)}
    roots = {letter: Dim(letter.lower()) for letter in letters}  # N and S are functions to the tracer's algebra
    shapes = [
        {i: _dimension(axis, roots, multiple) for i, axis in enumerate(port.shape) if isinstance(axis, str)}
        for port in ports
    ]
    with warnings.catch_warnings(), _quiet("torch.onnx"), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's own deprecations and its notes on shared dimensions
        program = torch.onnx.export(
            module,
            tuple(examples.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(examples),
            output_names=outputs,
            dynamic_shapes=_as_passed(module, shapes),
            optimize=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    as_slices(model)
    _name_dimensions(model, ports)
    _rename(model, prefix)
    _strip(model)
    return model


def compare(
    graph: bytes, module: nn.Module, ports: tuple[Port, ...], unit: int, sizes: Sizes = SIZES
) -> tuple[float, ...]:
    """Largest absolute difference between the graph in ONNX Runtime and the module in torch, at each of the sizes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    errors = []
    for own, (n, height, width) in zip(itertools.cycle((5, 9, 3)), sizes, strict=False):
        feeds = {port.name: port.example(n, height * unit, width * unit, generator, own) for port in ports}
        with torch.no_grad():
            expected = module(*feeds.values()).numpy()
        (found,) = session.run(None, {name: value.numpy() for name, value in feeds.items()})
        errors.append(float(np.abs(found - expected).max()))
    return tuple(errors)


_AXIS = re.compile(r"([A-Za-z]+)(?:([*/])(\d+))?")


def _as_passed(module: nn.Module, shapes: list[dict[int, Dim]]) -> tuple[Any, ...]:
    """What stands for `*others` in the module's signature as one tuple, as the tracer wants it."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    fixed = len(parameters) - 1
    if parameters[-1].kind is not inspect.Parameter.VAR_POSITIONAL or len(shapes) == fixed:
        return tuple(shapes)
    return (*shapes[:fixed], tuple(shapes[fixed:]))


def _length(axis: int | str, known: Mapping[str, int], own: int) -> int:
    if isinstance(axis, int):
        return axis
    letter, operation, factor = _parsed(axis)
    length = known.get(letter, own)
    return length * factor if operation == "*" else length // factor


def _dimension(axis: str, roots: Mapping[str, Dim], multiple: int) -> Dim:
    """The symbolic length of "N", "H*4", "W/8", a letter; H and W are whole multiples, so that H/8 is whole too."""
    letter, operation, factor = _parsed(axis)
    multiple = multiple if letter in ("H", "W") else 1
    count = multiple * factor if operation == "*" else multiple // factor
    return roots[letter] if count == 1 else count * roots[letter]


def _parsed(axis: str) -> tuple[str, str, int]:
    match = _AXIS.fullmatch(axis)
    if match is None:
        raise ValueError(f"{axis!r} is no length: write N, H*4, W/8 or a letter")
    return match[1], match[2] or "*", int(match[3] or 1)


def _name_dimensions(model: onnx.ModelProto, ports: tuple[Port, ...]) -> None:
    """Say N, H, W where the tracer wrote expressions such as 8*h."""
    shapes = {port.name: port.shape for port in ports} | {"restored": ("N", "C", "H_out", "W_out")}
    for value in (*model.graph.input, *(v for v in model.graph.output if v.name == "restored")):
        for dimension, axis in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            if dimension.HasField("dim_param"):
                dimension.dim_param = str(axis)


def _rename(model: onnx.ModelProto, prefix: str) -> None:
    names = {t.name: t.name.removeprefix(prefix) for t in model.graph.initializer if t.name.startswith(prefix)}
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)


def _strip(model: onnx.ModelProto) -> None:
    """Drop what the tracer notes about its own machine: source paths and stack traces, and shapes that ORT infers."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for field in ("metadata_props", "doc_string", "value_info"):
        graph.ClearField(field)
    model.ClearField("metadata_props")
    model.producer_name = "restonnx"


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
