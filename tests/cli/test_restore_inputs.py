"""`restonnx restore` with models that take more than an image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_model import EXTRA, tiny_model
from typer.testing import CliRunner, Result

from restonnx.cli import app, extra_files
from restonnx.errors import InputError


def restore(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["restore", *map(str, arguments), "--device", "cpu"])


def model(folder: Path, *extra: str) -> Path:
    """Adds the reference, multiplies by the mask, then adds the noise level and the kernel's first value."""
    return tiny_model(folder, name="-".join(("model", *extra)).replace("_", "-"), extra=extra, blur=False, draws=0)


def saved(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, (40, 48, 3), dtype=np.uint8)


def test_every_further_input_reaches_the_model(tmp_path: Path, pixels: np.ndarray) -> None:
    image = saved(tmp_path / "a.png", pixels)
    missing = np.random.default_rng(1).random((40, 48)) < 0.5
    mask = saved(tmp_path / "mask.png", missing.astype(np.uint8) * 255)
    np.save(tmp_path / "kernel.npy", np.ones((1, 5)))
    options = ("--noise-level", 20, "--mask", mask, "--kernel", tmp_path / "kernel.npy", "--reference", image)
    result = restore(image, "-o", tmp_path / "b.png", "--model", model(tmp_path, *EXTRA), *options)
    assert result.exit_code == 0, result.output
    expected = np.clip(1.0 * pixels * ~missing[..., None] + 20 + 255 / 5 + pixels, 0, 255)
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / "b.png")).astype(float), expected, atol=1)


def test_the_noise_level_may_be_estimated(tmp_path: Path, pixels: np.ndarray) -> None:
    image = saved(tmp_path / "a.png", pixels)
    arguments = (image, "-o", tmp_path / "b.png", "--model", model(tmp_path, "noise_level"))
    assert restore(*arguments, "--noise-level", "estimate").exit_code == 0
    assert np.median(np.asarray(Image.open(tmp_path / "b.png")).astype(int) - pixels) > 20


@pytest.mark.parametrize("level", ["-1", "nan", "much", ""])
def test_what_is_no_noise_level_is_wrong_usage(tmp_path: Path, pixels: np.ndarray, level: str) -> None:
    image = saved(tmp_path / "a.png", pixels)
    options = ("--model", model(tmp_path, "noise_level"), f"--noise-level={level}")
    result = restore(image, "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_what_the_model_needs_is_said_once_for_many_images(tmp_path: Path, pixels: np.ndarray) -> None:
    images = [saved(tmp_path / f"{name}.png", pixels) for name in "abc"]
    result = restore(*images, "-o", tmp_path / "out", "--model", model(tmp_path, "noise_level"))
    assert result.exit_code == 1
    assert result.stderr.count("error: model-noise-level needs --noise-level (a number in the values of the image") == 1
    assert not (tmp_path / "out").exists()


def test_what_the_model_does_not_take_is_one_line(tmp_path: Path, tiny: Path, pixels: np.ndarray) -> None:
    image = saved(tmp_path / "a.png", pixels)
    result = restore(image, "-o", tmp_path / "out", "--model", tiny, "--mask", image)
    assert result.exit_code == 1
    assert result.stderr == "error: tiny takes no --mask; leave it out: it takes the image alone\n"


def test_a_mask_of_another_size_is_one_line_for_the_image_and_the_rest_is_done(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    images = [saved(tmp_path / "a.png", pixels), saved(tmp_path / "b.png", pixels[:30])]
    mask = saved(tmp_path / "mask.png", np.zeros((40, 48), np.uint8))
    result = restore(*images, "-o", tmp_path / "out", "--model", model(tmp_path, "mask"), "--mask", mask)
    assert result.exit_code == 1
    assert (tmp_path / "out" / "a.png").exists()
    assert "b.png: mask must have the shape (30, 48) for this image, not (40, 48)" in result.stderr
    assert re.search(r"the mask marks \d+\.\d% of the image", result.stderr)


def test_colours_of_a_mask_count_as_one_and_those_of_a_kernel_are_averaged(tmp_path: Path) -> None:
    colors = np.zeros((3, 5, 3), np.uint8)
    colors[0, 1, 2] = 30
    path = saved(tmp_path / "colors.png", colors)
    found = extra_files.read(path, path, None)
    assert found["mask"].sum() == 1
    assert found["mask"][0, 1]
    assert np.array_equal(found["kernel"], colors.mean(axis=-1))
    assert found["reference"] is None


def test_a_kernel_file_that_cannot_be_read_is_one_line_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "kernel.npy"
    with pytest.raises(InputError, match=r"kernel.npy cannot be read: No such file"):
        extra_files.read(None, path, None)
    path.write_text("1 2 3")
    with pytest.raises(InputError, match=r"kernel.npy is no array of numbers"):
        extra_files.read(None, path, None)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"kernel.npy is no array of numbers"):
        extra_files.read(None, path, None)


@pytest.mark.parametrize("planar", ["image", "reference", "both"])
@pytest.mark.parametrize("high", [40, 30])
def test_colours_that_are_stored_one_after_the_other_are_referred_to_as_others_are(
    monkeypatch: pytest.MonkeyPatch, pixels: np.ndarray, planar: str, high: int
) -> None:
    from restonnx import registration
    from restonnx.images import Picture

    def found(image: Any, reference: Any, **_: Any) -> Any:
        assert (image.shape, reference.shape) == (pixels.shape, (high, 48, 3))
        return np.full_like(image, 7), "found"

    monkeypatch.setattr(registration, "aligned", found)
    image, other = (
        Picture(np.moveaxis(values, -1, 0), "SYX") if planar in (name, "both") else Picture(values, "YXS")
        for name, values in (("image", pixels), ("reference", pixels[:high, :48]))
    )
    onto, said = extra_files.placed(other, image, 1, always=False, progress=lambda *_: None, cancel=None)
    assert onto.shape == image.pixels.shape
    assert np.array_equal(onto, image.pixels) if high == 40 else (onto == 7).all() and "registered" in said


def test_a_reference_of_another_size_is_registered_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: np.ndarray
) -> None:
    from restonnx import registration

    asked: list[Any] = []

    def found(image: Any, reference: Any, *, scale: int, progress: Any, cancel: Any) -> Any:
        asked.append((image.shape, reference.shape, scale))
        return np.zeros_like(image), registration.Registration(np.eye(3), 30, 0.25)

    monkeypatch.setattr(registration, "aligned", found)
    image, other = saved(tmp_path / "a.png", pixels), saved(tmp_path / "b.png", pixels[:30, :30])
    options = ("--model", model(tmp_path, "reference"), "--reference")
    result = restore(image, "-o", tmp_path / "x.png", *options, other)
    assert result.exit_code == 0, result.stderr
    assert "the reference was registered: 30 places agree to 0.25 pixels" in result.stderr
    assert restore(image, "-o", tmp_path / "y.png", *options, image).exit_code == 0
    assert asked == [(pixels.shape, pixels[:30, :30].shape, 1)]
    assert restore(image, "-o", tmp_path / "z.png", *options, image, "--register").exit_code == 0
    assert len(asked) == 2
    assert restore(image, "-o", tmp_path / "z.png", "--model", options[1], "--register").exit_code == 2
