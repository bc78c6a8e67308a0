"""A model whose convolutions compute in integers of 8 bits, calibrated, and where wished tuned, on images that are
damaged as in training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from restonnx.errors import InputError
from restonnx.model import METADATA_KEY, Metadata, TileSpec, read
from restonnx.onnx_export import tuning
from restonnx.onnx_export.export import LEAST_TILE, Export, export_checkpoint
from restonnx.onnx_export.freeze import write_whole
from restonnx.onnx_export.precision import TUNED, Feeds, fold, keep_layout, quantise
from restonnx.onnx_export.tuning import Report, RoundedGraph
from restonnx.training import checkpoint as checkpoints
from restonnx.training.data import Crops, load_clean
from restonnx.training.recipe import Recipe

if TYPE_CHECKING:
    import onnx

Damaged = tuple[Tensor, dict[str, Tensor]]

IMAGES, SIDE = 24, 192
"""How many crops are looked at, and their side in pixels. Twelve and fewer cost hundredths of a decibel."""
LARGER = 7 / 6
"""Sides of tiles by those of the float model: integers take a seventh less memory, and the halo is wider."""


def export_int8(
    checkpoint: str | Path,
    out: str | Path,
    *,
    calibrate: str | Path,
    steps: int | None = None,
    order: str | None = None,
    name: str | None = None,
    images: int = IMAGES,
    tune: int = 0,
    report: Report | None = None,
) -> Export:
    """Write a checkpoint, or a model's .onnx file, with convolutions of 8 bits; see `precision.quantise`.

    calibrate: a folder of clean photographs, best of those that it was trained on. They are damaged as the recipe says.
    steps, order: as in `export_checkpoint`.  name: by default the model's with "-int8" behind it.
    tune: for how many iterations weights and ranges learn to live with the rounding (`tuning`). Sums are integers then,
    too.  report: as in `tuning.tune`.
    The errors of what comes back are the differences from the float graph on the first three crops.
    Raises InputError for a model that takes more than the image and noise.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(checkpoint)
        if source.suffix != ".onnx" or steps is not None or order is not None:
            source = export_checkpoint(
                source, Path(folder) / "float.onnx", steps=steps, order=order, precision="float32"
            ).path
        given, content = read(source).metadata, source.read_bytes()
        if others := [spec.role for spec in given.inputs if spec.role not in ("image", "noise", "reference")]:
            raise InputError(f"int8 is for models that take images alone; {given.name} takes {', '.join(others)} too")
        recipe = checkpoints.load(source).recipe
    feeds = calibration(recipe, given, Path(calibrate), images)
    plain = fold(content)
    if tune:
        model = _tuned(plain, feeds, _batches(recipe, given, Path(calibrate)), tune, report)
    else:
        model = quantise(plain, feeds)
    changed = {
        "name": name or f"{given.name}-int8",
        "title": f"{given.title}, in integers",
        "description": f"{given.description.rstrip('.')}; in integers of 8 bits, for processors that are fast at them.",
        "precision": "int8",
        "tile": _tiles(given.tile),
        "measured": {},
    }
    metadata = given.model_copy(update=changed)
    # The recipe stays behind: a file without its weights by name is no checkpoint.
    del model.metadata_props[:]
    model.metadata_props.add(key=METADATA_KEY, value=Metadata.model_validate(metadata.model_dump()).to_json())
    model.producer_name = "restonnx"
    rounded = model.SerializeToString()
    write_whole(Path(out), rounded)
    return Export(Path(out), metadata, tuple(_difference(content, rounded, feed) for feed in feeds[:3]))


def _tiles(given: TileSpec) -> TileSpec:
    """With the exact halo. A smaller one changes floats too little to be seen, but integers by whole steps wherever a
    value lies between two: tiles would differ from the whole by as much as integers differ from floats."""
    if given.mode != "halo":
        return given
    preferred = max(round(LARGER * given.preferred), LEAST_TILE * given.halo_exact)
    return given.model_copy(update={"halo": given.halo_exact, "preferred": preferred})


def _tuned(
    plain: onnx.ModelProto, feeds: list[Feeds], batches: Iterable[Damaged], iterations: int, report: Report | None
) -> onnx.ModelProto:
    """The graph in integers, its weights and ranges tuned."""
    keep_layout(plain)
    graph = RoundedGraph(plain, quantise(plain, feeds, rounding=TUNED))
    tuning.tune(graph, batches, iterations, report)
    ranges = graph.write_to(plain)
    return quantise(plain, feeds[:1], rounding=TUNED, ranges=ranges)


def calibration(recipe: Recipe, metadata: Metadata, folder: Path, images: int) -> list[Feeds]:
    """Inputs of the graph: crops of the folder's photographs damaged as in training, and noise; always the same."""
    crops = Crops(load_clean(folder, channels=recipe.image_channels, smallest=SIDE), SIDE, seed=0)
    generator = torch.Generator().manual_seed(0)
    batches = (_damaged(recipe, metadata, crops.batch(number, 1), generator) for number in range(images))
    return [{name: value.numpy() for name, value in feed.items()} for _, feed in batches]


def _batches(recipe: Recipe, metadata: Metadata, folder: Path) -> Iterator[Damaged]:
    """What tuning sees: batches as large as those of training, one after the other; always the same."""
    size = recipe.training.patch
    crops = Crops(load_clean(folder, channels=recipe.image_channels, smallest=size), size, seed=1)
    generator = torch.Generator().manual_seed(1)
    for number in count():
        yield _damaged(recipe, metadata, crops.batch(number, recipe.training.batch), generator)


def _damaged(recipe: Recipe, metadata: Metadata, clean: Tensor, generator: torch.Generator) -> Damaged:
    """Clean images, and what the graph is fed with where they are damaged as the recipe says, and noise, all in the
    graph's values."""
    (low, high), sampler = metadata.range, metadata.sampler
    clean, *given = (low + (high - low) * images for images in recipe.degradation.degrade(clean, generator))
    names = ["image", *(spec.name for spec in metadata.inputs if spec.role == "reference")]
    feed = dict(zip(names, given, strict=True))
    if sampler.draws:
        window = metadata.noise_window(*(slice(0, side) for side in given[0].shape[2:]))
        sides = [part.stop for part in window]
        feed["noise"] = torch.randn(len(clean), sampler.draws, metadata.noise_channels, *sides, generator=generator)
    return clean, feed


def _difference(whole: bytes, rounded: bytes, feeds: Feeds) -> float:
    """Largest absolute difference between the two graphs."""
    import onnxruntime

    results = []
    for content in (whole, rounded):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        results.append(session.run(["restored"], dict(feeds))[0])
    return float(np.abs(results[0] - results[1]).max())
