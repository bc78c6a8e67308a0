"""The errors of several chains in one picture, as the paper shows its tasks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason='training needs torch: pip install "restonnx[train]"')

from PIL import Image

from restonnx.errors import ModelError
from restonnx.training import checkpoint as checkpoints
from restonnx.training.error_curves import StepError, compare, draw, error_curves
from restonnx.training.recipe import load

STEP = StepError(0, 1e-3, 2e-3, 30.0, 27.0)


@pytest.fixture
def chain(recipe: Path, tmp_path: Path) -> Path:
    parsed = load(recipe)
    path = tmp_path / "checkpoint.safetensors"
    checkpoints.save(path, checkpoints.Checkpoint(parsed, parsed.build().state_dict(), {}, {}, 1, 1.0))
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        Image.effect_noise((200, 200), 40 + number).convert("RGB").save(folder / f"{number}.png")
    return folder


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"))


def test_several_chains_are_measured_and_drawn_by_one_call(chain: Path, images: Path, tmp_path: Path) -> None:
    picture, numbers = tmp_path / "curves.png", tmp_path / "curves.json"
    found = compare([chain, chain], data=images, output=picture, json=numbers, limit=2)
    assert [curves.images for curves in found] == [2, 2]  # every second
    assert found[0] == found[1]
    assert [step.t for step in found[0].steps] == [2, 1, 0]
    report = json.loads(numbers.read_text())
    assert [model["name"] for model in report["models"]] == ["small", "small"]
    assert report["models"][0]["steps"][0]["t"] == 2
    assert pixels(picture).shape == (600, 900)


def test_a_chain_can_be_named_as_in_the_library(images: Path) -> None:
    with pytest.raises(ModelError, match="did you mean denoise"):
        error_curves("denoize", data=images)


def test_every_task_has_a_panel_of_its_own(tmp_path: Path) -> None:
    one, five = tmp_path / "one.png", tmp_path / "five.png"
    draw({"denoise": {"a": [STEP], "b": [STEP, STEP]}}, one)
    draw({f"task {n}": {"a": [STEP, STEP]} for n in range(5)}, five)
    assert pixels(one).shape == (600, 900)
    assert pixels(five).shape == (960, 1620)  # two rows of three, the last place empty
    assert (pixels(five)[520:, 1130:] == 255).all()
