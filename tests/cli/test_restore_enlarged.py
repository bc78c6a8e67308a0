"""`restonnx restore` with a model that doubles the size: physical sizes, alpha and blends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tiny_model import tiny_model
from typer.testing import CliRunner, Result

from restonnx.cli import app


@pytest.fixture
def double(tmp_path: Path) -> Path:
    """Repeats every pixel and adds a little noise."""
    return tiny_model(tmp_path, name="double", scale=2, blur=False)


def restore(model: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["restore", *map(str, arguments), "--model", str(model), "--device", "cpu"])


def test_an_image_becomes_twice_as_large_with_its_alpha(tmp_path: Path, double: Path) -> None:
    pixels = np.random.default_rng(0).integers(60, 200, (40, 48, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    result = restore(double, tmp_path / "a.png", "-o", tmp_path / "b.png")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "b.png") as image:
        large = np.asarray(image)
    repeated = pixels.repeat(2, 0).repeat(2, 1)
    assert np.array_equal(large[..., 3], repeated[..., 3])
    assert np.abs(large.astype(int) - repeated).max() < 30


def test_a_tiff_is_as_wide_in_inches_as_before_and_so_is_its_deviation(tmp_path: Path, double: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 60000, (40, 48, 3), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, resolution=(300, 150), resolutionunit="INCH", photometric="rgb")
    result = restore(double, tmp_path / "a.tif", "-o", tmp_path / "out", "--samples", 2, "--std")
    assert result.exit_code == 0, result.output
    for name, dtype in (("a.tif", np.uint16), ("a_std.tif", np.float32)):
        with tifffile.TiffFile(tmp_path / "out" / name) as tiff:
            page = tiff.pages.first
            assert (page.shape, page.dtype) == ((80, 96, 3), dtype)
            assert (page.tags["XResolution"].value, page.tags["YResolution"].value) == ((600, 1), (300, 1))
            assert page.tags["ResolutionUnit"].value == 2


def test_an_imagej_stack_keeps_its_calibration(tmp_path: Path, double: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 4000, (3, 40, 48), dtype=np.uint16)
    metadata = {"spacing": 2.0, "unit": "um", "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, resolution=(5, 5), metadata=metadata)
    result = restore(double, tmp_path / "a.tif", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    with tifffile.TiffFile(tmp_path / "out" / "a.tif") as tiff:
        assert tiff.series[0].shape == (3, 80, 96)
        assert tiff.imagej_metadata is not None
        assert (tiff.imagej_metadata["unit"], tiff.imagej_metadata["spacing"]) == ("um", 2.0)
        assert tiff.pages.first.tags["XResolution"].value == (10, 1)


def test_an_ome_file_has_pixels_of_half_the_size(tmp_path: Path, double: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 4000, (3, 40, 48), dtype=np.uint16)
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata=metadata, photometric="minisblack")
    result = restore(double, tmp_path / "a.ome.tif", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    with tifffile.TiffFile(tmp_path / "out" / "a.ome.tif") as tiff:
        assert tiff.series[0].shape == (3, 80, 96)
        assert tiff.ome_metadata is not None
        for size in ('PhysicalSizeX="0.25"', 'PhysicalSizeY="0.125"', 'PhysicalSizeZ="2.0"', 'SizeX="96"'):
            assert size in tiff.ome_metadata


def test_a_blend_of_two_sizes_is_one_line(tmp_path: Path, double: Path) -> None:
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(tmp_path / "a.png")
    result = restore(double, tmp_path / "a.png", "-o", tmp_path / "b.png", "--strength", 0.5)
    assert result.exit_code == 1
    assert "a.png: strength must be 1, as double makes images 2 times as large" in result.stderr
    assert not (tmp_path / "b.png").exists()
