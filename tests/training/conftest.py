"""A recipe and photographs small enough to train on within a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason='training needs torch: pip install "restonnx[train]"')

RECIPE = """
name = "small"

[about]
title = "Small"
description = "For tests."
task = "denoise"
domain = "display_rgb"

[network]
widths = [16, 16]
down = [1, 1]
up = [1]

[sampler]
steps = 3
kappa = 0.1

[degradation]
kind = "denoise"
sigma = [20, 30]

[objective]
kind = "data_consistent"
gradient = "full"
loss_on = "end"

[training]
iterations = 12
batch = 4
patch = 16
warmup = 2
checkpoint_minutes = 0.0001
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of two smooth colour images."""
    from PIL import Image

    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(2):
        y, x = np.mgrid[:48, :64] / 64
        channels = [np.sin(3 * x + number), np.cos(5 * y), x * y]
        pixels = (127 + 100 * np.stack(channels, axis=-1)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder
