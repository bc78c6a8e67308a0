"""A checkpoint becomes one .onnx file: unrolled, described, and compared with torch before it is kept."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from restonnx.errors import InputError, ModelError
from restonnx.model import METADATA_KEY, InputSpec, Metadata, SamplerSpec, TileSpec, read
from restonnx.onnx_export.halo import receptive_radius, sufficient_halo
from restonnx.onnx_export.precision import round_to_half, store_as_half
from restonnx.onnx_export.unroll import Unrolled
from restonnx.training import checkpoint as checkpoints
from restonnx.training.checkpoint import RECIPE_KEY, Checkpoint

if TYPE_CHECKING:
    import onnx

OPSET = 20
LIMIT = 1e-4
"""Largest difference from torch with which a graph is kept."""
SIZES = ((1, 64, 64), (2, 96, 128), (1, 256, 192))
"""N, H, W at which it is compared, as multiples of 64 because every backbone divides them."""
PREFERRED_TILE = 1280


@dataclass(frozen=True)
class Export:
    """What was written."""

    path: Path
    metadata: Metadata
    errors: tuple[float, ...]
    """Largest absolute difference between ONNX Runtime and torch at each of `SIZES`."""


def export_checkpoint(
    checkpoint: str | Path,
    out: str | Path,
    *,
    steps: int | None = None,
    name: str | None = None,
    precision: str = "float16",
    measured: dict[str, float] | None = None,
) -> Export:
    """Write checkpoint (.safetensors or .onnx) as an unrolled .onnx file.

    steps: cut the chain after so many steps, for a faster model.  name: the model's name; the recipe's by default.
    precision: how weights are stored, "float16" or "float32"; the arithmetic is float32 either way.
    Raises ModelError, and writes nothing, where the graph and torch differ by more than `LIMIT`.
    """
    saved = checkpoints.load(checkpoint)
    sampler = saved.recipe.sampler
    if Path(checkpoint).suffix == ".onnx":  # one that was cut stays so
        given = read(checkpoint).metadata
        steps, name = steps or given.sampler.steps, name or given.name
    if steps is not None and not 1 <= steps <= sampler.steps:
        raise InputError(f"the chain has {sampler.steps} steps, so steps must lie in 1..{sampler.steps}, not {steps}")
    if precision not in ("float16", "float32"):
        raise InputError(f"precision must be float16 or float32, not {precision!r}")
    module = Unrolled(
        saved.build(),
        sampler.schedule(),
        sampler.reading(),
        last=sampler.steps - (steps or sampler.steps),
    ).eval()
    if precision == "float16":
        round_to_half(module)
    metadata = describe(saved, module, name=name, measured=measured or {})
    model = to_onnx(module, metadata.channels)
    if precision == "float16":
        store_as_half(model)
    for key, text in (
        (METADATA_KEY, metadata.to_json()),
        (RECIPE_KEY, saved.recipe.model_dump_json(by_alias=True)),
    ):
        model.metadata_props.add(key=key, value=text)
    errors = compare(model.SerializeToString(), module, metadata.channels)
    if max(errors) > LIMIT:
        raise ModelError(f"the graph differs from torch by {max(errors):.1e}, more than {LIMIT:.0e}: not written")
    out = Path(out)
    temporary = out.with_name(out.name + ".part")
    try:
        temporary.write_bytes(model.SerializeToString())
        os.replace(temporary, out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return Export(out, metadata, errors)


def describe(saved: Checkpoint, module: Unrolled, *, name: str | None, measured: dict[str, float]) -> Metadata:
    """The metadata of an unrolled checkpoint, with its measured halo."""
    recipe, about = saved.recipe, saved.recipe.about
    multiple = module.network.multiple
    exact = receptive_radius(module, recipe.network.channels, multiple)
    halo = sufficient_halo(module, _damaged_photographs(saved), multiple, exact)
    return Metadata(
        schema_=1,
        name=name or recipe.name,
        title=about.title,
        version=about.version,
        task=about.task,
        description=about.description,
        sampler=SamplerSpec(
            family=recipe.sampler.family,
            steps=module.draws,
            draws=module.draws,
            kappa=recipe.sampler.kappa,
            options=recipe.sampler.model_dump(exclude={"family", "kappa"}) | {"last": module.last},
        ),
        domain=about.domain,
        channels=recipe.network.channels,
        range=(0.0, 1.0),
        scale=1,
        inputs=(InputSpec(name="image", role="image"), InputSpec(name="noise", role="noise")),
        tile=TileSpec(mode="halo", multiple=multiple, halo=halo, halo_exact=exact, preferred=PREFERRED_TILE),
        precision="float32",
        licence=about.licence,
        authors=about.authors,
        training_data=about.training_data,
        recipe=recipe.name,
        recipe_hash=recipe.hash(),
        network=recipe.network.model_dump(mode="json"),
        measured=measured,
        parent=saved.parent,
    )


def to_onnx(module: Unrolled, channels: int) -> onnx.ModelProto:
    """Trace the module with dynamic N, H and W; the network's initialisers keep the state_dict's names."""
    batch, height, width = torch.export.Dim("N"), torch.export.Dim("h"), torch.export.Dim("w")
    side = module.network.multiple
    image = torch.zeros(2, channels, 4 * side, 6 * side)
    noise = torch.zeros(2, module.draws, *image.shape[1:])
    with warnings.catch_warnings(), _quiet("torch.onnx"):
        warnings.simplefilter("ignore")  # the tracer's own deprecations and its notes on shared dimensions
        program = torch.onnx.export(
            module,
            (image, noise),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image", "noise"],
            output_names=["restored"],
            dynamic_shapes={
                "image": {0: batch, 2: side * height, 3: side * width},
                "noise": {0: batch, 3: side * height, 4: side * width},
            },
            optimize=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _name_dimensions(model)
    _rename(model, "network.")
    _strip(model)
    return model


def compare(graph: bytes, module: Unrolled, channels: int) -> tuple[float, ...]:
    """Largest absolute difference between the graph in ONNX Runtime and the module in torch, at each of `SIZES`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    errors = []
    for n, height, width in SIZES:
        image = torch.rand(n, channels, height, width, generator=generator)
        noise = torch.randn(n, module.draws, channels, height, width, generator=generator)
        with torch.no_grad():
            expected = module(image, noise).numpy()
        (found,) = session.run(None, {"image": image.numpy(), "noise": noise.numpy()})
        errors.append(float(np.abs(found - expected).max()))
    return tuple(errors)


def _damaged_photographs(saved: Checkpoint) -> NDArray[np.float32]:
    """(3, C, 512, 512): a photograph that comes with scikit-image, damaged as in training."""
    from skimage import data

    photograph = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    if saved.recipe.network.channels == 1:
        photograph = photograph.mean(dim=0, keepdim=True)
    clean = photograph.expand(3, -1, -1, -1).clone()
    _, degraded = saved.recipe.degradation.degrade(clean, torch.Generator().manual_seed(0))
    return degraded.numpy()


def _name_dimensions(model: onnx.ModelProto) -> None:
    """Say N, H, W where the tracer wrote expressions such as 8*h."""
    for value, names in (
        *((v, "NCHW" if v.name == "image" else "NKCHW") for v in model.graph.input),
        (model.graph.output[0], "NCHW"),
    ):
        for dimension, letter in zip(value.type.tensor_type.shape.dim, names, strict=True):
            if dimension.HasField("dim_param"):
                dimension.dim_param = letter


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


def _rename(model: onnx.ModelProto, prefix: str) -> None:
    names = {t.name: t.name.removeprefix(prefix) for t in model.graph.initializer if t.name.startswith(prefix)}
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
