"""Measuring denoisers on a folder: what cannot be measured is refused before time is spent on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_model import tiny_model

pytest.importorskip("torch", reason='training needs torch: pip install "restonnx[train]"')

from restonnx.errors import InputError
from restonnx.training.evaluate import evaluate


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)).save(folder / "a.png")
    return folder


def test_the_scores_of_a_model_are_returned_and_written(tiny: Path, images: Path, tmp_path: Path) -> None:
    scores = evaluate([tiny], data=images, sigma=[0, 25], json=tmp_path / "a.json")
    assert [score.sigma for score in scores] == [0, 25]
    written = json.loads((tmp_path / "a.json").read_text())["scores"]
    assert [score["psnr"] for score in written] == [score.psnr for score in scores]


@pytest.mark.parametrize(("sigma", "message"), [(-5, "at least 0, not -5"), (float("nan"), "at least 0, not nan")])
def test_a_level_that_cannot_be_is_refused(tiny: Path, images: Path, sigma: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate([tiny], data=images, sigma=[sigma])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"scale": 2}, "makes images 2 times as large"), ({"extra": ("mask",)}, "needs a mask, and is not measured")],
)
def test_a_model_of_another_task_is_refused(images: Path, tmp_path: Path, options: dict, message: str) -> None:
    other = tiny_model(tmp_path / "other.onnx", **options)
    with pytest.raises(InputError, match=message):
        evaluate([other], data=images)


def test_folders_without_what_can_be_measured_are_refused(tiny: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        evaluate([tiny], data=tmp_path / "nowhere")
    Image.fromarray(np.zeros((10, 40, 3), np.uint8)).save(images / "b.png")
    with pytest.raises(InputError, match=r"b\.png is smaller than 11 x 11"):
        evaluate([tiny], data=images, sigma=[25])
