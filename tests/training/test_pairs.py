"""Users' own pairs: read at their depth, cropped at one place, and refused in one line where they do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from restonnx.errors import InputError
from restonnx.training import checkpoint as checkpoints
from restonnx.training.loop import train
from restonnx.training.pairs import Pairs, load_pairs


def image_of(shape: tuple[int, ...], dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="rgb" if pixels.shape[-1] == 3 else "minisblack")
    else:
        Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pairs of 8 bits; the degraded ones are the clean ones inverted."""
    for number, shape in enumerate([(40, 48, 3), (33, 36, 3)]):
        clean = image_of(shape, seed=number)
        save(tmp_path / "pairs" / "gt" / f"{number}.png", clean)
        save(tmp_path / "pairs" / "input" / f"{number}.png", 255 - clean)
    return tmp_path / "pairs"


def test_both_images_are_cropped_and_turned_alike(folder: Path) -> None:
    pairs = load_pairs(folder, channels=3, size=16, seed=0)
    for iteration in range(4):
        clean, degraded = pairs.batch(iteration, 6)
        assert clean.shape == degraded.shape == (6, 3, 16, 16)
        torch.testing.assert_close(degraded, 1 - clean)
        again = pairs.batch(iteration, 6)
        assert torch.equal(clean, again[0])
    assert not torch.equal(pairs.batch(0, 6)[0], pairs.batch(1, 6)[0])


