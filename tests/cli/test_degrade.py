"""`restonnx degrade`: files in, degraded files out, or a set of pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner, Result

pytest.importorskip("torch", reason='degrading needs torch: pip install "restonnx[train]"')

from restonnx import images
from restonnx.cli import app
from restonnx.training.pairs import load_pairs


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    y, x = np.mgrid[:50, :71] / 40
    pixels = (127 + 100 * np.stack([np.sin(3 * x), np.cos(2 * y), x * y - 1], axis=-1)).clip(0, 255).astype(np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    return tmp_path / "in" / "a.png"


def degrade(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["degrade", *map(str, arguments)])


def pixels(path: Path) -> np.ndarray:
    return np.asarray(images.read(path).pixels)


def test_the_same_seed_gives_the_same_file_and_another_seed_another(photograph: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        result = degrade("dehaze", photograph, "-o", tmp_path / f"{name}.png", "--seed", seed)
        assert result.exit_code == 0, result.output
    a, b, c = (pixels(tmp_path / f"{name}.png") for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert a.shape == (50, 71, 3)


def test_sixteen_bits_stay_sixteen(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 65536, (40, 44), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image)
    result = degrade("micrograph", tmp_path / "a.tif", "-o", tmp_path / "b.tif", "--set", "photons=[1e6,1e6]")
    assert result.exit_code == 0, result.output
    found = pixels(tmp_path / "b.tif")
    assert found.dtype == np.uint16
    assert found.shape == (40, 44)
    assert len(np.unique(found)) > 600


def test_one_number_stands_for_both_ends_of_a_range(photograph: Path, tmp_path: Path) -> None:
    for name, noise in (("a.png", "0.03"), ("b.png", "[0.03,0.03]")):
        assert degrade("dehaze", photograph, "-o", tmp_path / name, "--set", f"noise={noise}").exit_code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_setting_that_does_nothing_leaves_the_image(photograph: Path, tmp_path: Path) -> None:
    settings = ("--set", "transmission=[1,1]", "--set", "noise=[0,0]")
    assert degrade("dehaze", photograph, "-o", tmp_path / "b.png", *settings).exit_code == 0
    assert np.array_equal(pixels(tmp_path / "b.png"), pixels(photograph))


def test_a_reference_is_written_beside_the_image_and_shows_its_middle(photograph: Path, tmp_path: Path) -> None:
    result = degrade("dual-camera-x2", photograph, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert pixels(tmp_path / "out" / "a.png").shape == (25, 35, 3)
    reference = pixels(tmp_path / "out" / "a_reference.png")
    assert reference.shape == (50, 70, 3)
    assert not reference[:10].any()
    assert reference[20:30, 25:45].any()


def test_a_mask_is_written_without_loss_whatever_the_images_format(photograph: Path, tmp_path: Path) -> None:
    words = ("--set", "pixels_share=0", "--set", "boxes_share=1", "--set", "noise=[0,0]")
    assert degrade("missing", photograph, "-o", tmp_path / "b.jpg", *words).exit_code == 0
    mask = pixels(tmp_path / "b_mask.png")
    assert set(np.unique(mask)) == {0, 255}
    lost = np.abs(pixels(tmp_path / "b.jpg").astype(int) - 128).max(axis=2)
    assert np.median(lost[mask == 255]) <= 2
    assert degrade("shadow", photograph, "-o", tmp_path / "set", "--pairs").exit_code == 0
    assert load_pairs(tmp_path / "set", channels=3, size=16, seed=0, guide="mask").images[0][2].shape == (50, 71, 1)


def test_pairs_are_what_training_takes(photograph: Path, tmp_path: Path) -> None:
    result = degrade("super-resolution-x2", photograph.parent, "-o", tmp_path / "set", "--pairs")
    assert result.exit_code == 0, result.output
    pairs = load_pairs(tmp_path / "set", channels=3, size=16, seed=0, scale=2)
    assert [part.shape for part in pairs.images[0]] == [(50, 70, 3), (25, 35, 3)]
    assert np.array_equal(pairs.images[0][0], pixels(photograph)[:, :70])


def test_pairs_of_two_cameras_have_their_references(photograph: Path, tmp_path: Path) -> None:
    assert degrade("dual-camera-x2", photograph, "-o", tmp_path / "set", "--pairs").exit_code == 0
    pairs = load_pairs(tmp_path / "set", channels=3, size=16, seed=0, scale=2, guide="reference")
    assert len(pairs.images[0]) == 3


def test_nothing_is_overwritten_unasked(photograph: Path, tmp_path: Path) -> None:
    before = photograph.read_bytes()
    result = degrade("derain", photograph, "-o", photograph, "--overwrite")
    assert result.exit_code == 1
    assert "never overwritten" in result.stderr
    assert photograph.read_bytes() == before
    (tmp_path / "set" / "gt").mkdir(parents=True)
    mine = tmp_path / "set" / "gt" / "a.png"
    mine.write_bytes(b"mine")
    result = degrade("derain", photograph, "-o", tmp_path / "set", "--pairs")
    assert result.exit_code == 1
    assert "--overwrite" in result.stderr
    assert mine.read_bytes() == b"mine"
    assert not (tmp_path / "set" / "input").exists()
    assert degrade("derain", photograph, "-o", tmp_path / "set", "--pairs", "--overwrite").exit_code == 0
    assert mine.read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("task", "settings", "says"),
    [
        ("nonsense", (), "no task 'nonsense': give a recipe (a name or a .toml file) or one of denoise, "),
        ("prior", (), "prior does nothing to an image"),
        ("derain", ("covr=[0,1]",), "derain has no setting 'covr'; it has layers, cover,"),
        ("derain", ("cover=[1e-3,1e-4]",), "error: cover must rise"),
        ("super-resolution-x4", ("scale=3",), "scale: Input should be 2 or 4"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    photograph: Path, tmp_path: Path, task: str, settings: tuple[str, ...], says: str
) -> None:
    words = [word for setting in settings for word in ("--set", setting)]
    result = degrade(task, photograph, "-o", tmp_path / "b.png", *words)
    assert result.exit_code == 1
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize("task", ["derain", "deblur", "dual-camera-x2", "super-resolution-x4", "raindrop", "missing"])
def test_small_images_are_degraded_or_refused_in_words(tmp_path: Path, task: str) -> None:
    for side, code, says in ((8, 0, "1 degraded"), (7, 1, "7 x 7 pixels is too small to degrade: 8 x 8 are needed")):
        Image.fromarray(np.full((side, side, 3), 90, np.uint8)).save(tmp_path / "small.png")
        result = degrade(task, tmp_path / "small.png", "-o", tmp_path / str(side) / "out.png")
        assert (result.exit_code, says in result.stderr) == (code, True), result.stderr


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    pixels = np.full((40, 40, 3), 0.5, np.float32)
    pixels[3, 3] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    result = degrade("dehaze", tmp_path / "a.tif", "-o", tmp_path / "b.tif")
    assert result.exit_code == 1
    assert "a.tif: the image holds values that are not finite" in result.stderr
    assert not (tmp_path / "b.tif").exists()


def test_one_image_that_cannot_be_read_does_not_stop_the_others(photograph: Path, tmp_path: Path) -> None:
    (photograph.parent / "0.png").write_bytes(b"no image")
    tifffile.imwrite(photograph.parent / "1.tif", np.zeros((3, 40, 40), np.uint8), photometric="minisblack")
    result = degrade("shadow", photograph.parent, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "1 degraded, 2 failed" in result.stderr
    assert "holds a stack" in result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "a_mask.png"}
