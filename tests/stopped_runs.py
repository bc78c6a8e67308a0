"""Training runs that are stopped again and again, for the tests of going on."""

from __future__ import annotations

from pathlib import Path

from restonnx.training import checkpoint as checkpoints
from restonnx.training.loop import train


def resumed(recipe: Path, photographs: Path, out: Path, overrides: tuple[str, ...]) -> Path:
    """The checkpoint of a run of 12 iterations that was stopped after each of them."""
    for _ in range(12):
        path = train(recipe, data=photographs, out=out, minutes=0.0, overrides=overrides, quiet=True)
    assert checkpoints.load(path).iteration == 12
    return path
