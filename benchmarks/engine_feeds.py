"""What all engines of engines.py need: restonnx itself, the values that they are fed with, the weights in torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Feeds = dict[str, Any]
Run = Callable[[], Any]


def feeds(model: Path, side: int) -> Feeds:
    """The same values for every engine: an image in the model's range, noise, a noise level."""
    from restonnx import load_model

    meta, rng = load_model(model).metadata, np.random.default_rng(0)
    low, high = meta.range
    given = {"image": low + np.float32(high - low) * rng.random((1, meta.channels, side, side), np.float32)}
    for spec in meta.inputs:
        if spec.role == "noise":
            drawn = side * meta.scale // meta.sampler.noise_stride
            shape = (1, meta.sampler.draws, meta.noise_channels, drawn, drawn)
            given[spec.name] = rng.standard_normal(shape, np.float32)
        elif spec.role == "noise_level":
            given[spec.name] = np.full((1, 1, 1, 1), 0.1 * (high - low), np.float32)
        elif spec.role != "image":
            raise SystemExit(f"{meta.name} takes {spec.role}, which this benchmark does not make up")
    return given


def whole(model: Path, side: int, threads: int, device: str = "cpu") -> Run:
    """The unrolled graph as restonnx runs it."""
    from restonnx import load_model
    from restonnx.session import Session

    session, given = Session(load_model(model), device=device, threads=threads), feeds(model, side)
    return lambda: session.run(given)


def with_tiles(model: Path, side: int, threads: int, device: str = "cpu") -> Run:
    """All of restonnx behind an image in the graph's values: tiles with halos, two at once where it pays."""
    from restonnx.restore import Restorer

    restorer, given = Restorer(model, device=device, threads=threads), feeds(model, side)
    image, _ = given.pop("image"), given.pop("noise", None)
    return lambda: restorer.run(image, given)


def module(model: Path) -> Any:
    """The checkpoint inside the model as the module that its graph was traced from."""
    from restonnx import load_model
    from restonnx.onnx_export.export import unrolled
    from restonnx.training import checkpoint as checkpoints

    steps = load_model(model).metadata.sampler.steps
    return unrolled(checkpoints.load(model).settled(), steps)


def on_host(value: Any) -> np.ndarray:
    """A result of any engine as an array."""
    if hasattr(value, "cpu"):  # torch's
        value = value.float().cpu()
    return value.numpy() if hasattr(value, "numpy") else np.asarray(value)
