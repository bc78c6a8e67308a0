"""`restonnx restore` on real files with a tiny model."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner, Result

import restonnx.images
from restonnx.cli import app
from restonnx.errors import InputError
from restonnx.restore import Restorer


def restore(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["restore", *map(str, arguments)])


def photograph(path: Path, size: int = 40, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size + 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).copy()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_one_image_goes_into_the_file_that_is_named(tmp_path: Path, tiny: Path) -> None:
    image = photograph(tmp_path / "a.png")
    result = restore(image, "-o", tmp_path / "b.png", "--model", tiny, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert pixels(tmp_path / "b.png").shape == pixels(image).shape
    assert digest(tmp_path / "b.png") != digest(image)


def test_many_images_go_into_a_folder_under_their_names(tmp_path: Path, tiny: Path) -> None:
    images = [photograph(tmp_path / name, seed=seed) for seed, name in enumerate(("a.png", "b.tif", "c.webp"))]
    result = restore(*images, "-o", tmp_path / "new" / "out", "--model", tiny, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert files_in(tmp_path / "new") == {"out/a.png", "out/b.tif", "out/c.webp"}


def test_a_folder_of_images_is_restored(tmp_path: Path, tiny: Path) -> None:
    photograph(tmp_path / "in" / "a.png")
    photograph(tmp_path / "in" / "deep" / "b.png")
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    arguments = (tmp_path / "in", "-o", tmp_path / "out", "--model", tiny, "--device", "cpu")
    assert restore(*arguments).exit_code == 0
    assert files_in(tmp_path / "out") == {"a.png"}
    assert restore(*arguments, "--recursive", "--overwrite").exit_code == 0
    assert files_in(tmp_path / "out") == {"a.png", "deep/b.png"}


def test_the_input_is_never_overwritten_even_with_overwrite(tmp_path: Path, tiny: Path) -> None:
    image = photograph(tmp_path / "a.png")
    before = digest(image)
    for output in (image, tmp_path, f"{tmp_path}/x/../a.png"):
        result = restore(image, "-o", output, "--model", tiny, "--device", "cpu", "--overwrite")
        assert result.exit_code == 1
        assert "never overwritten" in result.stderr
        assert digest(image) == before


def test_an_output_that_exists_is_kept_without_overwrite(tmp_path: Path, tiny: Path) -> None:
    image = photograph(tmp_path / "a.png")
    output = photograph(tmp_path / "b.png", seed=1)
    before = digest(output)
    assert restore(image, "-o", output, "--model", tiny, "--device", "cpu").exit_code == 1
    assert digest(output) == before
    assert restore(image, "-o", output, "--model", tiny, "--device", "cpu", "--overwrite").exit_code == 0
    assert digest(output) != before


def test_a_bad_file_in_the_middle_is_one_line_and_the_rest_is_done(tmp_path: Path, tiny: Path) -> None:
    images = [photograph(tmp_path / f"{name}.png") for name in "abc"]
    images[1].write_bytes(images[1].read_bytes()[:300])
    result = restore(*images, "-o", tmp_path / "out", "--model", tiny, "--device", "cpu")
    assert result.exit_code == 1
    assert files_in(tmp_path / "out") == {"a.png", "c.png"}
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "b.png" in errors[0]
    assert "2 restored, 1 failed" in result.stderr
    assert "Traceback" not in result.output


def test_a_file_that_may_not_be_read_does_not_end_the_others(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [photograph(tmp_path / f"{name}.png") for name in "ab"]
    read = restonnx.images.read

    def refuse(path: Path) -> restonnx.images.Picture:
        if path == images[0]:
            raise InputError(f"{path} may not be read")
        return read(path)

    # What the command line's parser asks, and what happens later: the one as root, for whom every file is readable.
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, *how, **more: Path(os.fsdecode(path)) != images[0] and access(path, *how, **more)
    )
    monkeypatch.setattr(restonnx.images, "read", refuse)
    result = restore(*images, "-o", tmp_path / "out", "--model", tiny, "--device", "cpu")
    assert result.exit_code == 1
    assert files_in(tmp_path / "out") == {"b.png"}
    assert "a.png may not be read" in result.stderr


def test_a_format_that_holds_no_stack_is_refused_before_anything_is_computed(
    tmp_path: Path, tiny_gray: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 30, 40), np.uint8), imagej=True)
    monkeypatch.setattr(Restorer, "__call__", None)
    result = restore(tmp_path / "a.tif", "-o", tmp_path / "b.png", "--model", tiny_gray, "--device", "cpu")
    assert result.exit_code == 1
    assert "this is a stack of 4 planes; write .tif instead" in result.stderr


def test_a_text_file_with_an_image_suffix_is_one_line(tmp_path: Path, tiny: Path) -> None:
    fake = tmp_path / "a.png"
    fake.write_text("not an image")
    result = restore(fake, "-o", tmp_path / "out", "--model", tiny, "--device", "cpu")
    assert result.exit_code == 1
    assert "a.png" in result.stderr
    assert files_in(tmp_path / "out") == set()


def test_a_missing_file_is_one_line_and_exit_code_1(tmp_path: Path, tiny: Path) -> None:
    result = restore(tmp_path / "none.png", "-o", tmp_path / "out", "--model", tiny)
    assert result.exit_code == 1
    assert result.stderr == f"error: {tmp_path / 'none.png'}: no such file or folder\n"
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, tiny: Path) -> None:
    image = photograph(tmp_path / "a.png")
    result = restore(image, "-o", image / "out", "--model", tiny, "--device", "cpu")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: cannot make the folder")
    assert len(result.stderr.splitlines()) == 1


def test_an_unknown_model_is_one_line(tmp_path: Path) -> None:
    result = restore(photograph(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", "nonsense")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "nonsense" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_unknown_device_is_one_line(tmp_path: Path, tiny: Path) -> None:
    result = restore(photograph(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", tiny, "--device", "tpu")
    assert result.exit_code == 1
    assert "tpu" in result.stderr


@pytest.mark.parametrize(
    "options",
    [("--std",), ("--std", "--samples", 1), ("--strength", 2), ("--samples", 0), ("--seed", -1), ("--what",)],
)
def test_wrong_usage_has_exit_code_2_and_restores_nothing(
    tmp_path: Path, tiny: Path, options: tuple[object, ...]
) -> None:
    result = restore(photograph(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", tiny, *options)
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_std_writes_the_deviation_beside_the_image_as_float32(tmp_path: Path, tiny: Path) -> None:
    image = photograph(tmp_path / "a.png")
    result = restore(image, "-o", tmp_path / "out", "--model", tiny, "--device", "cpu", "--std", "--samples", 3)
    assert result.exit_code == 0, result.output
    assert files_in(tmp_path / "out") == {"a.png", "a_std.tif"}
    std = tifffile.imread(tmp_path / "out" / "a_std.tif")
    assert std.dtype == np.float32
    assert std.shape == pixels(image).shape
    assert std.mean() > 0


def test_the_seed_alone_decides_the_result(tmp_path: Path, tiny: Path) -> None:
    image = photograph(tmp_path / "a.png", size=100)
    options = ("--model", tiny, "--device", "cpu")
    restore(image, "-o", tmp_path / "one.png", *options, "--seed", 5)
    restore(image, "-o", tmp_path / "two.png", *options, "--seed", 5, "--tile", 48)
    restore(image, "-o", tmp_path / "other.png", *options, "--seed", 6)
    one, two, other = (pixels(tmp_path / f"{n}.png").astype(int) for n in ("one", "two", "other"))
    assert np.abs(one - two).max() <= 1  # rounding to 8 bits
    assert np.abs(one - other).max() > 1


def test_strength_0_gives_the_pixels_back(tmp_path: Path, tiny: Path) -> None:
    image = photograph(tmp_path / "a.png")
    result = restore(image, "-o", tmp_path / "b.png", "--model", tiny, "--device", "cpu", "--strength", 0)
    assert result.exit_code == 0, result.output
    assert np.array_equal(pixels(image), pixels(tmp_path / "b.png"))


def test_a_stack_in_a_plain_tiff_takes_its_axes_from_the_command_line(tmp_path: Path, tiny_gray: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 4000, (4, 30, 36), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    options = ("--model", tiny_gray, "--device", "cpu", "--axes", "TYX")
    result = restore(tmp_path / "a.tif", "-o", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    restored = tifffile.imread(tmp_path / "out" / "a.tif")
    assert restored.shape == stack.shape
    assert restored.dtype == stack.dtype


def test_wrong_axes_are_one_line_that_names_the_file(tmp_path: Path, tiny: Path) -> None:
    options = ("--model", tiny, "--device", "cpu", "--axes", "QQ")
    result = restore(photograph(tmp_path / "a.png"), "-o", tmp_path / "out", *options)
    assert result.exit_code == 1
    assert "a.png" in result.stderr


def test_the_provider_that_runs_is_named_once(tmp_path: Path, tiny: Path) -> None:
    images = [photograph(tmp_path / f"{name}.png") for name in "ab"]
    result = restore(*images, "-o", tmp_path / "out", "--model", tiny, "--device", "cpu")
    assert result.stderr.count("CPUExecutionProvider") == 1


def test_a_model_that_gives_nan_is_reported_and_writes_nothing(tmp_path: Path) -> None:
    from tiny_model import tiny_model

    broken = tiny_model(tmp_path / "broken.onnx", name="broken", fail="nan")
    image = photograph(tmp_path / "in" / "a.png")
    result = restore(image, "-o", tmp_path / "out", "--model", broken, "--device", "cpu")
    assert result.exit_code == 1
    assert files_in(tmp_path / "out") == set()
    assert "finite" in result.stderr