def test_sixteen_bits_are_read_as_sixteen(tmp_path: Path) -> None:
    clean = image_of((20, 20, 3), np.uint16)
    save(tmp_path / "gt" / "a.tif", clean)
    save(tmp_path / "input" / "a.tif", clean // 2)
    pairs = load_pairs(tmp_path, channels=3, size=20, seed=0)
    found = pairs.batch(0, 1)[0]
    torch.testing.assert_close(found.mean(), torch.tensor(clean.mean() / 65535, dtype=torch.float32))
    levels = found * 65535
    torch.testing.assert_close(levels, levels.round(), atol=0.02, rtol=0)
    assert len(np.unique(levels.round().numpy())) > 1000


def test_a_smaller_input_is_cropped_at_the_same_place(tmp_path: Path) -> None:
    small = image_of((24, 20, 3))
    save(tmp_path / "input" / "a.png", small)
    save(tmp_path / "gt" / "a.png", small.repeat(2, 0).repeat(2, 1))
    save(tmp_path / "reference" / "a.png", 255 - small.repeat(2, 0).repeat(2, 1))
    clean, degraded, reference = load_pairs(tmp_path, channels=3, size=16, seed=0, scale=2, guide="reference").batch(
        0, 5
    )
    assert degraded.shape == (5, 3, 8, 8)
    torch.testing.assert_close(degraded.repeat_interleave(2, -1).repeat_interleave(2, -2), clean)
    torch.testing.assert_close(reference, 1 - clean)


def test_a_mask_is_read_as_what_is_known(tmp_path: Path) -> None:
    save(tmp_path / "gt" / "a.tif", np.full((20, 24, 3), 30000, np.uint16))
    save(tmp_path / "input" / "a.tif", np.full((20, 24, 3), 100, np.uint16))
    mask = np.zeros((20, 24), np.uint8)
    mask[:, 12:] = 7  # anything but 0
    save(tmp_path / "mask" / "a.png", mask)
    pairs = load_pairs(tmp_path, channels=3, size=16, seed=0, guide="mask")
    known = pairs.batch(0, 8)[2]
    assert known.shape == (8, 1, 16, 16)
    assert set(known.unique().tolist()) == {0.0, 1.0}
    assert np.array_equal(pairs.images[0][2][..., 0] == 0, mask > 0)


def test_subfolders_and_other_suffixes_are_partners_too(tmp_path: Path) -> None:
    save(tmp_path / "gt" / "b" / "a.tif", image_of((20, 20, 3)))
    save(tmp_path / "input" / "b" / "a.png", image_of((20, 20, 3)))
    assert len(load_pairs(tmp_path, channels=3, size=16, seed=0).images) == 1


@pytest.mark.parametrize(("channels", "shape"), [(1, (20, 20, 3)), (3, (20, 20))])
def test_grey_and_colour_are_what_the_recipe_has(tmp_path: Path, channels: int, shape: tuple[int, ...]) -> None:
    for name in ("gt", "input"):
        save(tmp_path / name / "a.png", image_of(shape))
    clean, _ = load_pairs(tmp_path, channels=channels, size=16, seed=0).batch(0, 2)
    assert clean.shape == (2, channels, 16, 16)
    assert 0 <= clean.min() < clean.max() <= 1


def broken(tmp_path: Path, what: str) -> Path:
    clean = image_of((40, 40, 3))
    save(tmp_path / "gt" / "a.png", clean)
    if what == "no partner":
        save(tmp_path / "gt" / "b.png", clean)
    if what == "no input":
        return tmp_path
    save(tmp_path / "input" / "a.png", clean[:, :38] if what == "size" else clean)
    if what == "depth":
        (tmp_path / "input" / "a.png").unlink()
        save(tmp_path / "input" / "a.tif", clean.astype(np.uint16))
    if what == "twice":
        save(tmp_path / "input" / "a.tif", clean)
    if what == "stack":
        for name in ("gt", "input"):
            (tmp_path / name / "a.png").unlink()
            save(tmp_path / name / "a.tif", image_of((4, 40, 40)))
    if what == "damaged":
        (tmp_path / "input" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("no partner", r"gt/b\.png has no partner: put a file named b into .*input"),
        ("no input", r"input is no folder: pairs are files of equal names"),
        ("size", r"input/a\.png has 38 x 40 pixels and .*gt/a\.png 40 x 40: the second must be as large"),
        ("depth", r"input/a\.tif holds 16 bits and .*gt/a\.png 8 bits: save both in one depth"),
        ("twice", r"differ by their suffix alone"),
        ("stack", r"gt/a\.tif holds a stack"),
        ("damaged", r"input/a\.png is damaged"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, what: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        load_pairs(broken(tmp_path, what), channels=3, size=16, seed=0)
    assert "\n" not in str(error.value)


def test_the_scale_and_the_crop_are_checked(folder: Path) -> None:
    with pytest.raises(InputError, match="the second must be 2 times as large"):
        load_pairs(folder, channels=3, size=16, seed=0, scale=2)
    with pytest.raises(InputError, match=r"gt/1\.png is smaller than training\.patch, 40 x 40"):
        load_pairs(folder, channels=3, size=40, seed=0)


def test_a_run_learns_from_pairs_and_goes_on_where_it_stopped(recipe: Path, folder: Path, tmp_path: Path) -> None:
    whole = train(recipe, pairs=folder, out=tmp_path / "whole", overrides=["training.iterations=4"], quiet=True)
    for _ in range(4):
        part = train(
            recipe, pairs=folder, out=tmp_path / "parts", overrides=["training.iterations=4"], minutes=0.0, quiet=True
        )
    a, b = checkpoints.load(whole), checkpoints.load(part)
    assert a.iteration == b.iteration == 4
    assert all(torch.equal(a.ema[name], b.ema[name]) for name in a.ema)


def test_photographs_or_pairs_are_given_and_not_both(recipe: Path, folder: Path, tmp_path: Path) -> None:
    for given in ({}, {"data": folder / "gt", "pairs": folder}):
        with pytest.raises(InputError, match="give either"):
            train(recipe, out=tmp_path / "run", quiet=True, **given)


def test_a_prior_learns_from_no_pairs(recipe: Path, folder: Path, tmp_path: Path) -> None:
    prior = ['network.kind="denoiser"', 'sampler={family="direct"}', 'degradation={kind="none"}']
    with pytest.raises(InputError, match="learns from clean photographs alone"):
        train(recipe, pairs=folder, out=tmp_path, overrides=[*prior, 'objective={kind="denoising"}'], quiet=True)


@pytest.mark.parametrize(
    ("factor", "message"), [(255, r"0\.tif holds values from .* so that black is 0"), (np.nan, "not finite")]
)
def test_floats_that_are_not_between_black_and_white_are_refused(tmp_path: Path, factor: float, message: str) -> None:
    clean = np.random.default_rng(0).random((20, 20, 3), np.float32)
    save(tmp_path / "gt" / "0.tif", clean)
    save(tmp_path / "input" / "0.tif", clean + 0.5)  # as noise may
    load_pairs(tmp_path, channels=3, size=16, seed=0)
    save(tmp_path / "input" / "0.tif", clean * np.float32(factor))
    with pytest.raises(InputError, match=message):
        load_pairs(tmp_path, channels=3, size=16, seed=0)


def test_crops_of_floats_are_taken_as_they_are() -> None:
    image = np.full((8, 8, 1), 0.25, np.float32)
    clean, _ = Pairs(((image, image),), 8, 1, 0).batch(0, 1)
    assert float(clean.mean()) == 0.25
