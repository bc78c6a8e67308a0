"""The file behind a layer: its EXIF and its colour profile are still there when the layer is saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin
from raw_files import BAYER, dng, numbers, with_exif

from restonnx import images
from restonnx.plugin import reader
from restonnx.plugin.origin import notes_of
from restonnx.plugin.writer import write_png, write_tiff

Drive = Callable[[Any], Any]
Models = Callable[..., str]
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ORIENTATION, ISO, SOFTWARE, EXIF_IFD = 274, 0x8827, 305, 0x8769


def jpeg(path: Path, pixels: np.ndarray, orientation: int = 1) -> Path:
    """As a camera writes it."""
    exif = Image.Exif()
    exif[271], exif[ORIENTATION] = "Testcam", orientation
    exif[EXIF_IFD] = {ISO: 1600, 0x829A: TiffImagePlugin.IFDRational(1, 30)}
    Image.fromarray(pixels).save(path, quality=95, exif=exif, icc_profile=PROFILE)
    return path


def read_back(exif: bytes | None) -> tuple[Any, ...]:
    """Make, orientation, ISO."""
    assert exif is not None
    found = Image.Exif()
    found.load(exif)
    return found.get(271), found.get(ORIENTATION, 1), found.get_ifd(EXIF_IFD).get(ISO)


def test_a_photograph_keeps_its_exif_and_profile_from_the_file_to_its_restored_copy(
    viewer: Any, drive: Drive, models: Models, photograph: np.ndarray, tmp_path: Path
) -> None:
    pytest.importorskip("pint", reason="pint comes with napari")
    path = jpeg(tmp_path / "photo.jpg", photograph, orientation=6)
    viewer.open(str(path))
    driver = drive(viewer)
    driver.choose(viewer.layers["photo"], models("tiny"))
    result = driver.restore()
    assert result.metadata["restonnx"]["file"] == str(path)
    assert result.data.shape == photograph.shape, "napari does not turn it, so it is still to be turned"
    for layer, name in ((result, "restored.tif"), (result, "restored.png"), (viewer.layers["photo"], "same.tif")):
        (saved,) = layer.save(str(tmp_path / name), plugin="restonnx")
        again = images.read(saved)
        assert read_back(again.exif) == ("Testcam", 6, 1600), name
        assert again.icc == PROFILE
        assert np.array_equal(again.pixels, layer.data)
    assert str(tmp_path).encode() not in (tmp_path / "restored.tif").read_bytes(), "folders are the user's own affair"
    assert b"photo.jpg" in (tmp_path / "restored.tif").read_bytes()
    path.unlink()
    (saved,) = result.save(str(tmp_path / "later.tif"), plugin="restonnx")
    assert images.read(saved).exif is None


def test_a_duplicated_layer_is_restored_and_saved_with_the_notes_of_its_file(
    viewer: Any, drive: Drive, models: Models, photograph: np.ndarray, tmp_path: Path
) -> None:
    from napari.layers._layer_actions import _duplicate_layer

    viewer.open(str(jpeg(tmp_path / "photo.jpg", photograph)))
    for _ in range(2):  # the second time the duplicate itself
        viewer.layers.selection = {viewer.layers[-1]}
        _duplicate_layer(viewer.layers)
    driver, copy = drive(viewer), viewer.layers[-1]
    (saved,) = copy.save(str(tmp_path / "same.tif"), plugin="restonnx")
    assert read_back(images.read(saved).exif) == ("Testcam", 1, 1600)
    driver.choose(copy, models("tiny"))
    assert driver.restore().metadata["restonnx"]["file"] == str(tmp_path / "photo.jpg")


@pytest.mark.parametrize(("suffix", "write"), [("tif", write_tiff), ("png", write_png)])
def test_a_developed_raw_file_stands_upright_and_knows_its_camera(tmp_path: Path, suffix: str, write: Any) -> None:
    pytest.importorskip("pint", reason="pint comes with napari")
    path = with_exif(dng(tmp_path / "a.dng", numbers(), BAYER["GRBG"], orientation=6))
    pixels, about, _ = reader.developed(str(path))
    (saved,) = write(str(tmp_path / f"b.{suffix}"), pixels, {"name": "a", "multiscale": False, **about})
    again = images.read(saved)
    assert np.array_equal(again.pixels, pixels)
    assert read_back(again.exif)[1:] == (1, 800)
    assert str(tmp_path).encode() not in Path(saved).read_bytes()


def test_what_was_turned_since_is_not_to_be_turned_again(tmp_path: Path, photograph: np.ndarray) -> None:
    path = str(jpeg(tmp_path / "a.jpg", photograph, orientation=6))
    rows, columns = photograph.shape[:2]
    for shape, orientation in (((rows, columns), 6), ((4 * rows, 4 * columns), 6), ((2 * columns, 2 * rows), 1)):
        exif, icc = notes_of(path, shape, rgb=True)
        assert read_back(exif) == ("Testcam", orientation, 1600)
        assert icc == PROFILE


def test_a_profile_of_colours_is_none_for_grey_and_a_file_without_notes_has_none(tmp_path: Path) -> None:
    grey = np.zeros((20, 30), np.uint8)
    exif, icc = notes_of(str(jpeg(tmp_path / "a.jpg", grey)), (20, 30), rgb=False)
    assert exif is not None
    assert icc is None
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff but no more")
    Image.fromarray(grey).save(tmp_path / "bare.png")
    for name in ("broken.jpg", "bare.png", "gone.jpg", "noise.nef", ""):
        (tmp_path / "noise.nef").write_bytes(b"no camera wrote this")
        assert notes_of(str(tmp_path / name) if name else "", (20, 30), rgb=False) == (None, None)
