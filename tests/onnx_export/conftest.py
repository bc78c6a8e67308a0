"""A small chain with random weights, and a photograph: for models in integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

CONTENT = {
    "name": "small",
    "about": {"title": "Small", "description": "For tests.", "task": "denoise", "domain": "display_rgb"},
    "network": {"widths": [8, 16], "down": [1, 1], "up": [1]},
    "sampler": {"steps": 2, "kappa": 0.05},
    "degradation": {"kind": "denoise"},
    "objective": {"kind": "data_consistent"},
    "training": {"iterations": 1, "batch": 1, "patch": 32},
}


@pytest.fixture(scope="package")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image
    from skimage import data

    folder = tmp_path_factory.mktemp("photographs")
    Image.fromarray(data.astronaut()[:256, :256]).save(folder / "one.png")
    return folder


@pytest.fixture(scope="package")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float model, with random weights in every place."""
    return _model(CONTENT, 0.1, tmp_path_factory.mktemp("int8"))


@pytest.fixture(scope="package")
def shallow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of a single step and level: little stands between two roundings of a value."""
    change = {"network": {"widths": [8], "down": [1], "up": []}, "sampler": {"steps": 1, "kappa": 0.05}}
    return _model(CONTENT | change, 0.05, tmp_path_factory.mktemp("shallow"))


def _model(content: dict[str, Any], spread: float, folder: Path) -> Path:
    import torch

    from restonnx.onnx_export import export
    from restonnx.training import checkpoint as checkpoints
    from restonnx.training.recipe import parse

    recipe, generator = parse(content), torch.Generator().manual_seed(0)
    network = recipe.network.build(recipe.sampler.steps)
    for parameter in network.parameters():
        parameter.data = spread * torch.randn(parameter.shape, generator=generator)
    path = folder / "small.safetensors"
    checkpoints.save(path, checkpoints.Checkpoint(recipe, network.state_dict(), {}, {}, 1, 1.0))
    with pytest.MonkeyPatch.context() as patch:  # the halo is measured elsewhere
        patch.setattr(export, "sufficient_halo", lambda *_: 8)
        patch.setattr(export, "receptive_radius", lambda *_: 32)
        return export.export_checkpoint(path, path.with_suffix(".onnx")).path
